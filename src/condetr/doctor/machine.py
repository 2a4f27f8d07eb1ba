"""What the machine offers to a training."""

from typing import NamedTuple

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from condetr.detectors.detector import Detector
from condetr.detectors.registry import DetectorConfig
from condetr.optimize.machine import usable_cores


class Machine(NamedTuple):
    """Cores and memory; the memory is the GPU's where there is one."""

    cores: int
    ram_bytes: int
    gpu: str | None
    gpu_bytes: int

    @property
    def training_bytes(self) -> int:
        """Memory for weights and activations."""
        return self.gpu_bytes if self.gpu else self.ram_bytes

    @property
    def name(self) -> str:
        """How a sentence names it."""
        return f"{self.gpu} with {gib(self.gpu_bytes)}" if self.gpu else f"processor with {gib(self.ram_bytes)}"


def this_machine() -> Machine:
    """Look at the machine that this process runs on."""
    properties = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return Machine(
        cores=usable_cores(),
        ram_bytes=psutil.virtual_memory().total,
        gpu=properties.name if properties else None,
        gpu_bytes=properties.total_memory if properties else 0,
    )


def gib(count: int) -> str:
    """Say a number of bytes in GiB."""
    return f"{count / 2**30:.1f} GiB"


_COPIES = 3  # of a trainable weight: its gradient and Adam's two moments
_BYTES = 4


def step_bytes(config: DetectorConfig, *, images: int, size_hw: tuple[int, int]) -> int:
    """Return about how many bytes a training step in fp32 holds at its peak, for images padded to `size_hw`.

    Counted are weights, gradients, Adam's moments, and every tensor that the forward pass saves for the backward pass.
    On a processor the peak was 1.00 GiB where this says 0.93 (MobileNetV2, 8 images of 320x320), 0.22 where it says
    0.16 (conditional_detr_tiny, 16 of 128x128) and 0.82 where it says 0.98 (ResNet-50, one of 533x400).
    """
    detector = blank_detector(config).train()
    saved: dict[int, Tensor] = {}
    with torch.device("meta"), saved_tensors_hooks(lambda tensor: _remember(tensor, saved), lambda tensor: tensor):
        detector(torch.empty(images, 3, *size_hw), torch.zeros(images, *size_hw, dtype=torch.bool))
    weights = {parameter.untyped_storage()._cdata: parameter for parameter in detector.parameters()}
    activations = sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in weights)
    trained = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    return activations + _BYTES * (sum(weight.numel() for weight in weights.values()) + _COPIES * trained)


def blank_detector(config: DetectorConfig) -> Detector:
    """Build a detector without memory behind its tensors."""
    with torch.device("meta"):
        return config.build(num_classes=1, pretrained=False)


def _remember(tensor: Tensor, saved: dict[int, Tensor]) -> Tensor:
    saved[tensor.untyped_storage()._cdata] = tensor  # kept alive, so that no other storage gets its address
    return tensor
