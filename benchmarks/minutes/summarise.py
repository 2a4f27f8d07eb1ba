"""Tables of what was reached in the same minutes: `python -m benchmarks.minutes.summarise`."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from benchmarks.markdown import table_lines
from condetr.words import ap_text

RESULTS = Path("benchmarks/results/minutes")
BASE = "recipe"
"""The change that changes nothing."""

Results = dict[str, Any]


def main() -> None:
    """Write and print the tables of all data sets, recipes and budgets."""
    groups = sorted({path.parents[1] for path in RESULTS.rglob("results.json")})
    lines = [line for group in groups for line in (f"## {group.relative_to(RESULTS)}", "", *table_of(group), "")]
    (RESULTS / "minutes.md").write_text("\n".join(lines))
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def table_of(group: Path) -> list[str]:
    """Return the table of the runs in a folder, the best change first.

    AP is that of the last epoch. The gain is the mean over seeds that both the change and the recipe were trained with,
    and its least and largest value.
    """
    runs = runs_in(group)
    ranked = sorted(runs, key=lambda name: -fmean(_ap(each) for each in runs[name].values()))
    columns = ("change", "AP", "AP50", "gain in AP", "epochs", "steps", "seeds")
    return table_lines(columns, (_row(name, runs[name], base=runs.get(BASE, {})) for name in ranked))


def runs_in(group: Path) -> dict[str, dict[int, Results]]:
    """Return the results of complete runs, by change and seed."""
    found: dict[str, dict[int, Results]] = defaultdict(dict)
    for path in sorted(group.glob("*/results.json")):
        name, _, seed = path.parent.name.rpartition("-seed")
        found[name][int(seed)] = json.loads(path.read_text())
    return found


def _row(name: str, by_seed: Mapping[int, Results], *, base: Mapping[int, Results]) -> list[str]:
    runs = list(by_seed.values())
    gains = [_ap(by_seed[seed]) - _ap(base[seed]) for seed in by_seed if seed in base and name != BASE]
    gain = f"{fmean(gains):+.3f}" if gains else ""
    if len(gains) > 1:
        gain += f" ({min(gains):+.3f} to {max(gains):+.3f})"
    means = {count: fmean(float(each[count]) for each in runs) for count in ("epochs", "steps")}
    return [
        *(name, ap_text(fmean(map(_ap, runs))), ap_text(fmean(_ap(each, at="AP50") for each in runs)), gain),
        *(f"{means['epochs']:.0f}", f"{means['steps']:.0f}", str(len(runs))),
    ]


def _ap(results: Results, *, at: str = "AP") -> float:
    return float(results["last"][at] or 0)


if __name__ == "__main__":
    main()
