"""How annotations suit a training: checks that need no image file and take milliseconds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from condetr.data.dataset import Finding, ImageRecord, Split
from condetr.doctor.plan import Plan
from condetr.words import counted

EXAMPLES = 5
"""Places that a finding names."""
_EVALUATED = 100  # detections in an image that COCO's AP looks at
_MANY_SMALL = 0.25  # of all objects; the drawn scenes, which are learned well, have 0.14 at stride 8
_RARE, _HARDLY_SEEN = 0.1, 0.01  # boxes of a class, as part of those of the most frequent one


def quick_findings(splits: Sequence[Split], plan: Plan) -> tuple[Finding, ...]:
    """Return what in the annotations of some splits, the training split first, does not suit the plan.

    It builds upon the findings of reading the data, which it does not repeat.
    """
    records = [record for split in {id(split): split for split in splits}.values() for record in split.records]
    found = (
        _too_many_objects(records, plan),
        _more_than_evaluated(records),
        _small_objects(records, plan),
        _small_in_mosaics(splits[0], plan),
        _slivers(records, plan),
        _rare_classes(splits[0]),
    )
    return tuple(finding for findings in found for finding in findings)


def object_sides(record: ImageRecord, plan: Plan) -> Float[np.ndarray, " T"]:
    """Return the side of a square of each object's area, in pixels of the image as the detector sees it."""
    factor = plan.seen_hw(record.size_hw)[0] / record.size_hw[0]
    boxes_xyxy = record.boxes_xyxy[~record.is_crowd]
    sides: Float[np.ndarray, " T"] = factor * np.sqrt((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1))
    return sides


def num_objects(record: ImageRecord) -> int:
    """Return the objects of an image that are trained on."""
    return int((~record.is_crowd).sum())


def _too_many_objects(records: Sequence[ImageRecord], plan: Plan) -> Iterator[Finding]:
    crowded = [record for record in records if num_objects(record) > plan.most_objects]
    what = f"with more objects than the {plan.most_objects:,} that {plan.recipe} can find: the rest can never be found"
    yield from _about_images("warning", crowded, what, shown=lambda record: f"{num_objects(record):,} objects")


def _more_than_evaluated(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    crowded = [record for record in records if num_objects(record) > _EVALUATED]
    what = f"with more than {_EVALUATED} objects: COCO's AP looks at the {_EVALUATED} best detections of an image"
    yield from _about_images("info", crowded, what, shown=lambda record: f"{num_objects(record):,} objects")


def _small_objects(records: Sequence[ImageRecord], plan: Plan) -> Iterator[Finding]:
    sides = [object_sides(record, plan) for record in records]
    total = sum(map(len, sides))
    small = [
        f"{record.path.name}: {side.min():.0f} pixels"
        for record, side in zip(records, sides, strict=True)
        if (side < plan.stride).any()
    ]
    count = sum(int((side < plan.stride).sum()) for side in sides)
    if count:
        share = count / total
        yield Finding(
            severity="warning" if share > _MANY_SMALL else "info",
            what=f"{counted(count, 'object')} ({share:.1%}) smaller than a feature cell, "
            f"{plan.stride} pixels at the size of {plan.recipe}",
            count=count,
            examples=tuple(small[:EXAMPLES]),
        )


def _small_in_mosaics(split: Split, plan: Plan) -> Iterator[Finding]:
    dense = plan.transform.dense
    if dense is None or not dense.mosaic:
        return
    sides = np.concatenate([object_sides(record, plan) for record in split.records] or [np.zeros(0)]) / 2
    count = int((sides < plan.stride).sum())
    if count > _MANY_SMALL * len(sides):
        yield Finding(
            severity="warning",
            what=f"{counted(count, 'object')} ({count / len(sides):.1%}) smaller than a feature cell of {plan.stride} "
            "pixels once a mosaic halves them: train at a larger size, or with data.transform.dense.copy_blend instead",
            count=count,
            examples=(),
        )


def _slivers(records: Sequence[ImageRecord], plan: Plan) -> Iterator[Finding]:
    narrow = [record for record in records if min(plan.seen_hw(record.size_hw)) < plan.stride]
    what = f"so long and narrow that {plan.recipe} sees them less than a feature cell wide"
    yield from _about_images("warning", narrow, what, shown=lambda record: "x".join(map(str, record.size_hw[::-1])))


def _rare_classes(split: Split) -> Iterator[Finding]:
    labels = [record.labels[~record.is_crowd] for record in split.records]
    counts = np.bincount(np.concatenate([*labels, np.zeros(0, dtype=np.int64)]), minlength=len(split.label_map))
    rare = [index for index in np.argsort(counts).tolist() if 0 < counts[index] < _RARE * counts.max()]
    if rare:
        names = split.label_map.names
        hardly = counts[rare[0]] < _HARDLY_SEEN * counts.max()
        yield Finding(
            severity="warning" if hardly else "info",
            what=f"{counted(len(rare), 'class', 'classes')} more than ten times as rare as the most "
            f"frequent one, {names[counts.argmax()]} ({counted(int(counts.max()), 'box', 'boxes')})",
            count=len(rare),
            examples=tuple(
                f"{names[index]}: {counted(int(counts[index]), 'box', 'boxes')}" for index in rare[:EXAMPLES]
            ),
        )


def _about_images(
    severity: Literal["warning", "info"],
    records: Sequence[ImageRecord],
    what: str,
    *,
    shown: Callable[[ImageRecord], str],
) -> Iterator[Finding]:
    if records:
        yield Finding(
            severity=severity,
            what=f"{counted(len(records), 'image')} {what}",
            count=len(records),
            examples=tuple(f"{record.path.name}: {shown(record)}" for record in records[:EXAMPLES]),
        )
