"""`condetr doctor`: what is wrong with a data set, before it costs a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.as_json import AsJson, print_json
from condetr.cli.options import Data

if TYPE_CHECKING:
    from rich.console import Console

    from condetr.data.dataset import Finding
    from condetr.doctor.advice import Advice
    from condetr.doctor.clean import Cleaned
    from condetr.doctor.examine import Examination
    from condetr.doctor.plan import Plan
    from condetr.engine.config import TrainConfig

FAULTY = 1
"""Exit code when errors were found, with --strict also when warnings were."""
SHOWN_CLASSES, SHOWN_EXAMPLES = 20, 3
COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def doctor(
    data: Data,
    *,
    recipe: Annotated[
        str, typer.Option(help="What the data shall be trained with: a recipe, or a YAML file of settings.")
    ] = "conditional_detr_mobilenet",
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a cleaned copy of the annotations, with links to images.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for warnings, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a data set: annotations, images and classes, and whether they suit a recipe and this machine.

    Exit code 0: nothing worse than warnings (with --strict: than remarks). 1: errors, at which a training would stop.
    2: it cannot be read at all.
    """
    from functools import partial

    from condetr.data.findings import Fault
    from condetr.doctor.advice import advise, memory_finding
    from condetr.doctor.clean import write_cleaned
    from condetr.doctor.machine import this_machine
    from condetr.doctor.memory import step_bytes
    from condetr.inference.atomic import require_free
    from condetr.recipes import registry

    config = registry.recipe(recipe)
    if fix is not None:
        require_free(fix, overwrite=None)
    plan, machine, takes = _plan(recipe, config), this_machine(), partial(step_bytes, config.detector)
    examination = _examine(data, plan)
    memory = memory_finding(examination, plan=plan, machine=machine, step_bytes=takes)
    cleaned = None if fix is None else write_cleaned(examination, pointed_at=data, out=fix)
    train = examination.splits[examination.train]
    advice = advise(
        examination,
        data=data if cleaned is None else cleaned.data,
        num_images=len(train) if cleaned is None else cleaned.training_images,
        num_unreadable=len(examination.counter.places(Fault.BROKEN_IMAGE)) if cleaned is None else 0,
        plan=plan,
        machine=machine,
        step_bytes=takes,
    )
    findings = (*examination.findings, memory)
    show = _print_json if as_json else _print_tables
    show(data, examination, findings, advice, cleaned)
    worst = {finding.severity for finding in findings}
    raise typer.Exit(FAULTY if "error" in worst or (strict and "warning" in worst) else 0)


def _plan(name: str, config: "TrainConfig") -> "Plan":
    from dataclasses import replace

    from condetr.doctor.memory import stride_of
    from condetr.engine.loaders import plan_of
    from condetr.recipes.registry import RECIPES

    summary = RECIPES[name].summary if name in RECIPES else "the settings that the data was checked against"
    return replace(plan_of(config, stride=stride_of(config.detector)), recipe=name, summary=summary)


def _examine(data: Path, plan: "Plan") -> "Examination":
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from condetr.doctor.examine import examine

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("reading images", total=None)
        return examine(data, plan=plan, progress=lambda done, total: progress.update(task, completed=done, total=total))


def _print_tables(
    data: Path,
    examination: "Examination",
    findings: "tuple[Finding, ...]",
    advice: "Advice",
    cleaned: "Cleaned | None",
) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    _print_overview(console, data, examination)
    _print_findings(console, findings, root=examination.source.root)
    if cleaned is not None:
        console.print(
            f"\n[bold]cleaned copy[/] {escape(str(cleaned.data))}: {cleaned.dropped:,} dropped, "
            f"{cleaned.changed:,} changed, {cleaned.undecided:,} left for you to decide; "
            f"each is named in {escape(str(cleaned.protocol))}",
            soft_wrap=True,
        )
    _print_advice(console, advice)


def _print_overview(console: "Console", data: Path, examination: "Examination") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    layout = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO"}[examination.source.layout]
    splits = ", ".join(f"{name} {len(split):,}" for name, split in examination.splits.items())
    console.print(f"[bold]{escape(str(data))}[/]  {layout}, images: {escape(splits)}", soft_wrap=True)
    table = Table("class", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("id in file", "training id", *(f"boxes in {name}" for name in examination.splits)):
        table.add_column(heading, justify="right")
    rows = _class_rows(examination)
    for row in rows[:SHOWN_CLASSES]:
        boxes = (f"{count:,}" for count in row["boxes"].values())
        table.add_row(escape(row["name"]), str(row["dataset_id"]), str(row["training_id"]), *boxes)
    console.print(table)
    if len(rows) > SHOWN_CLASSES:
        console.print(f"... and {len(rows) - SHOWN_CLASSES:,} more classes: see --json")


def _class_rows(examination: "Examination") -> list[dict[str, Any]]:
    import numpy as np

    rows = examination.label_map.to_list()
    labels = {
        name: np.concatenate([np.zeros(0, dtype=np.int64), *(record.labels for record in split.records)])
        for name, split in examination.splits.items()
    }
    counts = {name: np.bincount(found, minlength=len(rows)).tolist() for name, found in labels.items()}
    return [{**row, "boxes": {name: counts[name][row["training_id"]] for name in counts}} for row in rows]


def _print_findings(console: "Console", findings: "tuple[Finding, ...]", *, root: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for severity, colour in COLOURS.items():
        for finding in (finding for finding in findings if finding.severity == severity):
            table.add_row(f"[bold {colour}]{severity}[/]", escape(finding.what))
            shown = finding.examples[:SHOWN_EXAMPLES]
            rest = [f"... and {finding.count - len(shown):,} more"] if shown and finding.count > len(shown) else []
            for example in [*shown, *rest]:
                table.add_row("", f"[dim]{escape(example.replace(f'{root}/', ''))}[/]")
    console.print(table)
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in COLOURS}
    told = (
        f"[{COLOURS[severity]}]{count} {severity}{'' if count == 1 or severity == 'info' else 's'}[/]"
        for severity, count in counts.items()
    )
    console.print("\n" + ", ".join(told))


def _print_advice(console: "Console", advice: "Advice") -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"\n[bold]train it with[/]\n  [green]{escape(advice.command)}[/]\n", soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    for part in advice.parts:
        table.add_row(escape(part.text), f"[dim]{escape(part.reason)}[/]")
    console.print(table)


def _print_json(
    data: Path,
    examination: "Examination",
    findings: "tuple[Finding, ...]",
    advice: "Advice",
    cleaned: "Cleaned | None",
) -> None:
    from dataclasses import asdict

    content = {
        "data": str(data),
        "layout": examination.source.layout,
        "splits": {name: len(split) for name, split in examination.splits.items()},
        "classes": _class_rows(examination),
        "findings": [asdict(finding) for finding in findings],
        "command": advice.command,
        "reasons": [part._asdict() for part in advice.parts],
        "cleaned": None if cleaned is None else {name: _plain(value) for name, value in cleaned._asdict().items()},
    }
    print_json(content)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
