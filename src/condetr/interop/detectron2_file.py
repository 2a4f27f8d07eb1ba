"""Checkpoints of detectors that their authors built on detectron2: a .pth with a state under `model`, which is read.

Their images are BGR from 0 to 255 less a mean, ours RGB of unit variance less the same mean. So the first convolution
reads its channels the other way round, and each of them scaled.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from condetr.backbones.resnet import ResNetConfig
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.data.transforms import PaperTransformConfig
from condetr.detectors.published import Detectron2Model, Renames, original_name
from condetr.detectors.registry import DETECTRON2, DetectorConfig
from condetr.errors import InputError
from condetr.inference.fit import require_fit
from condetr.inference.model_folder import LoadedModel, blank_state, filled_detector
from condetr.interop.classes import COCO_NAMES, classes_of_map, coco_classes, unnamed_classes
from condetr.labels import LabelMap

PIXEL_MEAN, PIXEL_STD = "pixel_mean", "pixel_std"
FIRST_CONVOLUTION = "backbone.bottom_up.stem.conv1.weight"
BLOCKS_OF_RES4 = {6: 50, 23: 101}
"""Their number, and the depth of the ResNet that has so many."""
LAST_STAGE = 5


def is_detectron2_state(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are the tensors of such a detector."""
    return _recognised(state) is not None


def read_detectron2(state: Mapping[str, Tensor], *, source: str, label_map: LabelMap | None = None) -> LoadedModel:
    """Read a detector's state; raises InputError, or MisfitError with every tensor that does not fit.

    It says nothing about classes: `label_map` does, or 80 are taken for COCO's, and others are named by their number.
    """
    found = _recognised(state)
    assert found is not None
    kind, model = found
    try:
        config = kind(backbone=_backbone(state, source=source), **model.read(state))
        num_rows = len(state[model.class_head]) - model.rest_rows
        images = state[PIXEL_MEAN], state[PIXEL_STD]
    except KeyError as error:
        raise InputError(f"{source} has no {error.args[0]}, as every {model.title} has; it is incomplete") from None
    state = {name: tensor for name, tensor in state.items() if name not in (PIXEL_MEAN, PIXEL_STD)}
    blank = blank_state(config, num_class_rows=num_rows)
    names = names_of(blank, model=model)
    expected = {their_name: blank[name] for name, their_name in names.items()}
    require_fit(state, expected=expected, source=f"{source} is no {model.title}")
    adapted = {FIRST_CONVOLUTION: for_our_images(state[FIRST_CONVOLUTION], *images, source=source)}
    tensors = {name: (state | adapted)[their_name] for name, their_name in names.items()}
    detector = filled_detector(config, tensors, num_class_rows=num_rows)
    return LoadedModel(detector, config, PaperTransformConfig(), _classes(label_map, num_rows=num_rows, source=source))


def names_of(tensors: Mapping[str, Tensor], *, model: Detectron2Model) -> dict[str, str]:
    """Return detectron2's names of a detector's tensors."""
    levels = len({name for name in tensors if ".fpn.inner_blocks." in name and name.endswith(".weight")})
    renames = (*model.names, *_backbone_names(levels))
    return {name: original_name(name, renames) for name in tensors}


def for_our_images(
    weight: Float[Tensor, "D 3 _ _"], mean_bgr: Float[Tensor, "3 1 1"], std_bgr: Float[Tensor, "3 1 1"], *, source: str
) -> Float[Tensor, "D 3 _ _"]:
    """Return a first convolution's weights for our images; raises InputError for images with another mean."""
    known = 255 * torch.tensor(IMAGENET_MEAN)
    if not torch.allclose(mean_bgr.flatten().flip(0), known, atol=1e-2):
        raise InputError(f"{source} is for images less {mean_bgr.flatten().tolist()}, not less {known.tolist()} in BGR")
    scale = 255 * torch.tensor(IMAGENET_STD) / std_bgr.flatten().flip(0)
    return weight.flip(1) * scale[:, None, None]


def _recognised(state: Mapping[str, Tensor]) -> tuple[type[DetectorConfig], Detectron2Model] | None:
    return next(((kind, model) for kind, model in DETECTRON2.items() if model.mark in state), None)


def _backbone(state: Mapping[str, Tensor], *, source: str) -> ResNetConfig:
    marks = (f"backbone.bottom_up.res4.{block}.conv1.weight" for block in range(max(BLOCKS_OF_RES4) + 1))
    blocks = sum(mark in state for mark in marks)
    if blocks not in BLOCKS_OF_RES4:
        depths = " or ".join(map(str, BLOCKS_OF_RES4.values()))
        raise InputError(f"{source} has a res4 of {blocks} blocks, which is no ResNet of depth {depths}")
    return ResNetConfig(depth=BLOCKS_OF_RES4[blocks], stride_in_1x1=True)  # type: ignore[arg-type]


def _backbone_names(levels: int) -> Renames:
    """Return the names of ResNet and pyramid; P3 stands on the stage `res3`."""
    first = LAST_STAGE + 1 - levels
    return (
        (r"^pyramid\.backbone\.body\.(conv1|bn1)\.", r"backbone.bottom_up.stem.\1."),
        *((rf"^pyramid\.backbone\.body\.layer{n}\.", f"backbone.bottom_up.res{n + 1}.") for n in range(1, LAST_STAGE)),
        *((rf"^pyramid\.fpn\.inner_blocks\.{n}\.0\.", f"backbone.fpn_lateral{first + n}.") for n in range(levels)),
        *((rf"^pyramid\.fpn\.layer_blocks\.{n}\.0\.", f"backbone.fpn_output{first + n}.") for n in range(levels)),
        (r"^pyramid\.fpn\.extra_blocks\.", "backbone.top_block."),
        (r"^(backbone\.bottom_up\..*)\.bn(\d)\.", r"\1.conv\2.norm."),
        (r"\.downsample\.0\.", ".shortcut."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
    )


def _classes(label_map: LabelMap | None, *, num_rows: int, source: str) -> LabelMap:
    if label_map is not None:
        return classes_of_map(label_map, num_rows=num_rows, source=source)
    return coco_classes().without_rows() if num_rows == len(COCO_NAMES) else unnamed_classes(num_rows)
