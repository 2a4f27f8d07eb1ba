"""Detect objects in images with a trained model, with the preprocessing of its evaluation."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast, get_args, overload

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from condetr.data.batch import Batch, collate_images
from condetr.data.geometry import resize_image
from condetr.data.images import decode_image
from condetr.data.transforms import EvalTransformConfig
from condetr.detectors.detector import Detector
from condetr.errors import InputError, first_line
from condetr.inference import DEFAULT_THRESHOLD
from condetr.inference.detect import detect_batch
from condetr.inference.fastest import Engine, fast_form
from condetr.inference.model_folder import CONFIG
from condetr.inference.pixels import Picture, read_pixels
from condetr.inference.remote import read_remote
from condetr.inference.result import Result
from condetr.inference.tiles import DEFAULT_OVERLAP, TileFinds, merge_tiles, tiles_of
from condetr.labels import LabelMap
from condetr.optimize.machine import FastPrecision
from condetr.shapes import Detections
from condetr.storage.remote import is_remote


class Opened(NamedTuple):
    """An image as it was given, and its pixels."""

    given: Picture
    pixels: UInt8[Tensor, "3 H W"]


def find_model_folder(weights: Path) -> Path:
    """Return `weights` if it is a model folder or, for a run folder, its `best/`."""
    folder = next((folder for folder in (weights, weights / "best") if (folder / CONFIG).is_file()), None)
    if folder is not None:
        return folder
    what = "does not exist" if not weights.exists() else f"holds neither {CONFIG} nor best/{CONFIG}"
    raise InputError(f"{weights} {what}; give a run folder or a model folder with {CONFIG} and its weights")


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """Return a usable device, by default the GPU if there is one: Nvidia's or AMD's, Intel's (xpu) or Apple's (mps).

    Raises InputError if this machine has none of that name.
    """
    accelerators = _accelerators()
    if name is None:
        name = next((kind for kind, is_here in accelerators.items() if is_here()), "cpu")
    kind = str(name).partition(":")[0]
    known = ("cpu", *accelerators)
    reason = f"known are {', '.join(known)}, with a number as cuda:1"
    if kind in known:
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
            is_missing = kind in accelerators and not accelerators[kind]()
            reason = "there is none, or torch was built without it" if is_missing else first_line(error)
    raise InputError(f"the device {str(name)!r} cannot be used here ({reason}); give another one, such as cpu")


def _accelerators() -> dict[str, Callable[[], bool]]:
    """Return the kinds of GPUs, and whether there is one, in the order in which they are chosen."""
    return {
        "cuda": torch.cuda.is_available,
        "xpu": torch.xpu.is_available,
        "mps": torch.backends.mps.is_available,
    }


class Predictor:
    """A detector together with its preprocessing and label map."""

    def __init__(
        self,
        detector: Detector,
        *,
        transform: EvalTransformConfig,
        label_map: LabelMap,
        threshold: float | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = usable_device(device)
        self.detector = detector.to(self.device).eval()
        self.transform = transform
        self.label_map = label_map
        self.own_threshold = threshold
        """The score threshold with the best F1 in the model's validation; None if it is not known."""

    @property
    def threshold(self) -> float:
        """The least score of a detection where none is asked for: the model's own, otherwise 0.5."""
        return DEFAULT_THRESHOLD if self.own_threshold is None else self.own_threshold

    def optimize(self, precision: FastPrecision = "auto", *, engine: Engine = "auto") -> "Predictor":
        """Return a predictor with the fast form of this one's detector; later changes of its weights have no effect.

        `fp32` gives the same detections (logits agree to 1e-4), `bf16` nearly the same. The engines `torch` and
        `inductor` (torch.compile, which takes up to a minute at the first image) run on any device, `onnxruntime` (only
        in fp32) and `openvino` on the CPU. What is `auto` is the fastest here: on a CPU, all that is installed but
        inductor is timed at the first image, which takes seconds to a minute and is then remembered. Raises InputError
        if the engine is not installed, or cannot run this detector.
        """
        detector = fast_form(
            self.detector, engine=engine, precision=precision, transform=self.transform, label_map=self.label_map
        )
        return Predictor(
            detector,
            transform=self.transform,
            label_map=self.label_map,
            threshold=self.own_threshold,
            device=self.device if engine in ("auto", "torch", "inductor") else "cpu",
        )

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a name and bytes are sequences, too, but one picture
        self,
        images: Picture,
        *,
        threshold: float | None = None,
        limit: int = 100,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 4,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        images: Sequence[Picture],
        *,
        threshold: float | None = None,
        limit: int = 100,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 4,
    ) -> list[Result]: ...

    def __call__(
        self,
        images: Picture | Sequence[Picture],
        *,
        threshold: float | None = None,
        limit: int = 100,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 4,
    ) -> Result | list[Result]:
        """Return the detections in one image, or in each of several, as `predict` does.

        Images in a row that are resized to the same size run together, up to `batch_size`; without padding this changes
        nothing but rounding. With `tile`, an image that is larger is looked at in tiles of that side, which overlap by
        this part of it: objects that are small in a large image are found so.
        """
        if isinstance(images, get_args(Picture)):
            (alone,) = self(
                [images],
                threshold=threshold,
                limit=limit,
                classes=classes,
                tile=tile,
                overlap=overlap,
                batch_size=batch_size,
            )
            return alone
        several = cast(Sequence[Picture], images)
        if tile is None:
            chunks = self._of_one_size(several, most=batch_size)
            found = (each for chunk in chunks for each in self._predict(chunk, limit=limit, classes=classes))
        else:
            cut = partial(self._predict_in_tiles, side=tile, overlap=overlap, batch_size=batch_size)
            found = (cut(image, limit=limit, classes=classes) for image in map(_opened, several))
        return [self._above(each, threshold) for each in found]

    def predict(
        self,
        image: Picture,
        *,
        threshold: float | None = None,
        limit: int = 100,
        classes: Sequence[str] | None = None,
    ) -> Result:
        """Return the detections in one image, best first: at most `limit` that score at least `threshold`.

        Without a threshold the predictor's own is used; 0 returns everything. Each box has one name, that of its best
        class; `classes` are names, of which only those are returned. Boxes are in pixels of the given image (of files,
        after EXIF orientation) and may extend beyond its border, scores are from 0 to 1. Raises InputError for an image
        that cannot be read, for an array of another shape or type, and for an unknown class.
        """
        return next(self.predict_all([image], threshold=threshold, limit=limit, classes=classes))

    def predict_all(
        self,
        images: Iterable[Picture],
        *,
        batch_size: int = 1,
        threshold: float | None = None,
        limit: int = 100,
        classes: Sequence[str] | None = None,
    ) -> Iterator[Result]:
        """Yield the detections of each image in turn, as `predict` does, running `batch_size` images at once.

        Images are read as they are needed. Those of a batch are padded to a common size, which changes results a
        little: 1 is exact.
        """
        _require_batch(batch_size)
        remaining = map(_opened, images)
        while chunk := list(islice(remaining, batch_size)):
            for result in self._predict(chunk, limit=limit, classes=classes):
                yield self._above(result, threshold)

    def _above(self, result: Result, threshold: float | None) -> Result:
        least = self.threshold if threshold is None else threshold
        return replace(result.above(least), least=least)

    def _of_one_size(self, images: Iterable[Picture], *, most: int) -> Iterator[list[Opened]]:
        """Yield images in a row that are resized to the same size, at most so many at once."""
        _require_batch(most)
        chunk: list[Opened] = []
        for image in map(_opened, images):
            if chunk and (len(chunk) == most or self._resized_hw(image) != self._resized_hw(chunk[0])):
                yield chunk
                chunk = []
            chunk.append(image)
        if chunk:
            yield chunk

    def _resized_hw(self, image: Opened) -> tuple[int, int]:
        height, width = image.pixels.shape[1:]
        return self.transform.eval_hw((height, width))

    def _predict(self, images: Sequence[Opened], *, limit: int, classes: Sequence[str] | None) -> list[Result]:
        found = self.predict_batch(
            self.make_batch([image.pixels for image in images]),
            limit=limit,
            labels=None if classes is None else self.label_map.labels_of(classes),
        )
        return [Result(**vars(each), image=image.given) for each, image in zip(found, images, strict=True)]

    def _predict_in_tiles(
        self,
        image: Opened,
        *,
        side: int,
        overlap: float,
        batch_size: int,
        limit: int,
        classes: Sequence[str] | None,
    ) -> Result:
        height, width = image.pixels.shape[1:]
        tiles = tiles_of((height, width), side=side, overlap=overlap)
        parts = [image.pixels[:, each.top : each.bottom, each.left : each.right] for each in tiles]
        found = self(parts, threshold=0.0, limit=limit, classes=classes, batch_size=batch_size)
        merged = merge_tiles(list(map(TileFinds, tiles, found)), size_hw=(height, width), limit=limit)
        return Result(**vars(merged), image=image.given)

    def make_batch(self, images: Sequence[Picture]) -> Batch:
        """Return preprocessed images; raises InputError as `predict` does, and if there are none."""
        if not images:
            raise InputError("a batch needs at least one image, got none")
        originals = [read_pixels(image) for image in images]
        sizes_hw = [(image.shape[1], image.shape[2]) for image in originals]
        return collate_images([self.resized(image) for image in originals], original_sizes_hw=sizes_hw)

    def resized(self, image: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 _ _"]:
        """Return an image in the size in which the detector looks at it."""
        return resize_image(image, size_hw=self.transform.eval_hw((image.shape[1], image.shape[2])))

    def predict_batch(self, batch: Batch, *, limit: int = 100, labels: Sequence[int] | None = None) -> list[Detections]:
        """Return at most `limit` detections of each image of a batch, one for a box; of these classes if any are given.

        `make_batch` makes batches.
        """
        if limit < 0:
            raise InputError(f"the limit must be a number of detections per image, got {limit}")
        everything = detect_batch(self.detector, batch, label_map=self.label_map, device=self.device, limit=sys.maxsize)
        found = [each.one_name_each() for each in everything]
        if labels is not None:
            found = [each.where(np.isin(each.labels, labels)) for each in found]
        return [each.first(limit) for each in found]


def _opened(image: Picture) -> Opened:
    if isinstance(image, str) and is_remote(image):
        content = read_remote(image)  # kept, so that the result can be drawn without another download
        return Opened(content, decode_image(content, name=image))
    return Opened(image, read_pixels(image))


def _require_batch(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"a batch needs at least one image, got batch_size={batch_size}")
