"""Pages of the attention explorer for tests: writing one, and reading its data back."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.explain.explorer.page import write_explorer
from condetr.inference.predictor import Predictor
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
CELLS_HW = (10, 16)
LABELS = LabelMap((Category(3, "bolt"), Category(7, "</script><b>&")))


def predictor(kind: Any = ConditionalDetrConfig, **changes: object) -> Predictor:  # noqa: ANN401 - any settings
    """Return a detector of five queries, two heads and two decoder layers whose boxes and logits differ."""
    torch.manual_seed(0)
    detector = kind(**{**TINY, **changes}).build(num_classes=2)
    for parameter in detector.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return Predictor(detector, transform=LightTransformConfig(), label_map=LABELS, device="cpu")


def write_page(path: Path, detector: Predictor, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as write_explorer
    """Write a page of all queries and return its data, that of the first model included."""
    write_explorer(path, detector, PIXELS, **{"model": "a/run", "image": "bolts.png", "threshold": 0.0, **options})
    return read_data(path)


def read_data(page: Path, *, model: int = 0) -> dict[str, Any]:
    """Return the data of a page, with that of one of its models."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return {**data, **data["models"][model]}


def numbers(text: str, kind: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)
