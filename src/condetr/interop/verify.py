"""Proof that a converted model is the same function: both sides run on the same images."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from condetr.data.batch import Sample, collate
from condetr.interop.loading import Source, read
from condetr.shapes import DetectorOutput, Prediction

IMAGE_SIZES_HW = ((160, 224), (208, 130))
"""Two images of unlike shape, so that padding takes part."""

TOLERANCE = 1e-3
"""Conversions that are right differ by about 1e-5 in logits, from the order of float32 sums."""

Forward = Callable[[Float[Tensor, "B 3 H W"], Bool[Tensor, "B H W"]], Prediction]


class Runner(NamedTuple):
    """A model in the hands of a library."""

    library: str
    forward: Forward


class Difference(NamedTuple):
    """How far two models are apart on random images."""

    libraries: tuple[str, str]
    logits: float
    boxes: float

    @property
    def is_small(self) -> bool:
        """Whether it may be rounding."""
        return max(self.logits, self.boxes) < TOLERANCE


def measure_difference(source: Source, destination: Source) -> Difference:
    """Return the largest differences of logits and relative boxes between two models.

    Folders of transformers are run by that library if it is installed, everything else by condetr after reading it
    back from the disk.
    """
    runners = _runner(source), _runner(destination)
    images, is_padding = _random_images()
    with torch.inference_mode():
        first, second = (runner.forward(images, is_padding) for runner in runners)
    return Difference(
        libraries=(runners[0].library, runners[1].library),
        logits=float((first.logits - second.logits).abs().max()),
        boxes=float((first.boxes_cxcywh - second.boxes_cxcywh).abs().max()),
    )


def _runner(source: Source) -> Runner:
    if source.format == "transformers":
        try:
            return Runner(f"transformers {version('transformers')}", _transformers_forward(source))
        except (ImportError, PackageNotFoundError):  # transformers itself, or timm behind it
            pass
    return Runner("condetr", _our_forward(source))


def _our_forward(source: Source) -> Forward:
    detector = read(source).detector

    def forward(images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> Prediction:
        output: DetectorOutput = detector(images, is_padding)
        return output.final

    return forward


def _transformers_forward(source: Source) -> Forward:
    from transformers import AutoModelForObjectDetection
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModelForObjectDetection.from_pretrained(source.path, local_files_only=True).eval()

    def forward(images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> Prediction:
        output = model(pixel_values=images, pixel_mask=(~is_padding).long())
        return Prediction(output.logits, output.pred_boxes)

    return forward


def _random_images() -> tuple[Float[Tensor, "B 3 H W"], Bool[Tensor, "B H W"]]:
    generator = torch.Generator().manual_seed(0)
    batch = collate(
        [
            Sample(
                image=torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=generator),
                boxes_xyxy=torch.zeros(0, 4),
                labels=torch.zeros(0, dtype=torch.int64),
                image_id=image_id,
                original_size_hw=size_hw,
            )
            for image_id, size_hw in enumerate(IMAGE_SIZES_HW)
        ]
    )
    return batch.images, batch.is_padding
