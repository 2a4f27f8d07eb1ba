"""Reference values of the authors' code of TSP-FCOS and TSP-RCNN, and our detectors with their weights.

They are in `CONDETR_TSP_REFERENCE`, by default in `shared/data/tsp` beside the repository; tests that need them are
skipped where there are none.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from condetr.backbones.resnet import ResNet, ResNetConfig
from condetr.config import settings
from condetr.data.batch import Batch, collate_images
from condetr.detectors.detector import Detector, DetectorSettings
from condetr.detectors.published import Detectron2Model
from condetr.inference.model_folder import blank_state
from condetr.interop.detectron2_file import FIRST_CONVOLUTION, for_our_images, names_of
from condetr.shapes import Targets

REFERENCE = Path(os.environ.get("CONDETR_TSP_REFERENCE", Path(__file__).parents[3] / "shared" / "data" / "tsp"))
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference values in {REFERENCE}")

near = partial(torch.testing.assert_close, atol=1e-4, rtol=0)
roughly_near = partial(torch.testing.assert_close, atol=1e-3, rtol=0)
"""Of a batch norm of two cells, which amplifies rounding."""
same_loss = partial(torch.testing.assert_close, atol=0, rtol=1e-5)


def values(detector: str, name: str) -> dict[str, Tensor]:
    """Return recorded tensors; what is the same in training is only in `eval`."""
    recorded = load_file(REFERENCE / detector / "eval.safetensors")
    return recorded | load_file(REFERENCE / detector / f"{name}.safetensors")


def facts(detector: str) -> dict[str, Any]:
    """Return recorded numbers."""
    found: dict[str, Any] = json.loads((REFERENCE / detector / "reference.json").read_text())
    return found


@settings
class NarrowResNet(ResNetConfig):
    """A ResNet-50 with the widths of its weights, and with these."""

    body: dict[str, Tensor]

    def build(self, *, pretrained: bool, levels: int = 1) -> ResNet:
        backbone = ResNetConfig(stride_in_1x1=True).build(pretrained=False, levels=levels)
        state = backbone.body.state_dict(keep_vars=True)
        for name, tensor in self.body.items():
            parent, _, leaf = name.rpartition(".")
            is_parameter = isinstance(state[name], nn.Parameter)
            new = nn.Parameter(tensor, requires_grad=state[name].requires_grad) if is_parameter else tensor
            setattr(backbone.body.get_submodule(parent), leaf, new)
        backbone.channels = tuple(len(self.body[f"layer{stage}.0.conv3.weight"]) for stage in range(1, 5))[-levels:]
        return backbone


def with_their_weights(kind: type[DetectorSettings], *, model: Detectron2Model, folder: str, **sizes: Any) -> Detector:  # noqa: ANN401
    """Return our detector with the recorded weights, no dropout in it."""
    theirs = load_file(REFERENCE / folder / "weights.safetensors")
    images = theirs.pop("pixel_mean"), theirs.pop("pixel_std")
    theirs[FIRST_CONVOLUTION] = for_our_images(theirs[FIRST_CONVOLUTION], *images, source="reference")
    config: Any = kind
    prefix = "pyramid.backbone.body."
    names = names_of(blank_state(config(), num_class_rows=1), model=model)
    body = {name.removeprefix(prefix): theirs[names[name]] for name in names if name.startswith(prefix)}
    detector: Detector = config(backbone=NarrowResNet(body=body), dropout=0.0, **sizes).build(num_classes=5)
    names = names_of(detector.state_dict(), model=model)
    assert set(names.values()) == set(theirs)
    detector.load_state_dict({name: theirs[their_name] for name, their_name in names.items()})
    return detector


def batch_of(recorded: dict[str, Tensor]) -> Batch:
    """Return the two images, which are recorded in BGR."""
    images = [recorded[f"image{index}"].flip(0).contiguous() for index in range(2)]
    return collate_images(images, original_sizes_hw=[(image.shape[1], image.shape[2]) for image in images])


def targets_of(recorded: dict[str, Tensor], *, of_images: tuple[int, ...] = (0, 1)) -> Targets:
    """Return the recorded targets, of some of the images."""
    images = []
    for index in range(2):
        height, width = recorded[f"image{index}"].shape[1:]
        boxes_xyxy = recorded[f"gt.boxes{index}"] / torch.tensor([width, height, width, height])
        boxes_cxcywh = torch.cat(
            [(boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], dim=1
        )
        count = len(boxes_cxcywh) if index in of_images else 0
        images.append((recorded[f"gt.classes{index}"][:count], boxes_cxcywh[:count]))
    return Targets.of(images)
