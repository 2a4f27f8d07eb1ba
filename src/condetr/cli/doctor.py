"""`condetr doctor`: find the errors in a data set before training on it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import AsJson, Data, print_json
from condetr.recipes.advice import print_advice

if TYPE_CHECKING:
    from rich.console import Console

    from condetr.data.dataset import Finding
    from condetr.doctor.advice import Advice
    from condetr.doctor.clean import Cleaned
    from condetr.doctor.examine import Examination
    from condetr.recipes.advice import Adviser

FAULTY = 1
"""Exit code if errors were found; with --strict, also if warnings were."""
SHOWN_CLASSES, SHOWN_EXAMPLES = 20, 3
COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def doctor(
    data: Data,
    *,
    recipe: Annotated[
        str | None,
        typer.Option(help="The settings to train with: a recipe or a YAML file; otherwise a recipe is recommended."),
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a cleaned copy of the annotations, with links to images.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for warnings, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a data set: annotations, images and classes, and whether they suit a recipe and this machine.

    Exit code 0: no errors (with --strict: no warnings either). 1: errors, at which a training would stop.
    2: the data cannot be read at all.
    """
    from condetr.data.recognise import recognise

    source = recognise(data)  # before anything heavy is imported
    from condetr.doctor.advice import memory_finding
    from condetr.doctor.clean import require_image_files, write_cleaned
    from condetr.recipes.advice import Adviser
    from condetr.storage.atomic import require_free

    if fix is not None:
        require_free(fix, overwrite=None)
        require_image_files(source)
    adviser = Adviser(recipe)
    examination = _examine(data, adviser)
    memory = memory_finding(
        examination, plan=examination.plan, machine=adviser.machine, step_bytes=adviser.step_bytes(examination.plan)
    )
    cleaned = None if fix is None else write_cleaned(examination, pointed_at=data, out=fix)
    advice = adviser.after_examination(examination, data=data, cleaned=cleaned)
    findings = (*examination.findings, memory)
    show = _print_json if as_json else _print_tables
    show(data, examination, findings, advice, cleaned)
    worst = {finding.severity for finding in findings}
    raise typer.Exit(FAULTY if "error" in worst or (strict and "warning" in worst) else 0)


def _examine(data: Path, adviser: "Adviser") -> "Examination":
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from condetr.doctor.examine import examine

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("reading images", total=None)
        return examine(
            data,
            plan_for=adviser.plan_for,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


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
            f"\n[bold]cleaned copy[/] {escape(str(cleaned.data))}: {_what_was_cleaned(cleaned)}",
            soft_wrap=True,
        )
    print_advice(console, advice)


def _what_was_cleaned(cleaned: "Cleaned") -> str:
    from rich.markup import escape

    counts = {
        "dropped": cleaned.dropped,
        "changed": cleaned.changed,
        "left for you to decide": cleaned.undecided,
    }
    told = ", ".join(f"{count:,} {what}" if count else f"nothing {what}" for what, count in counts.items())
    return f"{told}; each is named in {escape(str(cleaned.protocol))}" if any(counts.values()) else told


def _print_overview(console: "Console", data: Path, examination: "Examination") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from condetr.data.stored.mirror import address_of

    splits = ", ".join(f"{name} {len(split):,}" for name, split in examination.splits.items())
    named = escape(address_of(data) or str(data))
    console.print(f"[bold]{named}[/]  {escape(examination.source.understood)}", soft_wrap=True)
    for note in examination.source.notes:
        console.print(f"[dim]{escape(note)}[/]", soft_wrap=True)
    console.print(f"images: {escape(splits)}", soft_wrap=True)
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
                table.add_row("", f"[dim]{escape(_below(root, example))}[/]")
    console.print(table)
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in COLOURS}
    told = (
        f"[{COLOURS[severity]}]{count} {severity}{'' if count == 1 or severity == 'info' else 's'}[/]"
        for severity, count in counts.items()
    )
    console.print("\n" + ", ".join(told))


def _below(root: Path, example: str) -> str:
    """Shorten the paths in a text that are inside the data folder."""
    for folder in (str(root.absolute()), str(root)):
        example = re.sub(rf"(?<![\w./-]){re.escape(folder)}/", "", example)
    return example


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
        "understood": examination.source.understood,
        "notes": list(examination.source.notes),
        "splits": {name: len(split) for name, split in examination.splits.items()},
        "classes": _class_rows(examination),
        "findings": [asdict(finding) for finding in findings],
        "first": advice.first,
        "command": advice.command,
        "start": advice.start,
        "instead": advice.instead,
        "reasons": [{"text": part.text, "reason": part.reason} for part in advice.parts],
        "cleaned": None if cleaned is None else {name: _plain(value) for name, value in cleaned._asdict().items()},
    }
    print_json(content)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
