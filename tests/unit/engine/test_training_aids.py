from dataclasses import replace
from pathlib import Path

import torch

from condetr.api import fit as train
from condetr.api import open_splits
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.engine.config import TrainConfig
from condetr.engine.initial import initialise
from condetr.inference.model_folder import load_model
from condetr.interop.loading import find_source, read
from tests.unit.conftest import Config


def aided(config: TrainConfig) -> TrainConfig:
    assert isinstance(config.detector, ConditionalDetrConfig)
    return replace(config, detector=replace(config.detector, query_groups=3, denoising_groups=2))


def test_the_model_of_a_training_with_aids_is_a_plain_detector(tiny: Config, tmp_path: Path) -> None:
    result = train(aided(tiny(epochs=1)), out=tmp_path / "run")
    best = load_model(tmp_path / "run" / "best")
    assert best.detector_config == tiny().detector
    assert result.facts.parameters == sum(p.numel() for p in best.detector.parameters())


def test_the_noise_of_a_training_with_aids_follows_from_the_seed(tiny: Config, tmp_path: Path) -> None:
    for name in ("first", "second"):
        train(aided(tiny(epochs=1)), out=tmp_path / name)
    assert (tmp_path / "first" / "metrics.csv").read_bytes() == (tmp_path / "second" / "metrics.csv").read_bytes()


def test_groups_start_from_the_queries_of_a_plain_detector(tiny: Config, tmp_path: Path) -> None:
    plain = tiny(epochs=1)
    train(plain, out=tmp_path / "plain")
    trained = load_model(tmp_path / "plain" / "best").detector
    torch.manual_seed(7)
    detector = aided(plain).detector.build(num_classes=6)
    drawn = detector.get_parameter("query_embedding.weight")[5:].clone()
    initialise(
        detector,
        read(find_source(tmp_path / "plain")),
        source="plain",
        config=aided(plain).detector,
        label_map=open_splits(plain).train.label_map,
    )
    queries = detector.get_parameter("query_embedding.weight")
    torch.testing.assert_close(queries[:5], trained.get_parameter("query_embedding.weight"), rtol=0, atol=0)
    torch.testing.assert_close(queries[5:], drawn, rtol=0, atol=0)
