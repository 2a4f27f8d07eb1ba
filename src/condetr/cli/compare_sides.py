"""What `condetr compare --against` prints."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from condetr.words import ap_difference_text, ap_text

if TYPE_CHECKING:
    from rich.table import Table

    from condetr.report.convergence import Difference, Unit
    from condetr.report.sides import Sides


def show_sides(sides: "Sides", *, out: Path | None) -> None:
    """Print the headline, the tables of ratios and differences, and what a reader must know of them."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(sides.headline)
    for unit in sides.result.rows[0].ratios:
        console.print(_ratio_table(sides, unit=unit))
    console.print(_difference_table(sides))
    where = "at the end of complete schedules" if sides.is_of_schedules else "on the way"
    console.print(f"AP {where}, interpolated monotonically in the logarithm of the length; intervals of 1,000 draws.")
    for line in (*(f"warning: {warning}" for warning in sides.warnings), *difference_lines(sides.differences)):
        console.print(line)
    if out is not None:
        console.print(f"figure and numbers: {out}")


def _ratio_table(sides: "Sides", *, unit: "Unit") -> "Table":
    from rich import box
    from rich.table import Table

    from condetr.report.sides import bounds_text

    divisor, word = (60.0, "minutes") if unit == "seconds" else (1.0, unit)
    ours, theirs = (group.name for group in sides.groups)
    table = Table("AP", box=box.SIMPLE_HEAD, title=f"{word} to reach an AP", title_justify="left")
    for heading in (theirs, ours, "times fewer", "95 %"):
        table.add_column(heading, justify="right", overflow="fold")
    for row in sides.result.rows:
        side, other = (
            bounds_text(need._replace(low=need.low / divisor, high=need.high / divisor)) for need in row.needs[unit]
        )
        estimate, interval = row.ratios[unit]
        table.add_row(
            ap_text(row.ap), other, side, bounds_text(estimate), "-" if interval is None else bounds_text(interval)
        )
    return table


def _difference_table(sides: "Sides") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table("after", box=box.SIMPLE_HEAD, title="AP after equally long trainings", title_justify="left")
    for heading in (*(group.name for group in sides.groups), "difference", "95 %"):
        table.add_column(heading, justify="right", overflow="fold")
    for each in sides.result.differences:
        after = f"{each.after / 60:,.1f} minutes" if each.unit == "seconds" else f"{each.after:g} {each.unit}"
        ends = "-" if each.interval is None else " to ".join(map(ap_difference_text, each.interval))
        table.add_row(after, *map(ap_text, each.ap), ap_difference_text(each.ap[0] - each.ap[1]), ends)
    return table


def difference_lines(
    differences: "Sequence[Difference]", headings: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return lines on the settings that differ, under their topics; `headings` are other names of the groups."""
    lines = []
    for topic, of_topic in groupby(differences, key=lambda difference: difference.topic):
        lines.append(f"They differ in {topic}:")
        for each in of_topic:
            values = (f"{_value(value)} in {headings.get(name, name)}" for name, value in each.values.items())
            lines.append(f"  {each.setting}: {', '.join(values)}")
    return lines


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
