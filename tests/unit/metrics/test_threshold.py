from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord, Split
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import evaluate_coco
from condetr.metrics.threshold import BestThreshold, best_threshold
from condetr.shapes import Detections

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
HERE, THERE, ELSEWHERE = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 150.0, 150.0), (10.0, 100.0, 60.0, 150.0)

Thing = tuple[tuple[float, ...], int]


def boxes_of(things: tuple[Thing, ...]) -> np.ndarray:
    return np.array([box for box, _ in things], np.float32).reshape(-1, 4)


def truth(*things: Thing, crowds: tuple[bool, ...] | None = None, image_id: int = 0) -> ImageRecord:
    boxes_xyxy = boxes_of(things)
    return ImageRecord(
        image_id=image_id,
        path=Path("none.jpg"),
        size_hw=(200, 200),
        boxes_xyxy=boxes_xyxy,
        labels=np.array([label for _, label in things], np.int64),
        is_crowd=np.array(crowds or [False] * len(things), bool),
        areas=np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1),
    )


def split_of(*records: ImageRecord) -> Split:
    return Split(name="val", records=records, label_map=LABELS)


def guess(*things: Thing, scores: tuple[float, ...]) -> Detections:
    return Detections(
        boxes_xyxy=boxes_of(things),
        scores=np.array(scores, np.float32),
        labels=np.array([label for _, label in things], np.int64),
        names=tuple(LABELS.names[label] for _, label in things),
    )


def test_the_threshold_lies_between_hits_and_false_alarms() -> None:
    found = guess((HERE, 0), (THERE, 0), (ELSEWHERE, 0), scores=(0.9, 0.7, 0.42))

    assert best_threshold(split_of(truth((HERE, 0), (THERE, 0))), {0: found}) == BestThreshold(0.56, 1.0)


def test_classes_count_together_and_a_rare_one_does_not_decide() -> None:
    records = [truth((HERE, 0), image_id=image_id) for image_id in range(9)]
    found = {image_id: guess((HERE, 0), scores=(0.4,)) for image_id in range(9)}
    split = split_of(*records, truth((HERE, 1), image_id=9))

    best = best_threshold(split, {**found, 9: guess((HERE, 1), (THERE, 1), scores=(0.9, 0.3))})

    assert best is not None
    assert 0.3 < best.threshold <= 0.4
    assert best.f1 == 1


def test_a_box_with_two_names_counts_as_its_best() -> None:
    found = guess((HERE, 0), (HERE, 1), scores=(0.9, 0.8))

    assert best_threshold(split_of(truth((HERE, 0))), {0: found}) == BestThreshold(0.45, 1.0)


def test_detections_inside_a_crowd_do_not_count() -> None:
    split = split_of(truth((HERE, 0), (THERE, 0), crowds=(False, True)))
    found = guess(((110.0, 110.0, 130.0, 130.0), 0), (HERE, 0), scores=(0.9, 0.5))

    assert best_threshold(split, {0: found}) == BestThreshold(0.25, 1.0)


@pytest.mark.parametrize("found", [{}, {0: guess((THERE, 0), scores=(0.9,))}])
def test_where_no_object_is_found_there_is_no_best_threshold(found: dict[int, Detections]) -> None:
    assert best_threshold(split_of(truth((HERE, 0))), found) is None
    assert evaluate_coco(split_of(truth((HERE, 0))), found).F1 == 0


def test_scores_that_differ_by_little_are_still_parted() -> None:
    found = guess((HERE, 0), (ELSEWHERE, 0), scores=(0.1000002, 0.1000001))

    best = best_threshold(split_of(truth((HERE, 0))), {0: found})

    assert best is not None
    assert len(found.above(best.threshold)) == 1


corner = st.integers(0, 3).map(lambda step: step * 12.0)
thing = st.tuples(st.tuples(corner, corner), st.integers(0, 1))


@given(
    st.lists(
        st.tuples(st.lists(thing, max_size=4), st.lists(st.tuples(thing, st.integers(1, 9)), max_size=6)), max_size=4
    )
)
def test_no_other_threshold_has_a_higher_f1_by_cocos_own_matching(
    images: list[tuple[list[Thing], list[tuple[Thing, int]]]],
) -> None:
    def at(item: Thing) -> Thing:
        (x, y), label = item
        return (x, y, x + 30.0, y + 30.0), label

    records = [truth(*map(at, objects), image_id=number) for number, (objects, _) in enumerate(images, 1)]
    found = {}
    for number, (_, guesses) in enumerate(images, 1):
        unique = {at(item)[0]: (at(item), score) for item, score in guesses}  # a box has one name
        ranked = sorted(unique.values(), key=lambda pair: -pair[1])
        found[number] = guess(*(item for item, _ in ranked), scores=tuple(score / 10 for _, score in ranked))
    split = split_of(*records)

    best = best_threshold(split, found)

    by_oracle = {each / 10 - 0.05: oracle_f1(split, found, threshold=each / 10 - 0.05) for each in range(1, 10)}
    if best is None:
        assert max(by_oracle.values()) == 0
    else:
        assert best.f1 == pytest.approx(max(by_oracle.values()))
        assert best.f1 == pytest.approx(oracle_f1(split, found, threshold=best.threshold))


def oracle_f1(split: Split, found: dict[int, Detections], *, threshold: float) -> float:
    """Count the matches of pycocotools at IoU 0.5 of what scores at least the threshold."""
    kept = {image_id: each.above(threshold) for image_id, each in found.items()}
    rows = [
        {"image_id": r.image_id, "category_id": int(label) + 1, "bbox": box.tolist(), "area": 900.0, "iscrowd": 0}
        for r in split.records
        for label, box in zip(r.labels, to_xywh(r.boxes_xyxy), strict=True)
    ]
    guesses = [
        {"image_id": image_id, "category_id": int(label) + 1, "bbox": box.tolist(), "score": float(score)}
        for image_id, each in kept.items()
        for label, box, score in zip(each.labels, to_xywh(each.boxes_xyxy), each.scores, strict=True)
    ]
    objects = len(rows)
    if not objects or not guesses:
        return 0.0
    coco = COCO()
    coco.dataset = {
        "images": [{"id": r.image_id, "height": 200, "width": 200} for r in split.records],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}],
        "annotations": [{"id": number, **row} for number, row in enumerate(rows, 1)],
    }
    coco.createIndex()
    evaluator = COCOeval(coco, coco.loadRes(guesses), "bbox")
    evaluator.params.iouThrs = np.array([0.5])
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluator.evaluate()
    hits = sum(int((each["dtMatches"] > 0).sum()) for each in evaluator.evalImgs if each is not None)
    return 2 * hits / (len(guesses) + objects)
