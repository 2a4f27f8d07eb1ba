"""Prediction and training of Conditional DETR-R50 and DC5-R50 on one GPU, beside transformers on the same."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import alternate, product_rate
from benchmarks.speed.training import DC5_R50, R50, Inputs, make_inputs, our_step, their_step
from condetr.engine.config import TrainConfig
from condetr.optimize.fast import optimize
from condetr.optimize.machine import FastPrecision
from tests.parity.peers import hf, make_peers, random_model

CONFIGS = {"R50": R50, "DC5-R50": DC5_R50}
TRAINING_IMAGES = {"R50": 8, "DC5-R50": 4}
"""Images in a step: half as many as on the paper's eight GPUs together."""
PRECISIONS: dict[FastPrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONTENDERS = ("transformers", "ours", "ours, compiled")


class Work(NamedTuple):
    """Contenders for the same work."""

    images: int
    operations: int
    """Additions and multiplications of one run, counted on the reference."""
    contenders: Mapping[str, Callable[[], Any]]


def measure(*, quick: bool, device: str = "cuda") -> Table:
    """Time both libraries in fp32 and bf16; a device other than a GPU is for trying the code out."""
    size_hw, side, rounds = ((128, 160), 512, 2) if quick else ((800, 1066), 8192, 9)
    rates = {precision: product_rate(dtype, device=device, side=side) for precision, dtype in PRECISIONS.items()}
    rows: list[tuple[Cell, ...]] = []
    headline: dict[str, float] = {}
    for name, config in CONFIGS.items():
        for precision, rate in rates.items():
            batch = make_inputs(images=TRAINING_IMAGES[name], size_hw=size_hw).to(device)
            for kind, make in (("prediction", _prediction), ("training", _training)):
                work = make(config, batch, precision=precision)
                row = f"{name}, {kind}, {precision}"
                seconds = alternate(work.contenders, rounds=rounds, device=device)
                ours = min(value for contender, value in seconds.items() if contender != "transformers")
                headline[row] = seconds["transformers"] / ours
                speeds = [work.images / seconds[contender] for contender in CONTENDERS]
                rows.append((row, *speeds, headline[row], 100 * work.operations / ours / rate))
    return Table(
        name="gpu",
        title=f"Images a second on one GPU, Conditional DETR, images of {size_hw[0]} x {size_hw[1]}",
        columns=("", *CONTENDERS, "times as fast", "% of the matrix rate"),
        rows=rows,
        headline=headline,
        computed_by="GPU",
        notes=[
            "prediction: one image; training: 8 images a step, 4 with DC5, of 7 boxes each",
            "precision as torch has it unless told otherwise: convolutions in fp32 may be in TF32",
            *(f"matrix rate in {precision}: {rate / 1e12:.3g} TFLOP/s" for precision, rate in rates.items()),
        ],
    )


def _prediction(config: TrainConfig, batch: Inputs, *, precision: FastPrecision) -> Work:
    """Predict the first image of a batch."""
    device, dtype = batch.images.device, PRECISIONS[precision]
    images, is_padding = batch.images[:1], batch.is_padding[:1]
    model = random_model(config.detector)
    with tempfile.TemporaryDirectory() as folder:
        make_peers(Path(folder), model)
        theirs = hf.AutoModelForObjectDetection.from_pretrained(folder, dtype=dtype).to(device).eval()
    detector = model.detector.to(device)
    fast, compiled = (optimize(detector, precision=precision, compile=compile) for compile in (False, True))
    inputs = {"pixel_values": images.to(dtype), "pixel_mask": (~is_padding).long()}
    runs = (partial(theirs, **inputs), partial(fast, images, is_padding), partial(compiled, images, is_padding))
    contenders = {name: torch.inference_mode()(run) for name, run in zip(CONTENDERS, runs, strict=True)}
    return Work(1, _operations(partial(detector, images, is_padding)), contenders)


def _training(config: TrainConfig, batch: Inputs, *, precision: FastPrecision) -> Work:
    bf16 = precision == "bf16"
    with tempfile.TemporaryDirectory() as folder:
        theirs = their_step(Path(folder), batch, bf16=bf16, config=config)
    ours, compiled = (our_step(batch, bf16=bf16, config=replace(config, compile=each)) for each in (False, True))
    return Work(len(batch.images), _operations(ours), dict(zip(CONTENDERS, (theirs, ours, compiled), strict=True)))


def _operations(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
