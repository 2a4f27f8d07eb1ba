"""The same random weights in our detector and in transformers' model, and both run on the same images."""

import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from condetr.backbones.resnet import ResNetConfig
from condetr.data.transforms import PaperTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detector import Detector
from condetr.detectors.detr import DetrConfig
from condetr.detectors.registry import DetectorConfig
from condetr.inference.model_folder import LoadedModel
from condetr.interop.classes import coco_classes, unnamed_classes
from condetr.interop.original import copies_of, from_original, to_original, without_copies
from condetr.interop.transformers_config import transformers_model
from condetr.interop.transformers_folder import write_transformers
from condetr.interop.transformers_names import from_transformers, to_version_4
from condetr.layers.heads import inverse_sigmoid
from condetr.shapes import DetectorOutput, Prediction, PredictionSet, Targets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other people's modules warn of when they are imported
    import timm  # noqa: F401 - transformers builds its backbones with it
    import transformers

hf: Any = transformers
"""The peer; its types are not ours to check."""

hf.utils.logging.disable_progress_bar()

Kind = Literal["conditional_detr", "detr"]
Depth = Literal[18, 34, 50, 101]


class Peers(NamedTuple):
    """One model in two libraries."""

    ours: Detector
    theirs: nn.Module
    config: DetectorConfig


class Inputs(NamedTuple):
    """Two images of unlike size in one batch."""

    images: Tensor
    is_padding: Tensor


def detector_config(kind: Kind, *, depth: Depth = 50, dilation: bool = False, **changes: Any) -> DetectorConfig:  # noqa: ANN401
    backbone = ResNetConfig(depth=depth, dilation=dilation)
    config = ConditionalDetrConfig if kind == "conditional_detr" else DetrConfig
    return config(backbone=backbone, dropout=0.0, **changes)


def small_config(kind: Kind, *, layers: int = 2) -> DetectorConfig:
    """Return a detector small enough for many steps."""
    return detector_config(
        kind,
        depth=18,
        num_queries=12,
        dim=32,
        num_heads=4,
        feedforward_dim=64,
        encoder_layers=layers,
        decoder_layers=layers,
    )


def random_model(config: DetectorConfig, *, num_class_rows: int = 91, seed: int = 0) -> LoadedModel:
    """Return a detector whose every tensor is random, with outputs that vary as a trained one's do."""
    detector = config.build(num_classes=num_class_rows, pretrained=False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in detector.state_dict().items():
            _draw(name, tensor, generator=generator)
    classes = coco_classes() if num_class_rows == 91 else unnamed_classes(num_class_rows)
    return LoadedModel(detector, config, PaperTransformConfig(), classes)


def fresh_model(config: DetectorConfig, *, num_class_rows: int, seed: int = 0) -> LoadedModel:
    """Return a detector as it is before its first training step."""
    torch.manual_seed(seed)
    detector = config.build(num_classes=num_class_rows, pretrained=False).eval()
    return LoadedModel(detector, config, PaperTransformConfig(), unnamed_classes(num_class_rows))


def make_peers(folder: Path, model: LoadedModel) -> Peers:
    """Give transformers a detector through a folder that we write and it loads by itself."""
    transformers_folder(folder, model)
    theirs = hf.AutoModelForObjectDetection.from_pretrained(folder, local_files_only=True).eval()
    freeze_stem(theirs)
    return Peers(model.detector, theirs, model.detector_config)


def their_random_model(kind: Kind, **settings: Any) -> Any:  # noqa: ANN401 - a model of transformers
    """Return a small model that transformers made by itself, with random weights."""
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    sizes |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 12}
    torch.manual_seed(0)
    if kind == "detr":
        model = hf.DetrForObjectDetection(hf.DetrConfig(**{"backbone": "resnet18", **sizes, **settings}))
    else:
        model = hf.ConditionalDetrForObjectDetection(
            hf.ConditionalDetrConfig(**{"backbone": "resnet18", **sizes, **settings})
        )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def transformers_folder(folder: Path, model: LoadedModel) -> Path:
    """Write the files that transformers loads."""
    write_transformers(folder, model)
    return folder


def freeze_stem(model: nn.Module) -> None:
    """Exclude conv1 and layer1 from training as the papers do; transformers with timm freezes nothing."""
    for name, parameter in model.get_submodule("model.backbone").named_parameters():
        if not any(stage in name for stage in ("layer2", "layer3", "layer4")):
            parameter.requires_grad_(False)


def inputs(*, sizes_hw: Sequence[tuple[int, int]] = ((160, 224), (208, 130)), seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(sides) for sides in zip(*sizes_hw, strict=True))
    images = torch.zeros(len(sizes_hw), 3, height, width)
    is_padding = torch.ones(len(sizes_hw), height, width, dtype=torch.bool)
    for image, padding, (h, w) in zip(images, is_padding, sizes_hw, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w, generator=generator)
        padding[:h, :w] = False
    return Inputs(images, is_padding)


def targets(counts: Sequence[int], *, num_classes: int, seed: int = 0) -> Targets:
    """Return random targets, so many for each image; every box lies inside its image."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    made = []
    for count in counts:
        sizes = 0.05 + 0.4 * torch.rand(count, 2, generator=generator)
        centres = sizes / 2 + (1 - sizes) * torch.rand(count, 2, generator=generator)
        labels = torch.tensor([rng.randrange(num_classes) for _ in range(count)], dtype=torch.int64)
        made.append((labels, torch.cat([centres, sizes], dim=1)))
    return Targets.of(made)


def their_targets(ours: Targets) -> list[dict[str, Tensor]]:
    each = zip(ours.labels, ours.boxes_cxcywh, ours.counts, strict=True)
    return [{"class_labels": labels[:count], "boxes": boxes[:count]} for labels, boxes, count in each]


def their_output(model: nn.Module, batch: Inputs) -> DetectorOutput:
    """Run transformers' model and predict from every decoder layer.

    Its own `auxiliary_loss=True` would change the forward pass, so the layers' outputs are collected by hooks, and go
    through its norm and its heads here.
    """
    states: list[Tensor] = []
    decoder = model.get_submodule("model.decoder")
    hooks = [layer.register_forward_hook(_keep_in(states)) for layer in decoder.get_submodule("layers").children()]
    output = model(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    for hook in hooks:
        hook.remove()
    layers = [_their_heads(model, decoder.get_submodule("layernorm")(state)) for state in states]
    torch.testing.assert_close(layers[-1], Prediction(output.logits, output.pred_boxes))
    return DetectorOutput(tuple(PredictionSet(f"layer{index}", each) for index, each in enumerate(layers)))


def their_gradients(peers: Peers) -> dict[str, Tensor]:
    """Return the gradients of transformers' parameters under our names."""
    theirs = transformers_model(peers.config)
    named = {
        to_version_4(name, theirs=theirs): parameter.grad
        for name, parameter in peers.theirs.named_parameters()
        if parameter.grad is not None
    }
    trained = {name: parameter for name, parameter in peers.ours.named_parameters() if parameter.requires_grad}
    copies = copies_of(to_original(trained, peers.config), peers.config)
    official = without_copies(from_transformers(named, theirs=theirs), copies, source="transformers")
    assert len(official) == len(trained)
    return from_original(official, blank=trained, config=peers.config)


def _draw(name: str, tensor: Tensor, *, generator: torch.Generator) -> None:
    if not tensor.is_floating_point():
        return
    if "running_var" in name or (tensor.dim() == 1 and name.endswith("weight")):
        tensor.uniform_(0.5, 1.0, generator=generator)
    elif tensor.dim() > 1:
        tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    else:
        tensor.normal_(0, 0.1, generator=generator)


def _keep_in(states: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(layer: nn.Module, arguments: Any, output: Any) -> None:  # noqa: ANN401 - what torch hands to hooks
        states.append(output[0] if isinstance(output, tuple) else output)

    return keep


def _their_heads(model: nn.Module, state: Tensor) -> Prediction:
    logits, offsets = (model.get_submodule(head)(state) for head in ("class_labels_classifier", "bbox_predictor"))
    if isinstance(model, hf.ConditionalDetrForObjectDetection):
        queries = model.get_submodule("model.query_position_embeddings").weight
        reference_xy = model.get_submodule("model.decoder.ref_point_head")(queries).sigmoid()
        offsets = torch.cat([offsets[..., :2] + inverse_sigmoid(reference_xy), offsets[..., 2:]], dim=-1)
    return Prediction(logits, offsets.sigmoid())
