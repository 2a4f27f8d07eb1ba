"""What the heads of trained models watch: `python -m benchmarks.convergence.heads --setting dc5`.

It makes figures 1 and 4 of the paper for Conditional DETR, DETR after as many epochs or a few more, and DETR after a
long schedule, all with one seed. Every object that Conditional DETR detects in the validation scenes is matched with
the other models' detections; the tables show the mean attention of each head in the last decoder layer over these
objects. Of the objects that all models detect at the same place, the figures show the one on which Conditional DETR's
heads specialise most clearly. The trained models must be under runs/convergence.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from torchvision.ops import box_iou

from benchmarks.convergence import plan
from benchmarks.convergence.ratios import there
from benchmarks.convergence.run import RESULTS, RUNS, choose, runs_of, scenes_of
from benchmarks.markdown import table_lines
from condetr.data.dataset import ImageRecord
from condetr.data.images import read_image
from condetr.data.sources import open_data
from condetr.explain.choose import Shown
from condetr.explain.choose import choose as choose_detections
from condetr.explain.measures import OPPOSITE, SIDES, MapNumbers, heads_of_sides, mean, watched
from condetr.explain.render import draw_heads, draw_models
from condetr.explain.view import look
from condetr.inference.predictor import Predictor
from condetr.interop.loading import load

THRESHOLD = 0.7


def main(
    *,
    setting: Annotated[plan.Setting, typer.Option(help="Name of the setting.")] = "dc5",
    images: Annotated[int, typer.Option(min=1, help="Number of validation scenes.")] = 200,
) -> None:
    """Write heads.json, heads.md and the figures to the results of the setting."""
    models = {name: load(RUNS / run.name) for name, run in _runs(setting).items()}
    objects = _objects(models, open_data(scenes_of(setting)).val.records[:images])
    seen_by_all = list(filter(_is_one_object, objects))
    if not seen_by_all:
        raise SystemExit(f"no object in {images} scenes is detected by all models at the same place; use more scenes")
    habits = {
        name: [mean(numbers) for numbers in zip(*(shown.explanation.places() for shown in seen), strict=True)]
        for name, seen in zip(models, zip(*objects, strict=True), strict=True)
    }
    folder, table = RESULTS / setting, _markdown(habits, objects=len(objects))
    folder.mkdir(exist_ok=True)  # runs may belong to another setting
    heads = {name: [each.to_dict() for each in numbers] for name, numbers in habits.items()}
    (folder / "heads.json").write_text(json.dumps({"objects": len(objects), "heads": heads}, indent=2) + "\n")
    (folder / "heads.md").write_text(table)
    clearest = max(seen_by_all, key=lambda seen: _parting(seen[0].explanation.places()))
    draw_models(clearest).savefig(folder / "heads.png")
    draw_heads(clearest[0]).savefig(folder / "heads-conditional.png")
    draw_heads(clearest[-1]).savefig(folder / "heads-detr.png")
    Console().print(table, highlight=False)


def _runs(setting: plan.Setting) -> Mapping[str, plan.Run]:
    choice = choose(setting)
    schedules, epochs = there(runs_of(setting, "schedules")), plan.search_epochs(setting)["detr"]
    conditional = max((run for run in schedules if run.epochs <= epochs), key=lambda run: run.epochs)
    tuned = (choice.detr, choice.tuning[choice.detr])
    short = next(run for run in plan.search(setting) if (run.side, run.tuning) == tuned)
    trained = [run for run in there(runs_of(setting, "long")) if run.seed == conditional.seed]
    long = max(trained, key=lambda run: run.epochs)
    return {
        f"Conditional DETR, {conditional.epochs} epochs": conditional,
        f"DETR, {short.epochs} epochs": short,
        f"DETR, {long.epochs} epochs": long,
    }


def _objects(models: Mapping[str, Predictor], records: Sequence[ImageRecord]) -> list[list[Shown]]:
    """Return the first model's detections, each with the matching detections of all models."""
    objects = []
    for record in track(records, description="looking"):
        pixels = read_image(record.path).permute(1, 2, 0).numpy()
        views = {name: look(predictor, pixels) for name, predictor in models.items()}
        if views[next(iter(views))].detections.scores[0] >= THRESHOLD:
            objects += choose_detections(views, query="all", threshold=THRESHOLD)
    return objects


def _is_one_object(seen: Sequence[Shown]) -> bool:
    """Tell whether the boxes of all models overlap that of the first (IoU) by half or more."""
    boxes_xyxy = torch.stack([torch.from_numpy(shown.explanation.box_xyxy) for shown in seen])
    return bool((box_iou(boxes_xyxy[:1], boxes_xyxy) >= 0.5).all())


def _parting(heads: Sequence[MapNumbers]) -> float:
    """Return the smallest difference, over the sides, of a head's mass at its side and at the opposite one."""
    chosen = heads_of_sides(heads)
    return min(heads[head].at_sides[side] - heads[head].at_sides[OPPOSITE[side]] for side, head in chosen.items())


def _markdown(habits: Mapping[str, Sequence[MapNumbers]], *, objects: int) -> str:
    rows = [
        [
            name,
            str(number),
            watched(head),
            *(f"{100 * share:.0f} %" for share in (*(head.at_sides[side] for side in SIDES), head.in_box)),
            f"{head.entropy:.1f}",
        ]
        for name, heads in habits.items()
        for number, head in enumerate(heads)
    ]
    columns = ("model", "head", "watches", *SIDES, "in the box", "bits")
    title = f"Spatial attention of the last decoder layer, mean over {objects} objects."
    return "\n".join([title, "", *table_lines(columns, rows), ""])


if __name__ == "__main__":
    typer.run(main)
