"""Matches that are kept: what they hold, what AP follows for a sample of the images, and files that are damaged."""

import math
from pathlib import Path

import numpy as np
import pytest

from condetr.errors import InputError
from condetr.metrics.matches import Matches, find_matches
from tests.unit.metrics.test_coco import HERE, THERE, guess, split_of, truth

SPLIT = split_of(truth(HERE, image_id=8), truth(THERE, image_id=3), truth(image_id=5))
FOUND = {8: guess(HERE, scores=(0.9,)), 5: guess(HERE, scores=(0.8,)), 3: guess(THERE, HERE, scores=(0.7, 0.2))}


def test_ap_of_a_sample_is_worked_by_hand() -> None:
    matches = find_matches(SPLIT, FOUND)

    assert matches.image_ids.tolist() == [3, 5, 8]
    # The second of two objects is found at precision 2/3: 51 of the 101 recalls have precision 1, the others 2/3.
    assert matches.ap() == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert matches.ap(np.array([1, 0, 1])) == pytest.approx(1)
    # Image 8 twice: hit, hit, false, hit, so recalls above 2/3 have precision 3/4.
    assert matches.ap(np.array([1, 1, 2])) == pytest.approx((67 + 34 * 3 / 4) / 101)


def test_a_sample_without_objects_has_no_ap() -> None:
    assert math.isnan(find_matches(SPLIT, FOUND).ap(np.array([0, 3, 0])))


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    matches = find_matches(SPLIT, FOUND)
    matches.save(tmp_path / "matches.npz")
    again = Matches.load(tmp_path / "matches.npz")

    assert again.ap() == matches.ap()
    assert [path.name for path in tmp_path.iterdir()] == ["matches.npz"]
    for name in Matches.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(matches, name))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "matches.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"matches.npz cannot be read .*condetr evaluate RUN --matches --out"):
        Matches.load(tmp_path / "matches.npz")


@pytest.mark.parametrize(
    "wrong", [{"scores": np.zeros(9)}, {"images": np.array([0, 1, 2, 9])}, {"is_hit": np.zeros((4, 10))}]
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, wrong: dict[str, np.ndarray]) -> None:
    matches = find_matches(SPLIT, FOUND)
    whole = {name: getattr(matches, name) for name in Matches.__dataclass_fields__}
    np.savez(tmp_path / "matches.npz", **{**whole, **wrong})
    with pytest.raises(InputError, match="its parts do not fit one another"):
        Matches.load(tmp_path / "matches.npz")
