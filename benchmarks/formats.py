"""Every format of every trained detector: `python -m benchmarks.formats DATA RUN...`.

Each run is converted to each format, which is then evaluated on `val` in its library, on the CPU: AP, the largest
difference of a best score from the run's own, milliseconds an image with decoding, and size. Nothing else may run
meanwhile. The table is written to benchmarks/results/formats.md.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.markdown import table_lines
from condetr.api import evaluate_predictor
from condetr.data.dataset import Split
from condetr.inference.fastest import Engine
from condetr.inference.predictor import Predictor
from condetr.interop.loading import load
from condetr.optimize.machine import FastPrecision, keep_memory
from condetr.runs.part import in_classes_of, open_part
from condetr.words import ap_text

ENGINES: Mapping[str, tuple[FastPrecision, Engine]] = {
    "torch fp32": ("fp32", "torch"),
    "torch bf16": ("bf16", "torch"),
    "OpenVINO bf16": ("bf16", "openvino"),
}
"""Forms of the run itself."""
FORMATS: Mapping[str, tuple[str, Sequence[str]]] = {
    "ONNX": ("detector.onnx", ()),
    "ONNX, fp16 weights": ("half.onnx", ("--fp16",)),
    "ONNX, detections": ("detections.onnx", ("--detections",)),
    "OpenVINO": ("graph.xml", ()),
    "OpenVINO, int8": ("small.xml", ("--int8", "DATA")),
}
"""Each with its file and the options of `condetr convert`. A .pt2 is written, but not read: it may hold code."""
RESULT = Path("benchmarks/results/formats.md")
COMPARED = 20
"""Images whose best scores are compared, and whose time is taken."""


def main(
    data: Annotated[Path, typer.Argument(help="Data set with the splits train and val.")],
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
) -> None:
    """Convert, evaluate and time each, and write the table."""
    keep_memory()
    rows = [row for run in runs for row in _rows(run, data=data)]
    columns = ("run", "form", "AP", "largest difference of a score", "ms an image", "MB")
    RESULT.write_text("\n".join([*table_lines(columns, rows), ""]))
    Console().print(RESULT.read_text(), highlight=False, markup=False, soft_wrap=True)


def _rows(run: Path, *, data: Path) -> list[tuple[str, ...]]:
    model = load(run, device="cpu")
    part = open_part(data, weights=run, split="val", skip_unreadable=False)
    split = in_classes_of(model.label_map, part.split, weights=run, data=data)
    expected = _best_scores(model, split)
    rows = [_row("as it is", model, split, expected=expected, files=[run / "best/model.safetensors"])]
    for name, (precision, engine) in ENGINES.items():
        rows.append(_row(name, model.optimize(precision, engine=engine), split, expected=expected, files=[]))
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, options) in FORMATS.items():
            path = Path(folder) / file
            chosen = [str(data) if option == "DATA" else option for option in options]
            command = [sys.executable, "-m", "condetr", "convert", str(run), str(path), *chosen]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                rows.append((name, done.stderr.strip().rpartition("\n")[2], "", "", ""))
                continue
            files = list(path.parent.glob(f"{path.stem}.*"))
            rows.append(_row(name, load(path, device="cpu"), split, expected=expected, files=files))
    return [(run.name, *row) for row in rows]


def _row(
    name: str, predictor: Predictor, split: Split, *, expected: np.ndarray, files: Sequence[Path]
) -> tuple[str, ...]:
    scores = _best_scores(predictor, split)
    began = time.perf_counter()
    _best_scores(predictor, split)
    milliseconds = 1e3 * (time.perf_counter() - began) / len(scores)
    size = f"{sum(file.stat().st_size for file in files) / 1e6:.1f}" if files else ""
    ap = ap_text(evaluate_predictor(predictor, split).results.AP)
    return name, ap, f"{np.abs(scores - expected).max():.1e}", f"{milliseconds:.1f}", size


def _best_scores(predictor: Predictor, split: Split) -> np.ndarray:
    found = predictor.predict_all([record.path for record in split.records[:COMPARED]], threshold=0.0, limit=1)
    return np.array([float(each.scores[0]) for each in found])


if __name__ == "__main__":
    typer.run(main)
