"""Turn the saved logs into tables, a figure and the headline ratios: `python -m benchmarks.convergence.summarise`."""

import json
import math
import typing
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console

from benchmarks.convergence import plan
from benchmarks.convergence.ratios import curve_of, headline, is_complete, published_ratios, ratios_of, there
from benchmarks.convergence.run import RESULTS, runs_of
from benchmarks.markdown import table_lines
from condetr.words import ap_text

SUMMARY = RESULTS.parent / "summary.json"

TITLES: dict[str, str] = {
    "stride32": "stride 32: 64 cells",
    "few": "stride 32, 500 scenes",
    "weighted": "64 cells, classification weighted",
    "dc5": "DC5: 256 cells",
    "few_dc5": "DC5, 500 scenes",
    "few_dc5_weighted": "DC5, 500 scenes, weight searched",
    "pretrained": "stride 32, pretrained backbone",
    "digits": "stride 32, handwritten digits",
}

KINDS = {
    "plain": "Without training aids",
    "groups": "With groups of queries",
    "denoising": "With denoising queries",
    "both": "With groups and denoising queries",
}

COLUMNS = 3
"""Panels of the figure side by side."""
TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Epochs on the axis of the figure."""


def main() -> None:
    """Write convergence.json, convergence.md, convergence.png and this benchmark's part of summary.json."""
    found = {setting: ratios_of(setting) for setting in typing.get_args(plan.Setting) if is_complete(setting)}
    published = {backbone: published_ratios(**sides) for backbone, sides in plan.PUBLISHED.items()}
    (RESULTS / "convergence.json").write_text(json.dumps({**found, "published": published}, indent=2) + "\n")
    table = "\n".join(
        line
        for lines in (_published_section(published), *(_section(*each) for each in found.items()))
        for line in lines
    )
    (RESULTS / "convergence.md").write_text(table + "\n")
    with_detr = {setting: values for setting, values in found.items() if values["detr"]}
    _picture(with_detr, published, RESULTS / "convergence.png")
    _summarise(found)
    Console().print(table, highlight=False)


def _published_section(published: dict[str, list[dict[str, Any]]]) -> list[str]:
    rows = (
        [f"{backbone}, {each['epochs']} epochs", *as_good_cells(each)]
        for backbone, schedules in published.items()
        for each in schedules
    )
    columns = ("DETR, complete schedule of", "AP", "Conditional DETR needs", "ratio")
    return ["## COCO, from published AP", "", *table_lines(columns, rows), ""]


def _section(setting: str, values: dict[str, Any]) -> list[str]:
    return [
        f"## {TITLES[setting]}",
        "",
        f"Two seeds; DETR with {values['detr_loss']}.",
        "",
        *table_lines(
            ("Conditional DETR, complete schedule of", "AP"),
            ([f"{epochs:g} epochs", ap_text(ap)] for epochs, ap in values["conditional_detr"].items()),
        ),
        "",
        *_detr_lines(values["detr"], levels=values["levels"]),
        *_faster_lines(values["faster"], than="without"),
        *_faster_lines(values["faster_than_paper"], than="with the paper's loss weights"),
        *_ablation_lines(values["ablations"]),
    ]


def _detr_lines(schedules: Sequence[dict[str, Any]], *, levels: dict[str, list[dict[str, Any]]]) -> list[str]:
    if not schedules:
        return []
    longest = schedules[-1]["epochs"]
    return [
        *table_lines(
            ("DETR, complete schedule of", "AP", "Conditional DETR needs", "ratio", "ratios between single seeds"),
            map(_schedule_row, schedules),
        ),
        "",
        *table_lines(
            ("on the way to", "AP: DETR", "Conditional DETR", "ratio", "AP50: ratio", "AP75: ratio"),
            (_level_row(measures, epochs=longest) for measures in zip(*levels.values(), strict=True)),
        ),
        "",
    ]


def _schedule_row(schedule: dict[str, Any]) -> list[str]:
    single = schedule["ratios_by_seeds"]
    equalled = [ratio for ratio in single if ratio is not None]
    between = f"{min(equalled):.1f} to {max(equalled):.1f}" if equalled else "-"
    if len(equalled) < len(single):
        between += f"; {len(single) - len(equalled)} of {len(single)} need more than was trained"
    return [f"{schedule['epochs']} epochs", *as_good_cells(schedule), between]


def _faster_lines(found: dict[str, dict[str, Any]], *, than: str) -> list[str]:
    """Return a table for each kind of schedule: how much shorter they are than others with the same AP."""
    lines = []
    for kind, schedules in found.items():
        ap = ", ".join(f"{epochs:g}: {ap_text(ap)}" for epochs, ap in schedules["complete_schedules"].items())
        rows = ([f"{each['epochs']:g} epochs", *as_good_cells(each)] for each in schedules["longer"])
        lines += [
            f"{KINDS[kind]}, AP after complete schedules of so many epochs: {ap}.",
            "",
            *table_lines((f"{than}, complete schedule of", "AP", "as good", "ratio"), rows),
            "",
        ]
    return lines


def as_good_cells(schedule: dict[str, Any]) -> list[str]:
    """Return the AP of a schedule, the epochs of the one that is as good, and the ratio of both."""
    ap, is_bound = ap_text(schedule["ap"]), schedule["ratio_is_a_lower_bound"]
    if schedule["ratio"] is None:
        return [ap, "more than was trained", "-"]
    needed, ratio = f"{schedule['epochs_needed']:.1f}", f"{schedule['ratio']:.1f}"
    return [ap, f"{'at most ' * is_bound}{needed}", f"**{'at least ' * is_bound}{ratio}**"]


def _ablation_lines(found: dict[str, list[float]]) -> list[str]:
    if len(found) < 2:  # one of them is also trained by itself
        return []
    rows = (
        [name, ap_text(mean(ap)), ", ".join(map(ap_text, ap)), ap_text(plan.PAPER[name])] for name, ap in found.items()
    )
    columns = (f"ablation, {plan.ABLATION_EPOCHS} epochs", "AP", "by seed", "paper's AP")
    return [*table_lines(columns, rows), ""]


def _level_row(measures: Sequence[dict[str, float | None]], *, epochs: int) -> list[str]:
    """Return the epochs in which AP, AP50 and AP75 reach one level."""
    ap, level = measures[0], measures[0]["level"]
    assert level is not None
    cells = ["never" if needed is None else f"{needed:.1f}" for needed in (ap["detr"], ap["conditional_detr"])]
    return [ap_text(level), *cells, *(_level_ratio(each, epochs=epochs) for each in measures)]


def _level_ratio(values: dict[str, float | None], *, epochs: int) -> str:
    if values["ratio"] is not None:
        return f"{values['ratio']:.1f}"
    conditional = values["conditional_detr"]
    return "-" if conditional is None else f"more than {epochs / conditional:.1f}"


def _picture(found: dict[str, Any], published: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw AP over epochs for each setting, and the ratio over the length of DETR's schedule."""
    rows = math.ceil((len(found) + 1) / COLUMNS)
    figure = plt.figure(figsize=(5 * COLUMNS, 4 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS)
    last = figure.add_subplot(grid[-1, len(found) % COLUMNS :])  # what the others leave of the last row
    for place, setting in enumerate(found):
        axis = figure.add_subplot(grid[place // COLUMNS, place % COLUMNS])
        for stage, colour, label in (("long", "tab:gray", "DETR"), ("schedules", "tab:red", "Conditional DETR")):
            for index, run in enumerate(there(runs_of(typing.cast(plan.Setting, setting), stage))):
                epochs, ap = zip(*curve_of(run), strict=True)
                axis.plot(epochs, ap, color=colour, label=None if index else label, lw=1.2)
                axis.plot(epochs[-1], ap[-1], "o", color=colour, ms=4)
        _label(axis, ylabel="AP", title=TITLES[setting])
    ratios = {TITLES[setting]: values["detr"] for setting, values in found.items()}
    ratios |= {f"COCO, {backbone}, published": schedules for backbone, schedules in published.items()}
    for name, schedules in ratios.items():
        shown = [(each["epochs"], each["ratio"]) for each in schedules if each["ratio"] is not None]
        if shown:
            last.plot(*zip(*shown, strict=True), "o-", label=name, ms=4, lw=1.2)
    _label(last, ylabel="times as many as Conditional DETR", title="complete schedules of DETR")
    figure.savefig(path, dpi=150)


def _label(axis: Axes, *, ylabel: str, title: str) -> None:
    axis.set(xscale="log", xlabel="epochs", ylabel=ylabel, title=title)
    first, last = axis.get_xlim()
    ticks = [tick for tick in TICKS if first <= tick <= last]
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def _summarise(found: dict[str, Any]) -> None:
    """Put the headline ratio of each setting into summary.json, and geometric means over all and for each map."""
    summary = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    by_setting = {setting: headline(values["detr"]) for setting, values in found.items() if values["detr"]}
    compared = [kinds for values in found.values() for kinds in (values["faster"], values["faster_than_paper"])]
    aided = [headline(kinds[aid]["longer"]) for kinds in compared for aid in plan.FASTER if aid in kinds]
    summary["convergence"] = {
        "geometric_mean": _mean([*by_setting.values()]),
        **{name: _mean([by_setting.get(setting) for setting in settings]) for name, settings in plan.MAPS.items()},
        "faster_than_paper": _mean(aided),
    }
    summary["convergence_by_setting"] = by_setting
    SUMMARY.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")


def _mean(ratios: Sequence[float | None]) -> float | None:
    """Return the geometric mean of those that are known."""
    known = [ratio for ratio in ratios if ratio is not None]
    return geometric_mean(known) if known else None


if __name__ == "__main__":
    main()
