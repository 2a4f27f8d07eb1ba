"""What is saved to be corrected is read back by our own readers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.data.findings import strictly
from condetr.data.images import read_image
from condetr.data.sources import read_split
from condetr.errors import InputError
from condetr.inference.prelabels import IMAGE_FOLDERS, KINDS, Kind, Prelabels, kinds_of
from condetr.labels import Category, LabelMap
from condetr.shapes import Detections

LABELS = LabelMap((Category(3, "hex bolt"), Category(7, "nut, flat"), Category(9, "écrou")))
BOXES = [[4.3, 6.2, 20.4, 18.9], [-5.0, 10.0, 12.5, 40.0], [60.0, 3.0, 70.0, 9.0], [1.0, 1.0, 30.0, 31.0]]
INSIDE = [[4.3, 6.2, 20.4, 18.9], [0.0, 10.0, 12.5, 32.0], [1.0, 1.0, 30.0, 31.0]]
"""Without what lies outside of an image of 48x32, and without the third box, of which nothing is inside."""


def detections(*labels: int) -> Detections:
    return Detections(
        boxes_xyxy=np.array(BOXES[: len(labels)], np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.5, len(labels), dtype=np.float32),
        labels=np.array(labels, np.int64),
        names=tuple(LABELS.names[label] for label in labels),
    )


def save(folder: Path, *kinds: Kind) -> None:
    labels = Prelabels(folder, kinds=kinds, label_map=LABELS)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    source = folder / "source"
    source.mkdir(parents=True)
    for name, found in (("a b.png", detections(0, 1, 2, 2)), ("empty.png", detections())):
        Image.fromarray(pixels).save(source / name)
        content = source / name if found else (source / name).read_bytes()
        labels.add(content, file_name=name, pixels=pixels, detections=found)
    labels.finish()


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc", "csv"])
def test_our_own_reader_finds_the_same_boxes(kind: Kind, tmp_path: Path) -> None:
    save(tmp_path, kind)

    split, notes = strictly(read_split(tmp_path / kind))

    by_name = {record.path.name: record for record in split.records}
    assert sorted(by_name) == ["a b.png", "empty.png"]
    record = by_name["a b.png"]
    assert record.size_hw == (32, 48)
    tolerance = 0.51 if kind == "voc" else 0.02
    order = np.lexsort(record.boxes_xyxy.T)
    expected = np.array(INSIDE)
    np.testing.assert_allclose(record.boxes_xyxy[order], expected[np.lexsort(expected.T)], atol=tolerance)
    names = {split.label_map.names[label] for label in record.labels}
    assert names == {"hex bolt", "nut, flat", "écrou"}
    assert len(by_name["empty.png"].labels) == 0
    assert not [note for note in notes if "left out" in note.fault.name.lower()]
    if kind == "coco":
        assert split.label_map.categories == LABELS.categories


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc", "csv"])
def test_images_are_copied_as_they_are(kind: Kind, tmp_path: Path) -> None:
    save(tmp_path, kind)

    for name in ("a b.png", "empty.png"):
        copy = tmp_path / kind / IMAGE_FOLDERS[kind] / name
        assert copy.read_bytes() == (tmp_path / "source" / name).read_bytes()
        assert not copy.is_symlink()


def test_crops_lie_in_folders_of_their_classes(tmp_path: Path) -> None:
    save(tmp_path, "crops")

    sizes = {
        path.relative_to(tmp_path / "crops").as_posix(): Image.fromarray(read_image(path).permute(1, 2, 0).numpy()).size
        for path in (tmp_path / "crops").rglob("*.jpg")
    }
    assert sizes == {"hex bolt/a b-1.jpg": (17, 13), "nut, flat/a b-2.jpg": (13, 22), "écrou/a b-3.jpg": (29, 30)}


def test_kinds_are_named_with_commas_or_one_by_one() -> None:
    assert kinds_of(["voc, yolo", "COCO"]) == ["yolo", "coco", "voc"]
    assert kinds_of([]) == []


@pytest.mark.parametrize("given", ["pdf", "yolo,pdf", ","])
def test_an_unknown_kind_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=", ".join(KINDS)):
        kinds_of([given])
