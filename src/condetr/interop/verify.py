"""Verify a conversion: run both models on the same images and compare."""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from condetr.data.batch import Batch, collate_images
from condetr.exports.files import read_graph
from condetr.exports.graph import MOST_DETECTIONS, PLAIN, Options
from condetr.inference.model_folder import LoadedModel
from condetr.interop.loading import Source, read
from condetr.labels import LabelMap
from condetr.shapes import Found, Prediction

IMAGE_SIZES_HW = ((160, 224), (208, 130))
"""Two images of different shape, so that there is padding."""

TOLERANCE, HALF_TOLERANCE = 1e-3, 0.2
"""Correct conversions differ by about 1e-5 in logits, because of the order of float32 sums, and by some hundredths if
weights are rounded to 16 bits; boxes then differ by a tenth of that."""

Forward = Callable[[Batch], Prediction]


class Runner(NamedTuple):
    """A model and the library that runs it."""

    library: str
    forward: Forward


class Difference(NamedTuple):
    """The differences of two models on random images."""

    libraries: tuple[str, str]
    logits: float
    """Of scores where the graph returns detections."""
    boxes: float
    tolerance: float = TOLERANCE

    @property
    def is_small(self) -> bool:
        """True if the differences may be due to rounding."""
        return self.logits < self.tolerance and self.boxes < max(self.tolerance / 10, TOLERANCE)


def measure_difference(source: Source, destination: Source, *, label_map: LabelMap | None = None) -> Difference:
    """Return the largest differences of logits and relative boxes between two models.

    Folders of transformers are run by that library if it is installed, all others by condetr after reading them back
    from disk. Raises RunError if the other library does not run it.
    """
    runners = _runner(source), _runner(destination)
    batch = _random_batch(IMAGE_SIZES_HW)
    with torch.inference_mode():
        first, second = (runner.forward(batch) for runner in runners)
    return _difference((runners[0].library, runners[1].library), first, second)


def measure_graph(
    source: Source, path: Path, *, label_map: LabelMap | None = None, options: Options = PLAIN
) -> Difference:
    """Return how a graph that was just written differs from its source, on the rows of the same classes.

    The graph is run by the library of its format, as `predict` does. Raises RunError if it does not run.
    """
    ours, exported = read(source, label_map=label_map).ready().detector, read_graph(path, is_own=True)
    batch = _random_batch(_sizes_for(options))
    with torch.inference_mode():
        expected = ours.predict(batch)
        given = exported.detector.predict(batch)
        libraries = ("condetr", exported.library)
        if options.detections:
            every = ours.found(expected, limit=expected.final.logits[0].numel())
            found = exported.detector.found(given, limit=MOST_DETECTIONS)
            pairs = [_nearest(one, among=others) for one, others in zip(found, every, strict=True)]
            difference = Difference(libraries, *(max(each) for each in zip(*pairs, strict=True)))
        else:
            difference = _difference(libraries, expected.final, given.final)
    return difference._replace(tolerance=HALF_TOLERANCE if options.half else TOLERANCE)


def _sizes_for(options: Options) -> tuple[tuple[int, int], ...]:
    """Return the sizes of two images, of which one has padding if the graph takes any.

    A graph of one size pads up to that size, one of single images does not pad.
    """
    if options == PLAIN._replace(half=options.half):
        return IMAGE_SIZES_HW
    height, width = options.size_hw or IMAGE_SIZES_HW[0]
    is_padded = options.has_mask and options.size_hw is not None
    return (height, width), (max(1, height * 3 // 4), max(1, width * 5 // 8)) if is_padded else (height, width)


def _difference(libraries: tuple[str, str], first: Prediction, second: Prediction) -> Difference:
    return Difference(
        libraries,
        logits=float((first.logits - second.logits).abs().max()),
        boxes=float((first.boxes_cxcywh - second.boxes_cxcywh).abs().max()),
    )


def _nearest(found: Found, *, among: Found) -> tuple[float, float]:
    """Return the largest difference of scores and boxes between detections and the most similar ones of their class.

    Of equal scores, either may be the better one.
    """
    is_other = found.labels[:, None] != among.labels
    scores = (found.scores[:, None] - among.scores).abs().masked_fill(is_other, torch.inf)
    boxes = (found.boxes_cxcywh[:, None] - among.boxes_cxcywh).abs().amax(-1).masked_fill(is_other, torch.inf)
    best = (scores + boxes).argmin(1, keepdim=True)
    return float(scores.gather(1, best).max()), float(boxes.gather(1, best).max())


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


def _random_batch(sizes_hw: Sequence[tuple[int, int]]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=generator) for size_hw in sizes_hw]
    return collate_images(images, original_sizes_hw=sizes_hw)
