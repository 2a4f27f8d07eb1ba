"""Detect objects in images with a trained model, with the preprocessing of its evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from condetr.data.batch import Batch, collate_images
from condetr.data.geometry import resize_image
from condetr.data.images import read_image, to_rgb
from condetr.data.transforms import EvalTransformConfig
from condetr.detectors.detector import Detector
from condetr.errors import InputError, first_line
from condetr.exports.engines import Engine, in_engine
from condetr.inference import DEFAULT_THRESHOLD
from condetr.inference.detect import detect_batch
from condetr.inference.model_folder import CONFIG
from condetr.labels import LabelMap
from condetr.optimize.fast import has_fast_form, optimize
from condetr.optimize.machine import FastPrecision
from condetr.shapes import Detections

Picture = Path | str | Image.Image | np.ndarray
"""An image file, a PIL image, or an array of height x width x 3 in RGB, uint8."""


def find_model_folder(weights: Path) -> Path:
    """Return `weights` if it is a model folder or, for a run folder, its `best/`."""
    folder = next((folder for folder in (weights, weights / "best") if (folder / CONFIG).is_file()), None)
    if folder is not None:
        return folder
    what = "does not exist" if not weights.exists() else f"holds neither {CONFIG} nor best/{CONFIG}"
    raise InputError(f"{weights} {what}; give a run folder or a model folder with {CONFIG} and its weights")


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """Return a usable device, by default the GPU if there is one.

    Raises InputError if this machine has none of that name.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        raise InputError(
            f"the device {str(name)!r} cannot be used here ({first_line(error)}); give cpu, cuda or cuda:1"
        ) from None


class Predictor:
    """A detector together with its preprocessing and label map."""

    def __init__(
        self,
        detector: Detector,
        *,
        transform: EvalTransformConfig,
        label_map: LabelMap,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = usable_device(device)
        self.detector = detector.to(self.device).eval()
        self.transform = transform
        self.label_map = label_map

    def optimize(
        self,
        precision: FastPrecision = "auto",
        *,
        compile: bool = False,
        engine: Literal["auto", "torch"] | Engine = "auto",
    ) -> "Predictor":
        """Return a predictor with the fast form of this one's detector; later changes of its weights have no effect.

        `fp32` gives the same detections (logits agree to 1e-4). `auto` computes in bf16 if the machine supports it
        natively. A detector without a fast form is used unchanged, in fp32. `compile` uses torch.compile, which takes
        minutes at the first image of each size. The engines `onnxruntime` and `openvino` run the detector's graph
        instead, on the CPU and in fp32; `auto` is torch. Raises InputError if the engine is not installed, or if the
        detector has no graph.
        """
        if engine != "auto" and engine != "torch":  # noqa: PLR1714 - mypy sees then which are left
            if precision == "bf16" or compile:
                raise InputError(f"{engine} computes in fp32 and compiles by itself: leave precision and compile out")
            detector: Detector = in_engine(self.detector, engine, transform=self.transform, label_map=self.label_map)
            return Predictor(detector, transform=self.transform, label_map=self.label_map, device="cpu")
        return Predictor(
            optimize(self.detector, precision=precision, compile=compile)
            if has_fast_form(self.detector)
            else self.detector,
            transform=self.transform,
            label_map=self.label_map,
            device=self.device,
        )

    def predict(self, image: Picture, *, threshold: float = DEFAULT_THRESHOLD, limit: int = 100) -> Detections:
        """Return the detections in one image, best first: at most `limit` that score at least `threshold`.

        A threshold of 0 returns everything, as needed for evaluation. Boxes are in pixels of the given image (of
        files, after EXIF orientation) and may extend beyond its border. Raises InputError for a file that cannot be
        read and for an array of another shape or type.
        """
        return next(self.predict_all([image], threshold=threshold, limit=limit))

    def predict_all(
        self, images: Iterable[Picture], *, batch_size: int = 1, threshold: float = DEFAULT_THRESHOLD, limit: int = 100
    ) -> Iterator[Detections]:
        """Yield the detections of each image in turn, as `predict` does, running `batch_size` images at once.

        Images in a batch are padded to a common size, which changes results a little: 1 is exact.
        """
        if batch_size < 1:
            raise InputError(f"a batch needs at least one image, got batch_size={batch_size}")
        remaining = iter(images)
        while chunk := list(islice(remaining, batch_size)):
            for detections in self.predict_batch(self.make_batch(chunk), limit=limit):
                yield detections.above(threshold)

    def make_batch(self, images: Sequence[Picture]) -> Batch:
        """Return preprocessed images; raises InputError as `predict` does, and if there are none."""
        if not images:
            raise InputError("a batch needs at least one image, got none")
        originals = [_pixels(image) for image in images]
        sizes_hw = [(image.shape[1], image.shape[2]) for image in originals]
        resized = [
            resize_image(image, size_hw=self.transform.eval_hw(size_hw))
            for image, size_hw in zip(originals, sizes_hw, strict=True)
        ]
        return collate_images(resized, original_sizes_hw=sizes_hw)

    def predict_batch(self, batch: Batch, *, limit: int = 100) -> list[Detections]:
        """Return the detections of each image of a batch that the model's transform and `collate` made."""
        return detect_batch(self.detector, batch, label_map=self.label_map, device=self.device, limit=limit)


def _pixels(image: Picture) -> UInt8[Tensor, "3 H W"]:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _array_pixels(np.array(to_rgb(image)))
    return _array_pixels(image)


def _array_pixels(array: np.ndarray) -> UInt8[Tensor, "3 H W"]:
    fits = isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    if not fits or array.dtype != np.uint8:
        given = f"shape {array.shape} and type {array.dtype}" if isinstance(array, np.ndarray) else f"{type(array)}"
        raise InputError(f"an image array must be height x width x 3 (RGB) of uint8, got {given}")
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)
