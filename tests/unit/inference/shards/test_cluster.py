from pathlib import Path
from typing import Any

import pytest

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.errors import RunError
from condetr.inference.predictor import Predictor
from condetr.inference.shards.cluster import run_on_ray
from condetr.inference.shards.job import Folder
from condetr.labels import Category, LabelMap
from tests.tiny import TINY
from tests.unit.inference.shards.test_job import JOB


def test_a_cluster_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray: Any = pytest.importorskip("ray")

    def fails(**options: object) -> None:
        raise OSError("The current node timed out during startup.\nMore about it")

    monkeypatch.setattr(ray, "init", fails)
    detector = ConditionalDetrConfig(**TINY).build(num_classes=1).eval()
    labels = LabelMap((Category(1, "cell"),))
    predictor = Predictor(detector, transform=LightTransformConfig(), label_map=labels, device="cpu")
    done = run_on_ray([], predictor, JOB, Folder(tmp_path, "jsonl"), workers=1, advance=lambda count: None)
    with pytest.raises(RunError) as raised:
        next(done)
    assert str(raised.value) == "Ray could not be started or reached (The current node timed out during startup.)"
