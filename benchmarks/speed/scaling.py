"""How the cost grows: image size, stride 32 and DC5, batch size; the losses table has the number of boxes."""

import sys
from functools import partial

import torch
from torch import Tensor

from benchmarks.speed.peak import peak_gibibytes, print_peak
from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import PRECISIONS, alternate
from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.optimize.fast import FastDetector, optimize
from condetr.optimize.machine import keep_memory

SIZES_HW = ((400, 533), (600, 800), (800, 1066), (800, 1333))


@torch.inference_mode()
def measure(*, quick: bool) -> Table:
    """Time the fast form in fp32 and bf16 over sizes, strides and batches, and read its peak memory."""
    keep_memory()
    rows: list[tuple[Cell, ...]] = []
    for stride in ("32", "DC5"):
        forms = {precision: _form(stride, precision) for precision in PRECISIONS}
        for images, size_hw in [(1, SIZES_HW[0])] if quick else [*((1, size) for size in SIZES_HW), (4, SIZES_HW[0])]:
            inputs = _inputs(images, size_hw)
            seconds = alternate({name: partial(form, *inputs) for name, form in forms.items()}, rounds=3)
            shape = [str(number) for number in (images, *size_hw)]
            peaks = [
                peak_gibibytes("benchmarks.speed.scaling", stride, precision, *shape, str(torch.get_num_threads()))
                for precision in PRECISIONS
            ]
            rows.append((stride, " x ".join(shape), *(images / seconds[name] for name in PRECISIONS), *peaks))
    largest = rows[0] if quick else rows[3]
    return Table(
        name="scaling",
        title="Images a second of the fast form, and its peak memory in GiB, Conditional DETR-R50",
        columns=("stride", "images", *PRECISIONS, *(f"GiB, {precision}" for precision in PRECISIONS)),
        rows=rows,
        headline={
            f"stride 32, largest image, {PRECISIONS[-1]}, images a second": float(largest[1 + len(PRECISIONS)] or 0)
        },
        notes=["memory of the whole process, libraries and both forms of the weights included, after one batch"],
    )


def _form(stride: str, precision: str) -> FastDetector:
    config = ConditionalDetrConfig(backbone=ResNetConfig(dilation=stride == "DC5"))
    detector = config.build(num_classes=91, pretrained=False).eval()
    return optimize(detector, precision="fp32" if precision == "fp32" else "bf16")


def _inputs(images: int, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return torch.randn(images, 3, *size_hw), torch.zeros(images, *size_hw, dtype=torch.bool)


@torch.inference_mode()
def _one_batch(stride: str, precision: str, *numbers: str) -> None:
    images, height, width, threads = map(int, numbers)
    torch.set_num_threads(threads)
    _form(stride, precision)(*_inputs(images, (height, width)))
    print_peak()


if __name__ == "__main__":
    _one_batch(*sys.argv[1:])
