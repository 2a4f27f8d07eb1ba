"""Tables on disk: JSON, Markdown and the headline ratios, stamped with machine and versions."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.markdown import table_lines

RESULTS = Path(__file__).parents[1] / "results"
SUMMARY = RESULTS / "summary.json"
PACKAGES = (
    *("condetr", "torch", "torchvision", "transformers", "timm", "pycocotools", "faster-coco-eval"),
    *("openvino", "onnxruntime"),
)

Cell = str | float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The numbers of one benchmark."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    headline: dict[str, float]
    """The main ratios and numbers of the table."""
    notes: list[str] = field(default_factory=list)
    computed_by: Literal["processor", "GPU"] = "processor"


def publish(table: Table, *, load_before: float) -> str:
    """Write a table and its headline under the processor or GPU it was measured on; return it as Markdown."""
    stamp = _stamp(load_before=load_before)
    machine = str(stamp["GPU"]) if table.computed_by == "GPU" else _processor_and_instructions(stamp)
    folder = RESULTS / "speed" / re.sub(r"\W+", "-", machine.lower())
    folder.mkdir(parents=True, exist_ok=True)
    markdown = _markdown(table, stamp)
    (folder / f"{table.name}.json").write_text(json.dumps({**asdict(table), "stamp": stamp}, indent=2) + "\n")
    (folder / f"{table.name}.md").write_text(markdown)
    summary = json.loads(SUMMARY.read_text()) if SUMMARY.is_file() else {}
    headline = {**table.headline, "date": stamp["date"], "commit": stamp["commit"]}
    summary.setdefault(f"speed_{table.name}", {})[machine] = headline
    SUMMARY.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")
    return markdown


def show(table: Table) -> str:
    """Return a table as Markdown and write nothing."""
    return _markdown(table, {})


def _stamp(*, load_before: float) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": _processor(),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
        "load before": round(load_before, 2),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _markdown(table: Table, stamp: dict[str, Any]) -> str:
    lines = table_lines(table.columns, ([_shown(cell) for cell in row] for row in table.rows))
    headline = "; ".join(f"{name} {value:.3g}" for name, value in table.headline.items())
    facts = ", ".join(f"{name} {value}" for name, value in stamp.items() if value is not None)
    return "\n".join(
        [f"# {table.title}", "", *lines, "", *(f"- {note}" for note in [*table.notes, headline, facts]), ""]
    )


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:.4g}"


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=RESULTS.parent
    )
    return described.stdout.strip()


def _processor_and_instructions(stamp: Mapping[str, Any]) -> str:
    """Name a processor with its widest instructions, in which processors of a family may differ."""
    widest = "AMX" if stamp["AMX"] else "AVX-512 with bf16" if stamp["bf16"] else stamp["instructions"]
    return f"{stamp['processor']}, {widest}"


def _processor() -> str:
    """Return the processor's name, and its family, since virtual machines give all generations one name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in facts:
        return platform.processor()
    return f"{facts['model name']}, family {facts['cpu family']}" if "cpu family" in facts else facts["model name"]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
