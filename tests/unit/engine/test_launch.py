import pytest
import torch

from condetr.engine.config import TrainConfig
from condetr.engine.processes import launch, loss_scaler, resolve_precision, training_device
from condetr.errors import InputError


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_training_stays_on_the_processor_where_that_is_wished(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fabric = launch(TrainConfig(), device=training_device(name))
    assert fabric.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("abacus", "the device 'abacus' cannot be used here"),
        ("meta", "the device 'meta' cannot be trained on: give one of cpu, cuda, mps"),
    ],
)
def test_a_device_that_cannot_be_trained_on_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        training_device(name)


def test_several_processes_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("condetr.engine.processes.usable_device", torch.device)
    assert training_device("cuda") == torch.device("cuda")
    with pytest.raises(InputError, match="'cuda:1' is one, but 2 processes train here: give cuda, and each takes its"):
        training_device("cuda:1")


def test_where_fabric_knows_no_such_gpu_the_processor_says_which_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condetr.engine.processes.usable_device", lambda: torch.device("xpu"))
    monkeypatch.setattr("condetr.engine.processes.has_fast_bf16", lambda device: device.type == "cpu")

    fabric = launch(TrainConfig())

    assert fabric.device == torch.device("cpu")
    assert fabric.strategy.precision.precision == "bf16-mixed"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"2 processes cannot share 1 GPU \(cuda\): start at most one for each"):
        launch(TrainConfig(precision="32-true"), device=torch.device("cuda"))


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((6, 1), "32-true"), ((7, 0), "16-mixed"), ((7, 5), "16-mixed"), ((8, 0), "bf16-mixed")],
)
def test_a_gpu_computes_in_the_format_that_it_has(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", device=torch.device("cuda")) == precision


def test_the_loss_is_scaled_in_fp16_alone() -> None:
    scalers = [
        loss_scaler(launch(TrainConfig(precision=precision), device=torch.device("cpu")))
        for precision in ("16-mixed", "bf16-mixed", "32-true")
    ]
    assert [scaler is not None for scaler in scalers] == [True, False, False]


def test_targets_reach_a_detector_in_bf16_as_they_are() -> None:
    class Seeing(torch.nn.Linear):
        def forward(self, images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            self.boxes = boxes
            return super().forward(images)

    fabric = launch(TrainConfig(precision="bf16-mixed"), device=torch.device("cpu"))
    detector, boxes = Seeing(4, 4), torch.tensor([0.123456789])
    model = fabric.setup_module(detector)
    assert model(torch.randn(1, 4), boxes).dtype == torch.float32
    assert torch.equal(detector.boxes, boxes)
    with fabric.autocast():
        assert detector(torch.randn(1, 4), boxes).dtype == torch.bfloat16
