"""The engines of a detector, and the choice between them."""

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detector import Detector
from condetr.detectors.exported import ExportedDetector
from condetr.errors import InputError
from condetr.inference import fastest
from condetr.inference.fastest import Fastest
from condetr.inference.predictor import Predictor
from condetr.labels import Category, LabelMap
from condetr.optimize.fast import FastDetector
from tests.tiny import TINY

IMAGE = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    monkeypatch.setattr(fastest, "remembered", lambda what, *, measure: measure())
    detector = ConditionalDetrConfig(**TINY).build(num_classes=1).eval()
    labels = LabelMap((Category(1, "cell"),))
    return Predictor(detector, transform=LightTransformConfig(size_hw=(64, 64)), label_map=labels, device="cpu")


def test_the_form_that_takes_least_time_is_chosen_at_the_first_image(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predictor.predict(IMAGE, threshold=0.0)
    made: list[str] = []

    def form(name: str) -> Any:  # noqa: ANN401
        def make() -> Detector:
            made.append(name)
            made_form: Detector = named(FastDetector, name)(predictor.detector, dtype=torch.float32, compile=False)
            return made_form

        return make

    seconds = {"slow": 3.0, "quick": 1.0, "late": 2.0}
    monkeypatch.setattr(fastest, "_seconds", lambda form, batch: seconds[type(form).__name__])
    chosen = Fastest(predictor.detector, {name: form(name) for name in seconds})
    other = Predictor(chosen, transform=predictor.transform, label_map=predictor.label_map, device="cpu")

    np.testing.assert_array_equal(other.predict(IMAGE, threshold=0.0).scores, expected.scores)
    assert (made, type(chosen.chosen).__name__) == ([*seconds], "quick")
    other.predict(IMAGE)
    assert made == [*seconds]


def named(kind: type, name: str) -> Any:  # noqa: ANN401
    return type(name, (kind,), {})


def test_a_remembered_form_is_made_alone(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "remembered", lambda what, *, measure: "torch in bf16")
    other = predictor.optimize()
    other.predict(IMAGE)

    assert isinstance(other.detector, Fastest)
    assert isinstance(other.detector.chosen, FastDetector)
    assert other.detector.chosen.dtype == torch.bfloat16


def test_forms_that_cannot_run_a_detector_are_left_out(predictor: Predictor) -> None:
    def fails() -> Detector:
        raise InputError("it has no graph")

    chosen = Fastest(predictor.detector, {"first": fails, "torch in fp32": lambda: predictor.detector, "last": fails})
    chosen.predict(predictor.make_batch([IMAGE]))

    assert chosen.chosen is predictor.detector


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_an_engine_is_used_when_asked_for(predictor: Predictor, engine: Any) -> None:  # noqa: ANN401
    if engine != "torch" and importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    other = predictor.optimize("fp32", engine=engine)

    assert isinstance(other.detector, FastDetector if engine == "torch" else ExportedDetector)
    assert other.optimize().detector is other.detector
    expected = predictor.predict(IMAGE, threshold=0.0)
    found = other.predict(IMAGE, threshold=0.0)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)


def test_what_no_engine_can_do_is_said(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="onnxruntime computes in fp32"):
        predictor.optimize("bf16", engine="onnxruntime")
    monkeypatch.setattr("condetr.optimize.fast.shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler"):
        predictor.optimize("fp32", engine="inductor")
