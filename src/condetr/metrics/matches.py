"""The matches of an evaluation, from which AP follows for any sample of its images, as the bootstrap draws them."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from condetr.data.dataset import Split
from condetr.errors import InputError
from condetr.metrics.marks import mark
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Detections of an image and class that count; all three are COCO's."""
MATCHES = "matches.npz"
"""Name of the file, beside results.json."""


class _AtIou(NamedTuple):
    """The hits of a class at one IoU, best first."""

    ranks: Int[np.ndarray, " H"]
    """Their places among the detections of the class."""
    ignored_ranks: Int[np.ndarray, " G"]
    """Places of those that only match a crowd region."""


class _OfClass(NamedTuple):
    images: Int[np.ndarray, " N"]
    """The image of each detection of the class, best first."""
    objects: Int[np.ndarray, " I"]
    at: tuple[_AtIou, ...]


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Detections of a split, in the order of its image ids and best first, and which of them are hits."""

    image_ids: Int[np.ndarray, " I"]
    objects: Int[np.ndarray, "I K"]
    """Objects of each class in each image, crowd regions not counted."""
    images: Int[np.ndarray, " N"]
    """Position of each detection's image in `image_ids`."""
    labels: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, " N"]
    is_hit: Bool[np.ndarray, "N IoU"]
    counts: Bool[np.ndarray, "N IoU"]
    """False for what only matches a crowd region."""

    def ap(self, times: Int[np.ndarray, " I"] | None = None) -> float:
        """Return COCO's AP, from 0 to 1, of a sample that holds each image so many times; by default once.

        NaN if the sample has no object.
        """
        times = np.ones(len(self.image_ids), int) if times is None else times
        by_class = [_ap(each, times) for each in self._classes if times @ each.objects]
        return float(np.mean(by_class)) if by_class else float("nan")

    @cached_property
    def _classes(self) -> tuple[_OfClass, ...]:
        order = np.argsort(-self.scores, kind="stable")
        return tuple(
            self._of_class(label, order[self.labels[order] == label]) for label in range(self.objects.shape[1])
        )

    def _of_class(self, label: int, ranked: Int[np.ndarray, " N"]) -> _OfClass:
        hits, ignored = self.is_hit[ranked].T, ~self.counts[ranked].T
        at = tuple(_AtIou(*map(np.flatnonzero, pair)) for pair in zip(hits, ignored, strict=True))
        return _OfClass(self.images[ranked], self.objects[:, label], at)

    def save(self, path: Path) -> None:
        """Write them as a compressed .npz file, whole or not at all."""
        with replaced_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **{name: getattr(self, name) for name in Matches.__dataclass_fields__})

    @staticmethod
    def load(path: Path) -> "Matches":
        """Read what `save` wrote; raises InputError if the file is missing or damaged."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in Matches.__dataclass_fields__}
        except (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path} cannot be read ({reason}); write it with `condetr evaluate RUN --matches --out {path.parent}`"
            ) from None
        if not _fit(arrays):
            raise InputError(f"{path} is no file of matches: its parts do not fit one another; evaluate again")
        return Matches(**arrays)


def _fit(arrays: Mapping[str, np.ndarray]) -> bool:
    """Tell whether arrays from a file have the shapes and numbers of matches."""
    (images, classes), found = arrays["objects"].shape if arrays["objects"].ndim == 2 else (0, 0), arrays["scores"].size
    shapes: dict[str, tuple[int, ...]] = {
        **{"image_ids": (images,), "objects": (images, classes)},
        **dict.fromkeys(("images", "labels", "scores"), (found,)),
        **dict.fromkeys(("is_hit", "counts"), (found, len(IOUS))),
    }
    kinds = dict.fromkeys(("image_ids", "objects", "images", "labels"), "i") | {
        "scores": "f",
        "is_hit": "b",
        "counts": "b",
    }
    return all(
        arrays[name].shape == shape and arrays[name].dtype.kind == kinds[name] for name, shape in shapes.items()
    ) and bool(np.isin(arrays["images"], np.arange(images)).all())


def find_matches(split: Split, detections: Mapping[int, Detections]) -> Matches:
    """Match detections, keyed by image id, with the objects of a split, as COCO's evaluation does."""
    records = sorted(split.records, key=lambda record: record.image_id)
    num_classes = len(split.label_map)
    none = np.zeros((0, len(IOUS)), bool)
    images, labels, scores, is_hit, counts = ([np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)], [none], [none])
    for number, record in enumerate(records):
        if record.image_id not in detections:
            continue
        found = _best(detections[record.image_id], num_classes=num_classes)
        marks = mark(record, found, ious=IOUS.tolist())
        images.append(np.full(len(found), number))
        labels.append(found.labels)
        scores.append(found.scores)
        is_hit.append(marks.is_hit)
        counts.append(marks.counts)
    return Matches(
        image_ids=np.array([record.image_id for record in records], dtype=np.int64),
        objects=np.array(
            [np.bincount(record.labels[~record.is_crowd], minlength=num_classes) for record in records], dtype=np.int64
        ).reshape(len(records), num_classes),
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        scores=np.concatenate(scores),
        is_hit=np.concatenate(is_hit),
        counts=np.concatenate(counts),
    )


def _best(found: Detections, *, num_classes: int) -> Detections:
    """Return the detections that count, best first."""
    order = np.argsort(-found.scores, kind="stable")
    ranked = found.take(order)
    places = np.zeros(len(ranked), int)
    for label in range(num_classes):
        is_of_class = ranked.labels == label
        places[is_of_class] = np.arange(is_of_class.sum())
    return ranked.where(places < MOST)


def _ap(of_class: _OfClass, times: Int[np.ndarray, " I"]) -> float:
    """Return the mean AP over the IoUs. Precision is highest, between two hits, at the first: the others need none."""
    weights = times[of_class.images]
    seen = np.concatenate([[0], np.cumsum(weights)])
    objects = times @ of_class.objects
    return float(np.mean([_ap_at(at, weights, seen, objects=float(objects)) for at in of_class.at]))


def _ap_at(at: _AtIou, weights: Int[np.ndarray, " N"], seen: Int[np.ndarray, " M"], *, objects: float) -> float:
    if not len(at.ranks):
        return 0.0
    hits = np.cumsum(weights[at.ranks])
    ignored = np.concatenate([[0], np.cumsum(weights[at.ignored_ranks])])
    found = seen[at.ranks + 1] - ignored[np.searchsorted(at.ignored_ranks, at.ranks)]
    precision = hits / (found + np.spacing(1))  # as COCO divides
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    firsts = np.searchsorted(hits / objects, RECALLS, side="left")
    return float(np.append(best_from_here, 0.0)[firsts].mean())
