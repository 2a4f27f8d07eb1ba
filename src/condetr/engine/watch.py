"""Checks whether a training learns. Each check is a pure function of recorded numbers that returns a warning or None.

A warning says what was observed, the likely cause and what to try.
"""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import torch
from jaxtyping import Float

from condetr.data.dataset import Split
from condetr.engine.checkpoint import Progress
from condetr.engine.config import Precision, TrainConfig
from condetr.engine.results import Evaluation
from condetr.optimize.machine import is_slow
from condetr.shapes import Detections
from condetr.words import ap_text, counted

Concerns = dict[str, str | None]
"""Warnings by the name of the check."""

FEWEST_STEPS = {"scratch": 1000, "weights": 200}
"""Detectors trained from scratch have AP 0 for about this many steps, even on easy scenes."""


def at_start(config: TrainConfig, *, steps: int, device: torch.device) -> Concerns:
    """Check the settings before the first of `steps` steps."""
    from_weights = config.init_from is not None
    warmup_steps = config.schedule.warmup_steps
    return {
        "few_steps": few_steps(steps=steps, warmup_steps=warmup_steps, from_weights=from_weights),
        "unfit_learning_rate": unfit_learning_rate(lr=config.optimizer.lr, batch_size=config.data.batch_size),
        "emulated_precision": emulated_precision(config.precision, device=device),
    }


def after_epoch(progress: Progress) -> Concerns:
    """Check the epochs so far; those without a single finite step are ignored."""
    whole = [row for row in progress.rows if row["loss"] is not None]
    losses, norms = ([float(row[name] or 0) for row in whole] for name in ("loss", "grad_norm"))
    return {
        "skipped_steps": skipped_steps(skipped=progress.skipped_steps, steps=progress.step),
        "standing_loss": standing_loss(losses, steps=progress.step),
        "runaway_gradient": runaway_gradient(norms),
        "vanished_gradient": vanished_gradient(norms, losses=losses),
    }


def after_evaluation(evaluation: Evaluation, split: Split, *, step: int, steps: int) -> Concerns:
    """Check the detections after `step` of `steps` steps; check recall only after enough steps to learn something."""
    blown_up = {"blown_up_detector": blown_up_detector(left_out=evaluation.left_out)}
    if step < min(1000, steps / 2):
        return blown_up
    recall, detections = evaluation.results.AR_100, evaluation.detections
    return {
        **blown_up,
        "zero_recall": zero_recall(recall, step=step),
        "collapsed_predictions": collapsed_predictions(split, detections, recall=recall),
        "unseen_images": unseen_images(split, detections, recall=recall),
    }


def few_steps(*, steps: int, warmup_steps: int, from_weights: bool) -> str | None:
    """Check the length of the whole training."""
    if 2 * warmup_steps >= steps:
        return (
            f"schedule.warmup_steps {warmup_steps} is at least half of the {counted(steps, 'step')} of this "
            "training, which will hardly reach its learning rate: set fewer warm-up steps, or more epochs"
        )
    least = FEWEST_STEPS["weights" if from_weights else "scratch"]
    if steps >= least:
        return None
    return (
        f"this training has only {counted(steps, 'step')}, and a detector needs thousands: set more "
        "epochs, a smaller data.batch_size, or start from trained weights with --init-from"
    )


def unfit_learning_rate(*, lr: float, batch_size: int) -> str | None:
    """Compare a rate with the paper's, 1e-4 for 16 images, scaled by the square root of the batch size (for AdamW).

    A small detector trained from scratch learns best with eight times as much.
    """
    usual = 1e-4 * (batch_size / 16) ** 0.5
    if usual / 10 <= lr <= usual * 20:
        return None
    side, risk = ("above", "the loss may jump or become nan") if lr > usual else ("below", "little may be learnt")
    return (
        f"optimizer.lr {lr:g} is far {side} what suits {counted(batch_size, 'image')} per step, about {usual:.0e} "
        f"(1e-4 for 16, scaled by the root of the batch size): {risk}; try optimizer.lr={usual:.0e}"
    )


def emulated_precision(precision: Precision, *, device: torch.device) -> str | None:
    """Check for a precision in which the device computes no faster than in fp32."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)
    if not is_slow(dtype, device=device):
        return None
    return f"precision {precision} is no faster than 32-true on this machine: use precision=auto or 32-true"


def skipped_steps(*, skipped: int, steps: int) -> str | None:
    """Check for steps skipped because a loss or the gradient was not finite."""
    if not skipped:
        return None
    return (
        f"{skipped} of {counted(steps, 'step')} skipped because the loss or the gradient was not finite: nonfinite/ "
        "in the run folder says where it began and on which images; try a smaller optimizer.lr or precision=32-true"
    )


def standing_loss(losses: Sequence[float], *, steps: int) -> str | None:
    """Check the mean losses of the epochs so far."""
    if len(losses) < 3 or steps < 300 or min(losses[1:]) < 0.97 * losses[0]:
        return None
    return (
        f"the loss has not fallen in {len(losses)} epochs ({losses[0]:.3g} in the first, {losses[-1]:.3g} now): the "
        "rate is likely too small or too large, or the boxes do not belong to the images; try another optimizer.lr, "
        "and condetr sanity on this data"
    )


def runaway_gradient(norms: Sequence[float]) -> str | None:
    """Check the mean norms of the gradient of the epochs so far."""
    if len(norms) < 3 or norms[-1] <= 50 * median(norms[:-1]):
        return None
    return (
        f"the gradient explodes: its norm is {norms[-1]:.3g} after {median(norms[:-1]):.3g} in the epochs before; "
        "optimizer.lr is likely too large, try a third of it and a smaller optimizer.clip_norm"
    )


def vanished_gradient(norms: Sequence[float], *, losses: Sequence[float]) -> str | None:
    """Check for gradients that vanish while the loss is still high."""
    if len(norms) < 2 or norms[-1] >= 1e-3 * norms[0] or losses[-1] < 0.5 * losses[0]:
        return None
    return (
        f"the gradient vanishes: its norm fell from {norms[0]:.3g} to {norms[-1]:.3g} while the loss is still "
        f"{losses[-1]:.3g}; the sigmoids or ReLUs are likely saturated after too large a rate: start again with 1/3 "
        "of optimizer.lr and with schedule.warmup_steps"
    )


def blown_up_detector(*, left_out: int) -> str | None:
    """Check for detections whose score or box is not finite."""
    if not left_out:
        return None
    return (
        f"{counted(left_out, 'detection')} left out because the score or the box is not finite: the weights have "
        "diverged; start again with a smaller optimizer.lr, and --init-from the best model if there is a good one"
    )


def zero_recall(recall: float, *, step: int) -> str | None:
    """Check the recall with 100 detections per image, which is NaN if there are no objects."""
    if not recall <= 1e-3:
        return None
    return (
        f"after {counted(step, 'step')} no object is found (AR_100 {ap_text(recall)}): either this is too early "
        "for a training from scratch, or boxes and images do not belong together; look at the pictures of condetr "
        "sanity on this data"
    )


def collapsed_predictions(split: Split, detections: Mapping[int, Detections], *, recall: float) -> str | None:
    """Check for predictions that are all the same, while recall is low."""
    if not recall <= 0.1:
        return None
    boxes = [_relative_boxes(split, detections, position) for position in range(len(split))]
    several = [each for each in boxes if len(each) > 1]
    if not several or median(float(each.std(0).max()) for each in several) > 0.01:
        return None
    return (
        "the predictions have collapsed: all of them are the same box in an image; optimizer.lr is likely too large or "
        "the warm-up too short, start again with a third of the rate and schedule.warmup_steps=500"
    )


def unseen_images(split: Split, detections: Mapping[int, Detections], *, recall: float) -> str | None:
    """Check for a best box that is the same in every image, while recall is low."""
    boxes = [_relative_boxes(split, detections, position) for position in range(len(split))]
    best = [each[0] for each in boxes if len(each)]
    if not recall <= 0.1 or len(best) < 4 or np.stack(best).std(0).max() > 0.005:
        return None
    return (
        "the best box is the same in every image, as if the detector did not see them: the backbone is likely "
        "untrained or frozen without trained weights; try a larger optimizer.backbone_lr, pretrained weights, or "
        "more epochs"
    )


def _relative_boxes(split: Split, detections: Mapping[int, Detections], position: int) -> Float[np.ndarray, "N 4"]:
    """Return the detections' boxes in an image, relative to its width and height."""
    record = split.records[position]
    height, width = record.size_hw
    found = detections.get(record.image_id)
    boxes_xyxy = np.zeros((0, 4)) if found is None else found.boxes_xyxy.astype(np.float64)
    return np.divide(boxes_xyxy, [width, height, width, height])
