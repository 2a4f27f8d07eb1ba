"""Overfit one batch: the quickest check that labels, boxes, losses and learning rate fit together."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from condetr.data.dataset import Split
from condetr.data.loader import eval_loader
from condetr.detectors.detector import Detector
from condetr.engine.config import TrainConfig
from condetr.engine.optim import CosineScheduleConfig, set_learning_rates
from condetr.engine.results import Evaluation, evaluate_shares
from condetr.engine.step import losses_of
from condetr.errors import InputError
from condetr.inference.predictor import usable_device
from condetr.layers.attention import DotProductAttention

OVERFIT_AP50 = 0.8
"""AP50 from which the batch counts as overfitted: four crowded photographs of BCCD reach 0.84 after 300 steps."""


class Sanity(NamedTuple):
    """The result of overfitting a batch."""

    split: Split
    """The images of the batch."""
    evaluation: Evaluation
    losses: tuple[float, ...]
    """The loss of every step."""
    passed: bool
    verdict: str
    """An explanation of the result, and what to try."""


def overfit(
    config: TrainConfig,
    split: Split,
    *,
    num_images: int,
    steps: int,
    progress: Callable[[int, float], None] | None = None,
) -> Sanity:
    """Train a new detector on a few images of a split, without augmentation or dropout, and evaluate it on them.

    `progress` is called with every step and its loss. Raises InputError if no image of the split has a box.
    """
    chosen = _some_with_boxes(split, count=num_images, seed=config.seed)
    loader = eval_loader(chosen, config.data.transform.build_eval(), batch_size=len(chosen))
    (batch,) = loader
    torch.manual_seed(config.seed)
    device = usable_device()
    detector = without_dropout(config.detector.build(num_classes=len(split.label_map))).to(device)
    criterion = config.detector.build_criterion()
    optimizer = config.optimizer.build(detector)
    schedule = CosineScheduleConfig(warmup_steps=min(20, steps // 2)).build(steps_per_epoch=steps, steps=steps)
    batch = batch.to(device)
    num_boxes = float(sum(batch.targets.counts))
    losses = []
    for step in range(steps):
        set_learning_rates(optimizer, schedule(step))
        report = losses_of(detector, criterion, batch, num_boxes=num_boxes)
        optimizer.zero_grad()
        report["loss"].backward()
        for part, limit in config.optimizer.limits(optimizer):
            torch.nn.utils.clip_grad_norm_([p for group in part.param_groups for p in group["params"]], limit)
        optimizer.step()
        losses.append(float(report["loss"].detach()))
        if progress is not None:
            progress(step, losses[-1])
        if not math.isfinite(losses[-1]):
            break
    evaluation = evaluate_shares(detector, split=chosen, loader=loader, device=device)
    ap50 = evaluation.results.AP50
    return Sanity(chosen, evaluation, tuple(losses), ap50 >= OVERFIT_AP50, verdict(losses, ap50=ap50))


def without_dropout(detector: Detector) -> Detector:
    """Return the detector, which drops nothing from now on; the rest of it learns as before."""
    for module in detector.modules():
        if isinstance(module, nn.Dropout | DotProductAttention):
            module.eval()
    return detector


def verdict(losses: list[float], *, ap50: float) -> str:
    """Return a sentence about the losses and the AP50 on the batch, and what to try."""
    first, last = losses[0], losses[-1]
    if not math.isfinite(last):
        return f"the loss became {last} at step {len(losses)}: optimizer.lr is too large, try a third of it"
    if ap50 >= OVERFIT_AP50:
        return "the batch was overfitted: labels, boxes and settings are sound"
    if last > 0.7 * first:
        return (
            f"the loss hardly fell ({first:.3g} to {last:.3g}): check in the pictures whether the boxes lie on the "
            "objects; if they do, try a larger optimizer.lr"
        )
    return (
        "the loss fell, but the batch was not overfitted: look in the pictures for boxes that do not lie on their "
        "objects or have the wrong class; if there are none, the objects may be too small (a larger "
        "data.transform.size_hw), there may be too many for the detector, or too few --steps"
    )


def _some_with_boxes(split: Split, *, count: int, seed: int) -> Split:
    """Return a split of at most `count` images with boxes to learn, chosen by the seed."""
    useful = [record for record in split.records if not record.is_crowd.all()]
    if not useful:
        raise InputError(f"no image of the split {split.name!r} has a box, so there is nothing to learn")
    chosen = random.Random(seed).sample(useful, min(count, len(useful)))
    return replace(split, records=tuple(chosen))
