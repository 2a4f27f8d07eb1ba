"""A detector that was exported finds what it found before, in images prepared and by a choice made as before."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condetr.data.transforms import LightTransformConfig, TransformConfig
from condetr.errors import InputError
from condetr.exports.files import FORMATS, read_graph
from condetr.exports.graph import Options
from condetr.inference.model_folder import LoadedModel
from condetr.inference.predictor import Predictor
from condetr.interop.convert import export
from condetr.labels import Category, LabelMap
from condetr.shapes import Detections

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
PACKAGES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}


def built(config: Any, *, transform: TransformConfig) -> LoadedModel:  # noqa: ANN401 - any of the registered settings
    """Return a detector whose scores differ more than rounding can change."""
    torch.manual_seed(0)
    detector = config.build(num_classes=2).eval()
    if detector.score_function is None:
        pytest.skip("it has no graph of logits and boxes")
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return LoadedModel(detector, config, transform, LABELS)


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(256, size=(*size_hw, 3), dtype=np.uint8) for size_hw in ((70, 96), (120, 50))]


def assert_same(found: Detections, expected: Detections) -> None:
    """Compare detections, of which equal scores may have changed places."""
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    for label, score, box_xyxy in zip(found.labels, found.scores, found.boxes_xyxy, strict=True):
        alike = (expected.labels == label) & (np.abs(expected.scores - score) < 1e-5)
        assert np.abs(expected.boxes_xyxy[alike] - box_xyxy).max(axis=1).min() < 1e-2


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_exported_detector_finds_what_it_found_before(config: Any, suffix: str, tmp_path: Path) -> None:  # noqa: ANN401
    if importlib.util.find_spec(PACKAGES[suffix]) is None:
        pytest.skip(f"{PACKAGES[suffix]} is not installed")
    model = built(config, transform=LightTransformConfig(size_hw=(96, 120)))
    ours = Predictor(model.detector, transform=model.transform, label_map=LABELS, device="cpu")
    expected = [
        list(ours.predict_all(pictures(), batch_size=batch_size, threshold=0.0, limit=7)) for batch_size in (1, 2)
    ]

    export(tmp_path / f"detector{suffix}", model)

    detector, about, _ = read_graph(tmp_path / f"detector{suffix}", is_own=True)
    assert (about.label_map, about.transform) == (LABELS, model.transform)
    loaded = Predictor(detector, transform=about.transform, label_map=about.label_map, device="cpu")
    for batch_size, wanted in zip((1, 2), expected, strict=True):
        found = loaded.predict_all(pictures(), batch_size=batch_size, threshold=0.0, limit=7)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
            assert one.names == tuple(LABELS.names[label] for label in one.labels)


def test_a_detector_without_a_graph_has_no_engine(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    if detector.score_function is not None:
        pytest.skip("it has a graph")
    predictor = Predictor(detector, transform=LightTransformConfig(), label_map=LABELS, device="cpu")
    with pytest.raises(InputError, match="stays in condetr's own format"):
        predictor.optimize(engine="onnxruntime")


def test_opencv_reads_a_graph_of_one_size_without_padding(config: Any, tmp_path: Path) -> None:  # noqa: ANN401
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    model = built(config, transform=LightTransformConfig())
    image = np.random.default_rng(0).integers(256, size=(96, 128, 3), dtype=np.uint8)
    ours = Predictor(model.detector, transform=model.transform, label_map=LABELS, device="cpu")
    with torch.inference_mode():
        expected = model.detector.predict(ours.make_batch([image])).final

    export(tmp_path / "x.onnx", model, options=Options(size_hw=(96, 128), has_mask=False))

    network = cv2.dnn.readNetFromONNX(str(tmp_path / "x.onnx"))
    network.setInput(cv2.dnn.blobFromImage(image.astype(np.float32)))
    for found, wanted in zip(network.forward(["logits", "boxes_cxcywh"]), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)
