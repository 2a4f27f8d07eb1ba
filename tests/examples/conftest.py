"""Graphs for the examples, photos for them, and what condetr finds in these."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from condetr.config import dump
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig, TransformConfig
from condetr.detectors.conditional_detr import ConditionalDetr, ConditionalDetrConfig
from condetr.exports.graph import Options
from condetr.inference.model_folder import LoadedModel
from condetr.interop.convert import export
from condetr.interop.loading import load
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

EXAMPLES = Path(__file__).parents[2] / "examples"
LABELS = LabelMap((Category(3, "bolt"), Category(7, "écrou à œil")))
LOWEST = 0.0


class Row(NamedTuple):
    """A detection: score, box in pixels of the photo, and class."""

    score: float
    box_xyxy: tuple[float, ...]
    name: str


class Case(NamedTuple):
    """A graph, and the size of a photo; a plain one, unless no program scales it."""

    transform: TransformConfig | None
    """None: the one of the options."""
    options: Options
    photo_hw: tuple[int, int]
    is_plain: bool = True


DETECTIONS = Options(detections=True)
CASES = {
    "own_size": Case(LightTransformConfig(), DETECTIONS, (70, 96), is_plain=False),
    "fitted": Case(LightTransformConfig(size_hw=(48, 64)), DETECTIONS, (65, 128)),  # half a row is rounded to even
    "short_side": Case(PaperTransformConfig(eval_short_side=48, max_side=80), DETECTIONS, (90, 61)),
    "long_side": Case(PaperTransformConfig(eval_short_side=48, max_side=80), DETECTIONS, (40, 110)),
    "padded": Case(None, DETECTIONS._replace(size_hw=(64, 96)), (50, 40)),
    "stretched": Case(None, DETECTIONS._replace(size_hw=(64, 96), has_mask=False), (50, 40)),
}


MakeCase = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="session")
def plain_graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Options], Path]:
    """Return a function that exports a detector with random weights, once for all tests."""

    @cache
    def write(options: Options) -> Path:
        torch.manual_seed(0)
        config = ConditionalDetrConfig(**TINY)
        detector: ConditionalDetr = config.build(num_classes=2).eval()
        with torch.no_grad():
            for parameter in detector.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
            detector.get_parameter("heads.class_head.bias").zero_()  # scores around a half
        path = tmp_path_factory.mktemp("graph") / "detector.onnx"
        export(path, LoadedModel(detector, config, LightTransformConfig(), LABELS), options=options)
        return path

    return write


@pytest.fixture
def make_case(plain_graph: Callable[[Options], Path], tmp_path: Path) -> MakeCase:
    """Return a function that writes a case and returns its graph and photo."""

    def write(name: str) -> tuple[Path, Path]:
        case = CASES[name]
        model = onnx.load(plain_graph(case.options))
        if case.transform is not None:
            onnx.helper.set_model_props(
                model,
                {each.key: each.value for each in model.metadata_props}
                | {"transform": json.dumps(dump(case.transform))},
            )
        onnx.save(model, tmp_path / "detector.onnx")
        pixels = np.full((*case.photo_hw, 3), (200, 90, 30), np.uint8)
        if not case.is_plain:
            pixels = np.random.default_rng(0).integers(256, size=pixels.shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        return tmp_path / "detector.onnx", tmp_path / "photo.png"

    return write


def require_same(rows: list[Row], *, graph: Path, photo: Path) -> None:
    """Compare what a program found with what condetr finds."""
    expected = load(graph).predict(photo, threshold=LOWEST)
    assert 0 < len(rows) == len(expected)
    assert [row.name for row in rows] == list(expected.names)
    np.testing.assert_allclose([row.score for row in rows], expected.scores, atol=0.006)  # the page shows two digits
    np.testing.assert_allclose([row.box_xyxy for row in rows], expected.boxes_xyxy, atol=0.06)
