"""From which weights to train: those of a whole detector, those of a backbone, or fresh ones; what is at hand."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

FEW = 2000
"""Training images below which a detector that was trained on COCO is the better start."""
COCO = "microsoft/conditional-detr-resnet-50"
_BACKBONE = "timm/mobilenetv2_100.ra_in1k"
_LOCAL = "mobilenetv2_100.safetensors"
_WAIT = 3.0  # seconds for the hub to answer

_STEPS, _BATCH = 3000, 16  # of the recipe for drawn scenes
_LITTLE, _LEAST_EPOCHS = 1000, 20  # images

Reach = Callable[[str], bool]
"""Tells whether a model of the hub can be had."""


class Option(NamedTuple):
    """A setting that differs from the recipe's."""

    value: str
    reason: str


class Start(NamedTuple):
    """A recipe and the weights that it begins with."""

    recipe: str
    options: Mapping[str, Option]
    """By their paths."""
    reason: str


def choose_start(num_images: int, *, reach: Reach | None = None, folder: Path = Path()) -> Start:
    """Return the best start for so many images: weights come from the hub, its cache here, or `folder`.

    On 60 images, fresh weights ended at AP 0 after 40 epochs; a backbone from ImageNet brought 160 images of one class
    to AP50 0.91 in 35 minutes on two cores.
    """
    reach = reach or can_be_had
    if num_images < FEW and reach(COCO):
        why = f"{num_images:,} images are few: a detector that knows COCO needs the fewest of them"
        return Start("conditional_detr_r50_50e", {"init_from": Option(COCO, "trained on COCO")}, why)
    if not has_timm():
        why = _why_fresh(num_images, lack="the library timm is not here (pip install 'condetr[timm]')")
        return Start("conditional_detr_tiny", _fresh(num_images), why)
    if (folder / _LOCAL).is_file():
        why = f"the backbone begins with the ImageNet weights in {_LOCAL}"
        return Start(
            "conditional_detr_mobilenet",
            {"detector.backbone.weights": Option(str(folder / _LOCAL), "on ImageNet")},
            why,
        )
    if reach(_BACKBONE):
        why = "its backbone begins with ImageNet weights from the hub"
        return Start("conditional_detr_mobilenet", _shorter(num_images), why)
    why = _why_fresh(num_images, lack="no pretrained ones are here and the hub cannot be reached")
    return Start("conditional_detr_tiny", _fresh(num_images), why)


def has_timm() -> bool:
    """Tell whether the library of most backbones is installed."""
    try:
        return find_spec("timm") is not None
    except ValueError:  # it is hidden
        return False


def can_be_had(hub_id: str) -> bool:
    """Tell whether a model is in the hub's cache here, or the hub answers within seconds."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    name = "model.safetensors"
    if isinstance(try_to_load_from_cache(hub_id, name), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
        get_hf_file_metadata(hf_hub_url(hub_id, name, endpoint=endpoint), timeout=_WAIT)
    except Exception:
        return False
    return True


def _shorter(num_images: int) -> dict[str, Option]:
    """Return fewer epochs where there are many more images than the recipe for little data was made for."""
    if num_images <= _LITTLE:
        return {}
    epochs = max(_LEAST_EPOCHS, 150 * _LITTLE // num_images)
    return _epochs(epochs, f"instead of 150, as there are more than {_LITTLE:,} images")


def _epochs(epochs: int, reason: str) -> dict[str, Option]:
    return {
        "epochs": Option(str(epochs), reason),
        "schedule.drop_epoch": Option(str(max(1, 5 * epochs // 6)), "the learning rate drops for the last sixth"),
        "evaluate_every": Option(str(max(1, epochs // 12)), "a dozen evaluations"),
    }


def _fresh(num_images: int) -> dict[str, Option]:
    """Return what suits photographs in the tiny recipe, which was made for drawn scenes."""
    epochs = max(6, min(500, -(-_STEPS * _BATCH // max(1, num_images))))
    return {
        "data.transform.size_hw": Option("[256,256]", "photographs are larger than the drawn scenes of the recipe"),
        "data.transform.vertical_flip": Option("0", "photographs are seldom upside down"),
        **_epochs(epochs, f"fresh weights need about {_STEPS:,} steps"),
    }


def _why_fresh(num_images: int, *, lack: str) -> str:
    few = "; so few images teach little from nothing" if num_images < FEW else ""
    return (
        f"fresh weights, as {lack}{few}. Better, where there is a connection: --init-from {COCO} with the recipe "
        f"conditional_detr_r50_50e, or the recipe conditional_detr_mobilenet; where only pip has a connection, "
        f"`condetr weights mobilenetv2`, which writes {_LOCAL}"
    )
