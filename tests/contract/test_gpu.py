"""Code that runs on a CPU also runs on a GPU, and keeps it busy; `tests.pretended_gpu` emulates one."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from condetr import api
from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.batch import Batch, collate_images
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detector import Detector
from condetr.engine import train
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import EmaConfig
from condetr.optimize.fast import optimize
from condetr.scenes.shapes import write_scenes
from tests.pretended_gpu import NAME, Waits, elsewhere, fabric, pretended_gpu
from tests.tiny import TINY

STEPS = 2
"""Of an epoch."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Return a training with all that a step can have, and with the same random numbers on every device."""
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    write_scenes(folder, num_images=8, val_images=4, seed=2, size=64)
    return TrainConfig(
        # Narrower ones meet the error of oneDNN that `engine.layout` is about, which a GPU does not have.
        detector=ConditionalDetrConfig(
            **TINY | {"backbone": SmallResNetConfig(widths=(16, 16), blocks=(1,))},
            dropout=0.0,
            query_groups=2,
            denoising_groups=2,
        ),
        data=DataConfig(path=str(folder), transform=LightTransformConfig(), batch_size=8 // STEPS, workers=0),
        ema=EmaConfig(),
        epochs=2,
        evaluate_every=2,
        precision="32-true",
        loggers=(),
    )


def train_there(config: TrainConfig, out: Path) -> Waits:
    with pretended_gpu() as waits, mock.patch.object(train, "launch", return_value=fabric()):
        api.fit(config, out=out)
    return waits


@pytest.fixture(scope="module")
def there(settings: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Waits]:
    """Return the run folder of the training there, and what was waited for."""
    folder = tmp_path_factory.mktemp("there") / "run"
    return folder, elsewhere(train_there, settings, folder)


def test_a_training_is_the_one_on_the_cpu(settings: TrainConfig, there: tuple[Path, Waits], tmp_path: Path) -> None:
    api.fit(settings, out=tmp_path / "here")
    found, expected = (
        np.genfromtxt(folder / "metrics.csv", delimiter=",", names=True) for folder in (there[0], tmp_path / "here")
    )
    for column in expected.dtype.names or ():
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-4, err_msg=column)


def test_a_step_waits_for_the_costs_of_matching_and_for_whether_it_is_finite(
    settings: TrainConfig, there: tuple[Path, Waits], tmp_path: Path
) -> None:
    shorter = elsewhere(train_there, replace(settings, epochs=1), tmp_path / "shorter")
    assert there[1] - shorter == {
        "matcher: HungarianMatcher.forward": 2 * STEPS,  # the costs come, the pairs go
        "step: Stepper.step": STEPS,
        "display: Means.read": 5,  # losses, at the end of an epoch
    }


def detect_there(config: Any) -> tuple[Waits, torch.Tensor]:  # noqa: ANN401 - any settings
    """Return what the fast form waits for on a size that it has seen before, and its logits.

    The device has no autocast, so that it computes in fp32.
    """
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # otherwise they keep the tensor that they wrap
    with pretended_gpu() as waits, torch.inference_mode():
        detector, batch = detector_of(config).to(NAME), padded_batch().to(NAME)
        fast = optimize(detector, precision="fp32")
        fast(batch.normalised(), batch.is_padding)
        waits.clear()
        output = fast(batch.normalised(), batch.is_padding)
        return waits.copy(), output.final.logits.cpu()


def detector_of(config: Any) -> Detector:  # noqa: ANN401 - any settings
    torch.manual_seed(0)
    detector: Detector = config.build(num_classes=2)
    return detector.eval()


def padded_batch() -> Batch:
    """Return two images, the second padded by a third."""
    torch.manual_seed(1)
    images = [torch.randint(256, (3, 32, width), dtype=torch.uint8) for width in (48, 32)]
    return collate_images(images, original_sizes_hw=[(32, 32)] * 2)


@torch.no_grad()
def test_the_fast_form_detects_the_same_and_waits_for_nothing(config: Any) -> None:  # noqa: ANN401
    batch, detector = padded_batch(), detector_of(config)
    if detector.score_function is None:
        pytest.skip("it finds regions on the way, which a pretended GPU cannot choose")
    expected = detector(batch.normalised(), batch.is_padding).final.logits
    waits, logits = elsewhere(detect_there, config)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert not waits
