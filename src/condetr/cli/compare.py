"""`condetr compare`: how fast runs converge, side by side."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from condetr.cli.compare_sides import difference_lines, show_sides
from condetr.cli.options import AsJson, Overwrite, print_json
from condetr.words import ap_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from condetr.report.convergence import Comparison, Need, SpeedUp, Unit


class CompareCommand(TyperCommand):
    """Takes several runs after `--against`, as a shell's pattern gives them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has a click of its own
        """Read the arguments as if the option stood before each of these runs."""
        return super().parse_args(ctx, _before_each("--against", args))


def _before_each(option: str, arguments: Sequence[str]) -> list[str]:
    repeated: list[str] = []
    after = False
    for argument in arguments:
        after = argument == option or (after and not argument.startswith("-"))
        repeated += [option, argument] if after and repeated[-1:] != [option] and argument != option else [argument]
    return repeated


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or log.txt of official DETR-family trainings.")
    ],
    *,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN...",
            help="Runs of another side. A side's runs differ in their seed and length alone: the ratio of epochs to "
            "equal AP then has a 95 % interval.",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            help="With --against: compare what `condetr evaluate RUN --matches --out RUN/EVALUATION` found, and draw "
            "images, too."
        ),
    ] = None,
    levels: Annotated[str | None, typer.Option(help="AP levels such as 0.2,0.3; by default round ones.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.png and comparison.json.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs: how long each took to reach an AP, and how many times faster than the first that is.

    Runs that differ only in the seed form a group, with a confidence interval. Differences in data, batch, schedule
    or evaluation are listed.
    """
    from condetr.errors import InputError
    from condetr.report.comparison import compare_runs, draw_comparison, draw_groups
    from condetr.report.sides import compare_two_sides
    from condetr.storage.atomic import require_free

    if out is not None:
        require_free(out, overwrite=overwrite)
    if against is None:
        if evaluation is not None:
            raise InputError("--evaluation is for two sides: name the runs of the other with --against")
        comparison = compare_runs(runs, levels=_levels(levels))
        content, figure, show = comparison.to_dict(), draw_comparison(comparison), partial(_show, comparison)
    else:
        sides = compare_two_sides(runs, against, levels=_levels(levels) or [], evaluation=evaluation)
        content, figure, show = sides.to_dict(), draw_groups(sides.groups), partial(show_sides, sides)
    if out is not None:
        _write(out, content, figure)
    if as_json:
        print_json(content)
    else:
        show(out=out)


def _levels(text: str | None) -> list[float] | None:
    from condetr.errors import InputError

    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--levels {text} is not a list of numbers separated by commas, such as 0.2,0.3") from None


def _show(comparison: "Comparison", *, out: Path | None) -> None:
    from rich.console import Console

    from condetr.report.convergence import UNITS

    console = Console(highlight=False, markup=False, soft_wrap=True)
    headings = _headings(comparison, width=console.width)
    for name, heading in headings.items():
        if heading != name:
            console.print(f"{heading}: {name}")
    for unit in UNITS:
        if any(unit in group.units for group in comparison.groups):
            console.print(_table(comparison, headings, unit=unit))
    for line in _remarks(comparison, headings):
        console.print(line)
    if out is not None:
        console.print(f"figure and numbers: {out}")


def _headings(comparison: "Comparison", *, width: int) -> dict[str, str]:
    """Return the heading of each group's column: its name, or a letter if the names are too wide side by side."""
    names = [group.name for group in comparison.groups]
    fits = sum(len(name) + 4 for name in names) <= width - 8
    return dict(zip(names, names if fits or len(names) > len(ascii_uppercase) else ascii_uppercase, strict=False))


def _table(comparison: "Comparison", headings: Mapping[str, str], *, unit: "Unit") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table("AP", box=box.SIMPLE_HEAD, title=f"{unit} to reach an AP", title_justify="left")
    for group in comparison.groups:
        table.add_column(headings[group.name], justify="right", overflow="fold")
    for level in dict.fromkeys(row.level for row in comparison.rows):
        rows = [row for row in comparison.rows if row.level == level]
        cells = (f"{_need(row.needs.get(unit))}{_speed_up(row.speed_ups.get(unit))}" for row in rows)
        table.add_row(ap_text(level), *cells)
    return table


def _need(need: "Need | None") -> str:
    if need is None:
        return ""
    if need.mean is not None:
        return f"{need.mean:,.2f}" if need.mean < 100 else f"{need.mean:,.0f}"
    reached = sum(each is not None for each in need.each)
    return "-" if reached == 0 else f"{reached} of {len(need.each)} runs"


def _speed_up(speed_up: "SpeedUp | None") -> str:
    if speed_up is None:
        return ""
    more_than = "> " if speed_up.is_lower_bound else ""
    interval = "" if speed_up.interval is None else "; {:.1f} to {:.1f}".format(*speed_up.interval)
    return f" ({more_than}{speed_up.ratio:.1f}x{interval})"


def _remarks(comparison: "Comparison", headings: Mapping[str, str]) -> list[str]:
    """Return notes on the numbers, and on differences besides the detector that may explain them."""
    first, *others = comparison.groups
    remarks = ["Linear interpolation between evaluations, from AP 0 at the start; a dash if the AP was not reached."]
    if others:
        remarks.append(
            f"In brackets: how many times faster than {headings[first.name]}; > if that one did not reach the AP."
        )
    if any(len(group.runs) > 1 for group in comparison.groups):
        remarks.append(
            "For several seeds: the geometric mean, and the ratio's 95 % interval if both groups have several."
        )
    remarks += difference_lines(comparison.differences, headings)
    if comparison.unknown:
        unknown = ", ".join(headings[name] for name in comparison.unknown)
        remarks.append(
            f"{unknown}: data, batch, schedule and evaluation are not recorded there, so it is unknown whether they "
            "differ"
        )
    return remarks


def _write(out: Path, content: dict[str, Any], figure: "Figure") -> None:
    from condetr.storage.atomic import replaced_file, write_json

    out.mkdir(parents=True, exist_ok=True)
    with replaced_file(out / "comparison.json") as draft:
        write_json(draft, content)
    with replaced_file(out / "comparison.png") as draft:
        figure.savefig(draft)
