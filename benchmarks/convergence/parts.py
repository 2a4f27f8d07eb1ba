"""Where the ratio comes from: `python -m benchmarks.convergence.parts --setting stride32`.

The models of all complete schedules are evaluated again on parts of the task: class-agnostic detection, objects by
their size, scenes by their number of objects, and the predictions of each decoder layer. For each part, DETR's AP is
compared with Conditional DETR's schedules, as for the whole task. The best epochs of the models under runs/convergence
are used.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from benchmarks.convergence import plan
from benchmarks.convergence.ratios import as_good, by_length, there
from benchmarks.convergence.run import RESULTS, RUNS, runs_of, scenes_of
from benchmarks.convergence.summarise import as_good_cells
from benchmarks.markdown import table_lines
from condetr.data.dataset import Split
from condetr.data.sources import open_data
from condetr.detectors.scores import RANKINGS, Scores
from condetr.inference.detect import to_detections
from condetr.inference.predictor import Predictor
from condetr.interop.loading import load
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import accumulated_evaluator, evaluate_coco
from condetr.shapes import Detections, Prediction

SIDES = {"sides below 12 pixels": (0, 12), "sides of 12 to 20": (12, 20), "sides from 20 on": (20, 1000)}
"""Thirds of the objects; a side is the root of the area."""
COUNTS = {"scenes of 1 to 3 objects": range(1, 4), "scenes of 6 to 8 objects": range(6, 9)}
OBJECT = LabelMap((Category(1, "object"),))
BATCH_SIZE = 50


def main(*, setting: Annotated[plan.Setting, typer.Option(help="Name of the setting.")] = "stride32") -> None:
    """Write parts.json and parts.md to the results of the setting."""
    split = open_data(scenes_of(setting)).val
    detr, conditional = (there(runs_of(setting, stage)) for stage in ("long", "schedules"))
    runs = [*detr, *conditional]
    found = {run.name: _evaluate(run, split) for run in track(runs, description="evaluating")}
    ratios = {
        part: _ratios(detr, conditional, ap={name: ap[part] for name, ap in found.items()})
        for part in found[runs[0].name]
    }
    folder, table = RESULTS / setting, _markdown(ratios)
    folder.mkdir(exist_ok=True)  # runs may belong to another setting
    (folder / "parts.json").write_text(json.dumps({"ratios": ratios, "ap": found}, indent=2) + "\n")
    (folder / "parts.md").write_text(table)
    Console().print(table, highlight=False)


def _ratios(detr: Sequence[plan.Run], conditional: Sequence[plan.Run], *, ap: dict[str, float]) -> list[dict[str, Any]]:
    """Return how much shorter Conditional DETR's schedules are than each of DETR's, from the AP of every run."""
    longer, curve = (by_length(runs, ap=lambda run: ap[run.name]) for runs in (detr, conditional))
    return [as_good(curve, epochs=epochs, ap=level) for epochs, level in longer]


def _evaluate(run: plan.Run, split: Split) -> dict[str, float]:
    predictor = load(RUNS / run.name)
    scores = predictor.detector.score_function
    assert scores is not None
    return measure(_predict(predictor, split), split, scores=scores)


def measure(layers: Sequence[Prediction], split: Split, *, scores: Scores) -> dict[str, float]:
    """Return the AP on each part of the task, from the predictions of each decoder layer for a split."""
    found = [_detections(layer, split, scores=scores) for layer in layers]
    by_layer = [evaluate_coco(split, each).AP for each in found]
    unnamed = _unnamed(split)
    objects = _detections(_unnamed_prediction(layers[-1], scores=scores), unnamed, scores=scores)
    return {
        "everything": by_layer[-1],
        "objects without their names": evaluate_coco(unnamed, objects).AP,
        **_ap_by_side(split, found[-1]),
        **{part: _ap_by_count(split, found[-1], counts=counts) for part, counts in COUNTS.items()},
        **{f"decoder layer {number}": ap for number, ap in enumerate(by_layer, start=1)},
    }


@torch.inference_mode()
def _predict(predictor: Predictor, split: Split) -> list[Prediction]:
    """Return the predictions of each decoder layer for all images of a split."""
    outputs = []
    for start in range(0, len(split), BATCH_SIZE):
        records = split.records[start : start + BATCH_SIZE]
        batch = predictor.make_batch([record.path for record in records]).to(predictor.device)
        output = predictor.detector(batch.normalised(), batch.is_padding)
        outputs.append([each.prediction for each in output.sets])
    return [Prediction(*map(torch.cat, zip(*layer, strict=True))) for layer in zip(*outputs, strict=True)]


def _detections(prediction: Prediction, split: Split, *, scores: Scores) -> dict[int, Detections]:
    return {
        record.image_id: to_detections(found, size_hw=record.size_hw, label_map=split.label_map)
        for record, found in zip(split.records, RANKINGS[scores](prediction, 100), strict=True)
    }


def _unnamed(split: Split) -> Split:
    """Return a split whose objects are all of one class."""
    records = (replace(record, labels=np.zeros_like(record.labels)) for record in split.records)
    return replace(split, records=tuple(records), label_map=OBJECT)


def _unnamed_prediction(prediction: Prediction, *, scores: Scores) -> Prediction:
    """Score every query once: by its best class (sigmoid), or by the probability that it is an object (softmax)."""
    logits: Float[Tensor, "B Q K"] = prediction.logits
    if scores == "sigmoid":
        return prediction._replace(logits=logits.amax(-1, keepdim=True))
    classes, no_object = logits[..., :-1], logits[..., -1:]
    return prediction._replace(logits=torch.cat([classes.logsumexp(-1, keepdim=True), no_object], dim=-1))


def _ap_by_side(split: Split, found: dict[int, Detections]) -> dict[str, float]:
    evaluator = accumulated_evaluator(split, found)
    evaluator.params.areaRng = [[low**2, high**2] for low, high in SIDES.values()]
    evaluator.params.areaRngLbl = list(SIDES)
    evaluator.evaluate()
    evaluator.accumulate()
    precision: Float[np.ndarray, "IoU R K A N"] = evaluator.eval["precision"]
    by_side = (precision[..., index, -1] for index in range(len(SIDES)))
    return {part: float(each[each > -1].mean()) for part, each in zip(SIDES, by_side, strict=True)}


def _ap_by_count(split: Split, found: dict[int, Detections], *, counts: range) -> float:
    records = tuple(record for record in split.records if len(record.labels) in counts)
    return evaluate_coco(
        replace(split, records=records), {record.image_id: found[record.image_id] for record in records}
    ).AP


def _markdown(ratios: dict[str, list[dict[str, Any]]]) -> str:
    heads = [(f"DETR, {each['epochs']} epochs: AP", "as good", "ratio") for each in ratios["everything"]]
    rows = ([part, *(cell for each in schedules for cell in as_good_cells(each))] for part, schedules in ratios.items())
    columns = ("AP on", *(column for head in heads for column in head))
    return "\n".join([*table_lines(columns, rows), ""])


if __name__ == "__main__":
    typer.run(main)
