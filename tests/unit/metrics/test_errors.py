import numpy as np
import pytest

from condetr.metrics.coco import evaluate_coco
from condetr.metrics.errors import KINDS, Errors, find_errors, judge
from condetr.shapes import Detections
from tests.unit.metrics.test_matching import ELSEWHERE, HERE, THERE, guess, split_of, truth

BOLT, NUT = 0, 1
BESIDE_HERE = (30.0, 10.0, 80.0, 60.0)  # IoU 3/7 with HERE


def errors_of(found: Detections) -> Errors:
    """Return the errors in an image with a bolt here and a nut there."""
    return find_errors(split_of(truth((HERE, BOLT), (THERE, NUT))), {0: found})


def counted(errors: Errors) -> dict[str, int]:
    return {kind: int(count) for kind, count in zip(KINDS, errors.counts.sum(axis=1), strict=True) if count}


def costs(errors: Errors) -> dict[str, float]:
    return {kind: float(cost) for kind, cost in zip(KINDS, errors.costs, strict=True) if cost}


def test_without_errors_nothing_costs_anything() -> None:
    errors = errors_of(guess((HERE, BOLT), (THERE, NUT), scores=(0.9, 0.8)))
    assert (errors.AP50, counted(errors), costs(errors)) == (1.0, {}, {})


@pytest.mark.parametrize(
    ("false", "kind"),
    [
        ((BESIDE_HERE, BOLT), "localisation"),
        ((HERE, NUT), "class"),
        ((ELSEWHERE, BOLT), "background"),
        ((BESIDE_HERE, NUT), "both"),
    ],
)
def test_a_false_positive_is_told_by_what_it_overlaps(false: tuple[tuple[float, ...], int], kind: str) -> None:
    errors = errors_of(guess(false, (THERE, NUT), scores=(0.9, 0.8)))
    is_about_an_object = kind in {"localisation", "class"}
    assert counted(errors) == {kind: 1} | ({} if is_about_an_object else {"missed": 1})
    assert errors.counts[KINDS.index(kind), false[1]] == 1


def test_a_worse_detection_of_an_object_is_a_duplicate() -> None:
    errors = errors_of(guess((HERE, BOLT), (HERE, BOLT), (THERE, NUT), scores=(0.9, 0.85, 0.8)))
    assert counted(errors) == {"duplicate": 1}


def test_costs_are_the_ap_that_an_oracle_would_gain() -> None:
    # The class error hides the bolt and comes before the nut: AP50 is (0 + 1/2) / 2.
    errors = errors_of(guess((HERE, NUT), (THERE, NUT), scores=(0.9, 0.8)))
    assert pytest.approx(0.25) == errors.AP50
    assert costs(errors) == pytest.approx({"class": 0.75})
    np.testing.assert_allclose(errors.class_costs[KINDS.index("class")], [1.0, 0.5])


def test_what_is_missed_costs_its_share_of_the_recall() -> None:
    errors = errors_of(guess((HERE, BOLT), scores=(0.9,)))
    assert pytest.approx(0.5) == errors.AP50
    assert counted(errors) == {"missed": 1}
    assert costs(errors) == pytest.approx({"missed": 0.5})


def test_each_detection_and_object_of_an_image_is_judged() -> None:
    record = truth((HERE, BOLT), (THERE, NUT))
    found = guess((HERE, NUT), (HERE, BOLT), (HERE, BOLT), (ELSEWHERE, NUT), scores=(0.9, 0.8, 0.7, 0.6))
    verdict = judge(record, found)
    assert verdict.kinds == ("class", "hit", "duplicate", "background")
    assert verdict.is_found.tolist() == [True, False]


def test_errors_are_counted_by_size() -> None:
    tiny = (0.0, 150.0, 10.0, 160.0)
    errors = errors_of(guess((HERE, BOLT), (THERE, NUT), (tiny, NUT), scores=(0.9, 0.8, 0.7)))
    assert errors.size_counts[KINDS.index("background")].tolist() == [1, 0, 0]
    missed = find_errors(split_of(truth((HERE, BOLT))), {})
    assert missed.size_counts[KINDS.index("missed")].tolist() == [0, 1, 0]


def test_detections_in_crowds_are_no_errors() -> None:
    split = split_of(truth((HERE, BOLT), (THERE, NUT), crowds=(False, True)))
    errors = find_errors(split, {0: guess((HERE, BOLT), (THERE, NUT), scores=(0.9, 0.8))})
    assert (errors.AP50, counted(errors)) == (1.0, {})


def test_without_objects_nothing_is_known() -> None:
    errors = find_errors(split_of(truth()), {0: guess((HERE, BOLT), scores=(0.9,))})
    assert np.isnan(errors.AP50)
    assert np.isnan(errors.costs).all()
    assert counted(errors) == {"background": 1}


@pytest.mark.parametrize("seed", range(5))
def test_ap50_is_that_of_the_coco_evaluation(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> list[tuple[float, ...]]:
        corner, side = rng.uniform(0, 120, (count, 2)), rng.uniform(10, 70, (count, 2))
        return [tuple(map(float, box)) for box in np.hstack([corner, corner + side])]

    records, found = [], {}
    for image_id in range(6):
        here = boxes(int(rng.integers(0, 6)))
        labels = rng.integers(0, 2, len(here)).tolist()
        crowds = tuple((rng.random(len(here)) < 0.2).tolist())
        records.append(truth(*zip(here, labels, strict=True), crowds=crowds, image_id=image_id))
        moved = [tuple(float(x + rng.normal(0, 6)) for x in box) for box in here] + boxes(4)
        guessed = rng.integers(0, 2, len(moved)).tolist()
        scores = tuple(np.sort(rng.random(len(moved)))[::-1].tolist())
        found[image_id] = guess(*zip(moved, guessed, strict=True), scores=scores)
    split = split_of(*records)
    assert pytest.approx(evaluate_coco(split, found).AP50, abs=1e-6) == find_errors(split, found).AP50
