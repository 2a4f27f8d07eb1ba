"""Measure a trained model on a data set."""

from collections.abc import Callable
from pathlib import Path

import torch

from condetr.data.dataset import Split
from condetr.data.loader import eval_loader
from condetr.data.sources import open_split
from condetr.engine.evaluate import evaluate_shares
from condetr.errors import InputError
from condetr.inference.predictor import Predictor
from condetr.interop.loading import load
from condetr.labels import LabelMap
from condetr.metrics.coco import CocoResults


def evaluate(
    weights: Path | str,
    data: Path | str,
    *,
    split: str | None = None,
    batch_size: int = 1,
    workers: int = 0,
    device: str | torch.device | None = None,
) -> CocoResults:
    """Return the COCO numbers of a model on one split of a data set, in all and for each class.

    `weights` are whatever `condetr.load` takes, `data` is in COCO, Pascal VOC or YOLO layout; without `split` it is the
    validation split, else the test split; without `device` it runs on the GPU if there is one. Above a `batch_size` of
    1, padding changes the numbers a little. Raises InputError if weights or data cannot be used, or do not have the
    same classes.
    """
    predictor = load(weights, device=device)
    truth = open_split(Path(data), split=split)
    require_same_classes(predictor.label_map, truth.label_map, weights=weights, data=data)
    return evaluate_predictor(predictor, truth, batch_size=batch_size, workers=workers)


def evaluate_predictor(
    predictor: Predictor,
    split: Split,
    *,
    batch_size: int = 1,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CocoResults:
    """Return the COCO numbers of a loaded model; `progress` is told after each batch how many images it had."""
    return evaluate_shares(
        predictor.detector,
        split=split,
        loader=eval_loader(split, predictor.transform.build_eval(), batch_size=batch_size, workers=workers),
        scores=predictor.scores,
        device=predictor.device,
        progress=progress,
    ).results


def require_same_classes(known: LabelMap, given: LabelMap, *, weights: Path | str, data: Path | str) -> None:
    """Raise InputError unless a model and a data set have the same categories under the same ids."""
    if known.categories == given.categories:
        return
    only_known, only_given = (
        ", ".join(f"{category.name} ({category.dataset_id})" for category in there.categories if category not in others)
        for there, others in ((known, set(given.categories)), (given, set(known.categories)))
    )
    raise InputError(
        f"{weights} was trained on other classes than {data} has, by name (id): only in the weights "
        f"{only_known or '-'}; only in the data {only_given or '-'}; take data with the same category names and ids"
    )
