"""Verify a conversion: run both models on the same images and compare."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from condetr.data.batch import Batch, collate_images
from condetr.errors import RunError, first_line
from condetr.exports.files import read_graph
from condetr.inference.model_folder import LoadedModel
from condetr.interop.loading import Source, read
from condetr.labels import LabelMap
from condetr.shapes import Prediction

IMAGE_SIZES_HW = ((160, 224), (208, 130))
"""Two images of different shape, so that there is padding."""

TOLERANCE = 1e-3
"""Correct conversions differ by about 1e-5 in logits, because of the order of float32 sums."""

Forward = Callable[[Batch], Prediction]


class Runner(NamedTuple):
    """A model and the library that runs it."""

    library: str
    forward: Forward


class Difference(NamedTuple):
    """The differences of two models on random images."""

    libraries: tuple[str, str]
    logits: float
    boxes: float

    @property
    def is_small(self) -> bool:
        """True if the differences may be due to rounding."""
        return max(self.logits, self.boxes) < TOLERANCE


def measure_difference(source: Source, destination: Source, *, label_map: LabelMap | None = None) -> Difference:
    """Return the largest differences of logits and relative boxes between two models.

    Folders of transformers are run by that library if it is installed, all others by condetr after reading them back
    from disk. A graph is run by the library of its format, as `predict` does, and compared with condetr on the rows of
    the same classes, those of `label_map` if the file was written with it. Raises RunError if it does not run.
    """
    if destination.format == "graph":
        ours = Runner("condetr", _our_forward(read(source, label_map=label_map).ready()))
        runners = ours, _graph_runner(destination.path)
    else:
        runners = _runner(source), _runner(destination)
    batch = _random_batch()
    with torch.inference_mode():
        first, second = (runner.forward(batch) for runner in runners)
    return Difference(
        libraries=(runners[0].library, runners[1].library),
        logits=float((first.logits - second.logits).abs().max()),
        boxes=float((first.boxes_cxcywh - second.boxes_cxcywh).abs().max()),
    )


def _runner(source: Source) -> Runner:
    if source.format == "transformers":
        try:
            return Runner(f"transformers {version('transformers')}", _transformers_forward(source))
        except (ImportError, PackageNotFoundError):  # transformers itself, or timm, which it needs
            pass
    return Runner("condetr", _our_forward(read(source)))


def _our_forward(model: LoadedModel) -> Forward:
    def forward(batch: Batch) -> Prediction:
        return model.detector.predict(batch).final

    return forward


def _transformers_forward(source: Source) -> Forward:
    from transformers import AutoModelForObjectDetection
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModelForObjectDetection.from_pretrained(source.path, local_files_only=True).eval()

    def forward(batch: Batch) -> Prediction:
        output = model(pixel_values=batch.normalised(), pixel_mask=(~batch.is_padding).long())
        return Prediction(output.logits, output.pred_boxes)

    return forward


def _graph_runner(path: Path) -> Runner:
    exported = read_graph(path, is_own=True)

    def forward(batch: Batch) -> Prediction:
        try:
            return exported.detector.predict(batch).final
        except Exception as error:  # each library has its own
            raise RunError(f"{exported.library} does not run {path}, do not use it: {first_line(error)}") from None

    return Runner(exported.library, forward)


def _random_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=generator) for size_hw in IMAGE_SIZES_HW
    ]
    return collate_images(images, original_sizes_hw=IMAGE_SIZES_HW)
