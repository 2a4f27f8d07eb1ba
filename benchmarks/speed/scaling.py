"""How the cost grows: image size, stride 32 and DC5, batch size, number of boxes."""

from functools import partial

import torch
from torch import nn

from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import alternate
from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.optimize.fast import optimize

SIZES_HW = ((400, 533), (600, 800), (800, 1066), (800, 1333))


@torch.inference_mode()
def measure(*, quick: bool) -> Table:
    """Time the fast form in fp32 and bf16 over sizes, strides and batches; the losses table has the boxes."""
    rows: list[tuple[Cell, ...]] = []
    for dilation in (False, True):
        config = ConditionalDetrConfig(backbone=ResNetConfig(dilation=dilation))
        detector = config.build(num_classes=91, pretrained=False).eval()
        forms: dict[str, nn.Module] = {
            "fp32": optimize(detector, precision="fp32"),
            "bf16": optimize(detector, precision="bf16"),
        }
        for images, size_hw in [(1, SIZES_HW[0])] if quick else [*((1, size) for size in SIZES_HW), (4, SIZES_HW[0])]:
            rates = _images_per_second(forms, images=images, size_hw=size_hw)
            shape = f"{images} x {size_hw[0]} x {size_hw[1]}"
            rows.append(("DC5" if dilation else "stride 32", shape, rates["fp32"], rates["bf16"]))
    largest = rows[0] if quick else rows[3]
    return Table(
        name="scaling",
        title="Images a second of the fast form, Conditional DETR-R50",
        columns=("", "images", "fp32", "bf16"),
        rows=rows,
        headline={"stride 32, largest image, bf16, images a second": float(largest[3] or 0)},
    )


def _images_per_second(forms: dict[str, nn.Module], *, images: int, size_hw: tuple[int, int]) -> dict[str, float]:
    batch, is_padding = torch.randn(images, 3, *size_hw), torch.zeros(images, *size_hw, dtype=torch.bool)
    runs = {name: partial(form, batch, is_padding) for name, form in forms.items()}
    return {name: images / seconds for name, seconds in alternate(runs, rounds=3).items()}
