"""A training step of Conditional DETR-R50: forward, matching, losses, backward, clipping, AdamW."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.speed.report import Table
from benchmarks.speed.timing import PRECISIONS, alternate
from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.engine.config import TrainConfig
from condetr.optimize.norms import merge_frozen_norms
from condetr.optimize.training import speed_up_training
from condetr.shapes import Targets
from tests.parity.peers import freeze_stem, fresh_model, hf, make_peers, targets, their_targets

NUM_CLASSES = 91
R50 = TrainConfig(detector=ConditionalDetrConfig())
DC5_R50 = TrainConfig(detector=ConditionalDetrConfig(backbone=ResNetConfig(dilation=True)))
DROPOUTS = {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1}
"""The paper's dropout, at all places where transformers has a setting; by default it only has dropout at one."""


class Inputs(NamedTuple):
    """A batch without padding."""

    images: Tensor
    is_padding: Tensor
    targets: Targets

    def to(self, device: str) -> "Inputs":
        """Return the batch on a device."""
        labels, boxes_cxcywh, counts = self.targets
        targets = Targets(labels.to(device), boxes_cxcywh.to(device), counts)
        return Inputs(self.images.to(device), self.is_padding.to(device), targets)


def measure(*, quick: bool) -> Table:
    """Time steps in fp32, and with bf16 autocast if the processor supports it natively, in both libraries."""
    batch = make_inputs(images=2, size_hw=(256, 320) if quick else (800, 1066))
    with tempfile.TemporaryDirectory() as folder:
        theirs = {name: their_step(Path(folder) / name, batch, bf16=name == "bf16") for name in PRECISIONS}
        ours = {name: our_step(batch, bf16=name == "bf16") for name in PRECISIONS}
        steps = {f"transformers {name}": step for name, step in theirs.items()}
        steps |= {f"ours {name}": step for name, step in ours.items()}
        seconds = alternate(steps, rounds=1 if quick else 5)
    reference = seconds["transformers fp32"]
    height, width = batch.images.shape[2:]
    return Table(
        name="training",
        title=f"Training step, Conditional DETR-R50, 2 images of {height} x {width}, 7 boxes each",
        columns=("", "ms", "times as fast as transformers fp32"),
        rows=[(name, 1e3 * value, reference / value) for name, value in seconds.items()],
        headline={
            f"{name} over transformers {peer}": seconds[f"transformers {peer}"] / seconds[f"ours {name}"]
            for name in PRECISIONS
            for peer in dict.fromkeys(("fp32", name))
        },
        notes=["same architecture, dropout 0.1 everywhere, auxiliary losses, stem and first stage not trained"],
    )


def make_inputs(*, images: int, size_hw: tuple[int, int], boxes: int = 7) -> Inputs:
    """Return random images with so many boxes each."""
    torch.manual_seed(0)
    is_padding = torch.zeros(images, *size_hw, dtype=torch.bool)
    return Inputs(torch.randn(images, 3, *size_hw), is_padding, targets([boxes] * images, num_classes=NUM_CLASSES))


def our_step(batch: Inputs, *, bf16: bool, config: TrainConfig = R50) -> Callable[[], None]:
    """Return a step as the training loop makes it, on the batch's device."""
    detector = config.detector.build(num_classes=NUM_CLASSES, pretrained=False).train()
    detector = detector.to(memory_format=torch.channels_last).to(batch.images.device)
    if config.compile:
        merge_frozen_norms(detector)
        detector.compile()
    else:
        speed_up_training(detector)
    criterion = config.detector.build_criterion()
    num_boxes = float(sum(batch.targets.counts))

    def loss() -> Tensor:
        output = detector(batch.images, batch.is_padding)
        total: Tensor = criterion(output, batch.targets, num_boxes=num_boxes)["loss"]
        return total

    return _step(detector, loss, config.optimizer.build(detector), bf16=bf16)


def their_step(folder: Path, batch: Inputs, *, bf16: bool, config: TrainConfig = R50) -> Callable[[], None]:
    """Return transformers' step as its Trainer makes it: AdamW by torch's defaults, the norm clipped."""
    made = fresh_model(config.detector, num_class_rows=NUM_CLASSES)
    folder.mkdir(exist_ok=True)
    make_peers(folder, made)
    model: Any = hf.AutoModelForObjectDetection.from_pretrained(folder, auxiliary_loss=True, **DROPOUTS).train()
    model = model.to(batch.images.device)
    freeze_stem(model)
    labels, mask = their_targets(batch.targets), (~batch.is_padding).long()

    def loss() -> Tensor:
        result: Tensor = model(pixel_values=batch.images, pixel_mask=mask, labels=labels).loss
        return result

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return _step(model, loss, torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-4), bf16=bf16)


def _step(
    model: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, *, bf16: bool
) -> Callable[[], None]:
    device = next(model.parameters()).device.type

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()

    return step
