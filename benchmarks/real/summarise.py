"""The tables of what was trained so far, from the kept logs; intervals over images need the folders under runs/real."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import gmean

from benchmarks.markdown import table_lines
from benchmarks.real import plan
from benchmarks.real.run import best_of, last_of
from condetr.data.transforms import LightTransformConfig
from condetr.metrics.matches import MATCHES, Matches
from condetr.recipes.cost import cost_of
from condetr.report.convergence import Unit
from condetr.report.equal_ap import DRAWS, Curve, Difference, EqualAp, Ratio, Side, compare_sides
from condetr.report.sides import bounds_text, warnings_of
from condetr.words import ap_difference_text, ap_text

SLOW, FAST = plan.PAIR


class Trained(NamedTuple):
    """The complete schedules of a detector on a data set: a row for each seed, a column for each length."""

    runs: list[list[plan.Run]]
    side: Side
    results: Path
    speeds: dict[str, float]

    def numbers(self, length: int, *, split: str, key: str = "AP") -> list[float]:
        """Return a number of each seed at a length, on `test`, `train` or `val`."""
        runs = [row[length] for row in self.runs]
        if split == "val":
            return [float(last_of(run, results=self.results)[key] or 0) for run in runs]
        return [float(_read(self.results / run.name / f"{split}.json")[key] or 0) for run in runs]


def summary(runs: Path, results: Path, *, draws: int = DRAWS) -> str:
    """Return the tables of all data sets as Markdown."""
    lines, headlines = [], []
    for data in plan.DATA:
        found = {each: trained for each in plan.DATA[data].seeds if (trained := trained_on(data, each, runs, results))}
        if not found:
            continue
        compared = {each: compare_sides(found[each].side, found[SLOW].side, draws=draws) for each in _others(found)}
        lines += [f"## {data}", "", *_schedules(found), "", *_detectors(data, found), ""]
        lines += [*_ratios(found, compared), "", *_shares(data, found), *_tuning(data, results), ""]
        headlines += [compared[FAST].rows[-1].ratios] if FAST in compared else []
    return "\n".join([*_over_all(headlines), *lines])


def trained_on(data: str, detector: str, runs: Path, results: Path) -> Trained | None:
    """Return the seeds of a detector whose schedules are all complete and evaluated; None if there are none."""
    rows = [row for row in _by_seed(data, detector, results) if all(_is_there(run, results) for run in row)]
    if not rows:
        return None
    files = [[runs / run.name / "test" / MATCHES for run in row] for row in rows]
    has_matches = all(file.exists() for row in files for file in row)
    speeds = _read(results / data / f"{detector}-speed.json")
    epochs = np.array([float(run.epochs) for run in rows[0]])
    progress: dict[Unit, np.ndarray] = {"epochs": epochs}
    if speeds:
        images = _read(results / rows[0][0].name / "results.json")["train_images"]
        progress["seconds"] = epochs * images / speeds["training"]
    side = Side(
        name=plan.DETECTORS[detector].title,
        progress=progress,
        ap=np.array([[float(_read(results / run.name / "test.json")["AP"] or 0) for run in row] for row in rows]),
        matches=tuple(tuple(map(Matches.load, row)) for row in files) if has_matches else (),
    )
    return Trained(rows, side, results, speeds)


def _by_seed(data: str, detector: str, results: Path) -> list[list[plan.Run]]:
    """Return the schedules of each seed, as far as the tuning is known."""
    tuned_as = plan.DETECTORS[detector].tuned_as or detector
    trials = plan.trials(data, tuned_as)
    if not all((results / run.name / "results.json").exists() for run in trials):
        return []
    again = plan.rate_trials(data, tuned_as, best=best_of(trials, results=results))
    if not all((results / run.name / "results.json").exists() for run in again):
        return []
    runs = plan.schedules(data, detector, best=best_of(again, results=results))
    return [[run for run in runs if run.seed == seed] for seed in dict.fromkeys(run.seed for run in runs)]


def _is_there(run: plan.Run, results: Path) -> bool:
    return all((results / run.name / f"{split}.json").exists() for split in ("test", "train"))


def _others(found: dict[str, Trained]) -> list[str]:
    return [each for each in found if each != SLOW] if SLOW in found else []


def _schedules(found: dict[str, Trained]) -> list[str]:
    """Return table 1: every detector after complete schedules of every length."""
    rows = [
        (
            *(trained.side.name, f"{run.epochs}", _spread(trained.numbers(length, split="test"))),
            ap_text(fmean(trained.numbers(length, split="test", key="AP50"))),
            *(ap_text(fmean(trained.numbers(length, split=split))) for split in ("val", "train")),
            str(len(trained.runs)),
        )
        for trained in found.values()
        for length, run in enumerate(trained.runs[0])
    ]
    return table_lines(("", "epochs", "AP on test", "AP50", "AP on val", "AP on the training images", "seeds"), rows)


def _detectors(data: str, found: dict[str, Trained]) -> list[str]:
    """Return table 2: all detectors after equal epochs and in equal minutes, the best first."""
    minutes = [each.side.progress["seconds"][-1] / 60 for each in found.values() if "seconds" in each.side.progress]
    equal = min(minutes, default=float("nan"))
    rows = []
    for each in sorted(found.values(), key=lambda each: -each.side.ap[:, -1].mean()):
        config = each.runs[0][-1].config(weights=Path("weights"))
        transform = config.data.transform
        assert isinstance(transform, LightTransformConfig)
        assert transform.size_hw is not None
        cost = cost_of(config.detector, num_classes=_num_classes(each), size_hw=transform.size_hw)
        time = each.side.progress.get("seconds")
        curve = None if time is None else Curve(time / 60, each.side.ap.mean(axis=0))
        rows.append(
            (
                *(each.side.name, ap_text(each.side.ap[:, -1].mean())),
                "-" if curve is None else ap_text(curve.after(equal)),
                "-" if time is None else f"{time[-1] / 60:.1f}",
                *(f"{cost.parameters / 1e6:.1f}", f"{cost.multiply_adds / 1e9:.2f}"),
                *(f"{each.speeds[key]:.1f}" if each.speeds else "-" for key in ("training", "prediction")),
            )
        )
    columns = (
        *(
            "",
            f"AP on test after {plan.DATA[data].longest} epochs",
            f"in {equal:.1f} minutes" if minutes else "in equal minutes",
            "minutes of all epochs",
        ),
        *("million parameters", "GMACs", "images/s in training", "images/s in prediction"),
    )
    return table_lines(columns, rows)


def _ratios(found: dict[str, Trained], compared: dict[str, EqualAp]) -> list[str]:
    """Return the ratios to equal AP against DETR's schedules, and the differences after equal ones."""
    if not compared:
        return []
    rows = [
        (
            *(found[name].side.name, f"{row.after:g}", ap_text(row.ap)),
            *(cell for unit in ("epochs", "seconds") for cell in _ratio_cells(row.ratios.get(unit))),
            *_difference_cells(result.differences, after=row.after),
        )
        for name, result in compared.items()
        for row in result.rows
    ]
    columns = ("", "DETR's epochs", "its AP", "times fewer epochs", "95 %", "times fewer minutes", "95 %")
    warnings = [
        f"{each.side.name}: {text}." for each in found.values() for text in warnings_of(each.side, found[SLOW].side)
    ]
    return [*table_lines((*columns, "difference of AP after equal epochs", "95 %"), rows), "", *dict.fromkeys(warnings)]


def _ratio_cells(ratio: Ratio | None) -> tuple[str, str]:
    if ratio is None:
        return "-", "-"
    return bounds_text(ratio.estimate), "-" if ratio.interval is None else bounds_text(ratio.interval)


def _difference_cells(differences: Sequence[Difference], *, after: float | None) -> tuple[str, str]:
    found = next((each for each in differences if (each.unit, each.after) == ("epochs", after)), None)
    if found is None:
        return "-", "-"
    ends = "-" if found.interval is None else " to ".join(map(ap_difference_text, found.interval))
    return ap_difference_text(found.ap[0] - found.ap[1]), ends


def _shares(data: str, found: dict[str, Trained]) -> list[str]:
    """Return AP on new images and on those that were trained on, for shares of the images and as many steps."""
    rows = []
    for name, each in found.items():
        runs = plan.share_runs(data, name, best=each.runs[0][0].tuning)
        there = [run for run in runs if _is_there(run, each.results)]
        for share in dict.fromkeys(run.share for run in there):
            of_share = [run for run in there if run.share == share]
            ap = (
                [float(_read(each.results / run.name / f"{split}.json")["AP"] or 0) for run in of_share]
                for split in ("test", "train")
            )
            rows.append((each.side.name, f"{float(share):.0%}", *map(_spread, ap), str(len(of_share))))
        if there:
            length = plan.LENGTHS.index(plan.SHARES_LENGTH)
            ap = (each.numbers(length, split=split) for split in ("test", "train"))
            rows.append((each.side.name, "100%", *map(_spread, ap), str(len(each.runs))))
    if not rows:
        return []
    return [*table_lines(("", "of the images", "AP on test", "AP on the training images", "seeds"), rows), ""]


def _tuning(data: str, results: Path) -> list[str]:
    """Return the AP of every trial on `val`."""
    rows = []
    for name, detector in plan.DETECTORS.items():
        trials = [run for run in plan.trials(data, name) if (results / run.name / "results.json").exists()]
        if trials:
            again = plan.rate_trials(data, name, best=best_of(trials, results=results))
            trials += [run for run in again if (results / run.name / "results.json").exists()]
        rows += [
            (detector.title, run.tuning.name, str(run.epochs), ap_text(last_of(run, results=results)["AP"]))
            for run in trials
        ]
    return table_lines(("tuning", "trial", "epochs", "AP on val"), rows)


def _over_all(headlines: Sequence[dict[Unit, Ratio]]) -> list[str]:
    """Return the geometric mean over the data sets of Conditional DETR's ratio of epochs to DETR."""
    found = [ratios["epochs"] for ratios in headlines]
    if not found:
        return []
    lows = [each.interval.low for each in found if each.interval is not None]
    least = f", of the intervals' lower ends {gmean(lows):.1f}" if len(lows) == len(found) else ""
    mean = gmean([each.estimate.low for each in found])
    return [
        f"Conditional DETR needs {mean:.1f} times fewer epochs than DETR's longest schedule to its AP{least} "
        f"(geometric means over {len(found)} data sets; bounds count as they are).",
        "",
    ]


def _num_classes(trained: Trained) -> int:
    return len(_read(trained.results / trained.runs[0][0].name / "results.json")["label_map"])


def _spread(values: Sequence[float]) -> str:
    mean = ap_text(fmean(values))
    return mean if len(values) < 2 else f"{mean} ({ap_text(min(values))} to {ap_text(max(values))})"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content
