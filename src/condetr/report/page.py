"""`report.html`: the results of a run on one self-contained page."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

import condetr
from condetr.data.dataset import Split
from condetr.inference import DEFAULT_THRESHOLD
from condetr.interop.loading import load
from condetr.metrics.errors import KINDS, MEANINGS, find_errors
from condetr.metrics.matching import confusion_matrix, image_f1, precision_recall
from condetr.metrics.threshold import best_threshold
from condetr.report import figures
from condetr.report.attention import make_attention
from condetr.report.explorer import write_pages
from condetr.report.gallery import data_uri, make_gallery, worst_and_best
from condetr.runs.contents import Contents, History, read_contents
from condetr.runs.folder import RunFolder
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file, write_text
from condetr.words import ap_text

MOST_CLASSES = 3
"""Classes that are named for a kind of errors."""

BY_SIZE = ("AP_small", "AP_medium", "AP_large")
RECALLS = ("AR_1", "AR_10", "AR_100")
COUNTS = ("epochs", "best_epoch", "steps", "images_seen", "train_images", "val_images", "parameters")


class Figure(NamedTuple):
    """A chart and its caption."""

    title: str
    data_uri: str


class Number(NamedTuple):
    """A headline."""

    name: str
    value: str
    note: str = ""


def write_report(
    run_folder: Path,
    *,
    split: Split | None,
    detections: Mapping[int, Detections] | None,
    device: str | None = None,
) -> Path:
    """Write `report.html` into a run folder, and `explorer/` with the pages it links to; return its path.

    Precision-recall curves, the confusion matrix and the gallery need the split and the detections on it. Attention
    maps are computed on `device`, by default the GPU if there is one. Missing files are named on the page, and their
    sections are left out. Raises InputError if there is no such folder or a file in it is damaged.
    """
    run = RunFolder(run_folder)
    contents = read_contents(run)
    seen = _what_it_saw(run, split, detections, device=device) if split is not None and detections is not None else {}
    results = contents.results or {}
    html = _template().render(
        name=run_folder.resolve().name,
        recipe=results.get("recipe"),
        version=condetr.__version__,
        headline=_headline(results),
        details=_details(results),
        curves=_curves(contents.history),
        first_batch=data_uri(Image.open(run.first_batch)) if run.first_batch.is_file() else None,
        notices=_notices(results),
        per_class=_per_class(results),
        label_map=contents.label_map.to_list() if contents.label_map is not None else [],
        config_yaml=contents.config_yaml,
        versions=results.get("versions") or {},
        missing=_missing(run, contents, split=split, detections=detections),
        **seen,
    )
    path = run_folder / "report.html"
    with replaced_file(path) as draft:
        write_text(draft, html)
    return path


def _template() -> jinja2.Template:
    text = resources.files("condetr.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True)
    return environment.from_string(text)


def _what_it_saw(
    run: RunFolder, split: Split, detections: Mapping[int, Detections], *, device: str | None
) -> dict[str, Any]:
    curves = precision_recall(split, detections)
    best = best_threshold(split, detections)
    threshold = DEFAULT_THRESHOLD if best is None else best.threshold
    errors = _errors(split, detections, threshold=threshold)
    detections = {image_id: each.one_name_each() for image_id, each in detections.items()}
    names = split.label_map.names
    charts = [figures.precision_recall_chart(curves, names=names, iou=iou) for iou in (50, 75)]
    matrix = confusion_matrix(split, detections, threshold=threshold)
    predictor = load(run.path, device=device) if run.best.is_dir() else None
    f1 = image_f1(split, detections, threshold=threshold)
    extremes = worst_and_best(split, f1)
    pages = {} if predictor is None else write_pages(run, predictor, extremes, detections, threshold=threshold)
    return {
        "threshold": threshold,
        "is_best_threshold": best is not None,
        "precision_recall": [chart for chart in charts if chart is not None],
        "errors": errors,
        "confusion": figures.confusion_chart(matrix, names=names),
        "gallery": make_gallery(split, detections, extremes, f1=f1, threshold=threshold, pages=pages),
        "attention": None if predictor is None else make_attention(predictor, split, detections, threshold=threshold),
    }


def _errors(split: Split, detections: Mapping[int, Detections], *, threshold: float) -> list[dict[str, Any]]:
    """Return a row for each kind of errors: what it costs, and where those at the threshold are."""
    costs = find_errors(split, detections).costs
    if np.isnan(costs).any():
        return []
    there = find_errors(split, {id_: found.one_name_each().above(threshold) for id_, found in detections.items()})
    return [
        {
            "kind": kind,
            "meaning": MEANINGS[kind],
            "cost": float(cost),
            "cost_text": ap_text(float(cost)),
            "count": int(by_class.sum()),
            "sizes": by_size.tolist(),
            "classes": ", ".join(
                f"{split.label_map.names[label]} {by_class[label]:,}"
                for label in np.argsort(-by_class, kind="stable")[:MOST_CLASSES]
                if by_class[label]
            ),
        }
        for kind, cost, by_class, by_size in zip(KINDS, costs, there.counts, there.size_counts, strict=True)
    ]


def _curves(history: History | None) -> list[Figure]:
    if history is None:
        return []
    charts = {
        "Accuracy on the validation images": figures.accuracy_chart(history),
        "Training losses": figures.loss_chart(history),
        "Learning rate": figures.learning_rate_chart(history),
    }
    return [Figure(title, chart) for title, chart in charts.items() if chart is not None]


def _headline(results: Mapping[str, Any]) -> list[Number]:
    notes = {"AP": "mean over IoU 0.50 to 0.95", "AP50": "IoU 0.50", "AP75": "IoU 0.75"}
    numbers = [Number(name, ap_text(results[name]), note) for name, note in notes.items() if name in results]
    if results.get("train_seconds") is not None:
        numbers.append(Number("training time", _duration(float(results["train_seconds"]))))
    return numbers


def _details(results: Mapping[str, Any]) -> list[Number]:
    shares = {name: results[name] for name in (*BY_SIZE, *RECALLS) if name in results}
    counts = {name: results[name] for name in COUNTS if results.get(name) is not None}
    return [
        *(Number(name.replace("AR_", "AR@").replace("_", " "), ap_text(share)) for name, share in shares.items()),
        *(Number(name.replace("_", " "), f"{count:,}") for name, count in counts.items()),
        *([Number("measured on", str(results["split"]))] if "split" in results else []),
    ]


def _per_class(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**row, **{f"{name}_text": ap_text(row[name]) for name in ("AP", "AP50")}}
        for row in results.get("per_class") or []
    ]


def _notices(results: Mapping[str, Any]) -> list[str]:
    """Return the warnings of the training and about its data."""
    findings = [finding for finding in results.get("findings") or [] if finding["severity"] != "info"]
    return [
        *(results.get("warnings") or {}).values(),
        *(f"{each['what']} ({'; '.join(each['examples'])})" for each in findings),
    ]


def _missing(
    run: RunFolder, contents: Contents, *, split: Split | None, detections: Mapping[int, Detections] | None
) -> list[str]:
    without_split = ["the images"] if split is None else []
    without_detections = ["detections on them"] if detections is None else []
    without_model = [] if run.best.is_dir() else ["the best model"]
    return [*contents.missing, *without_model, *without_split, *without_detections]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
