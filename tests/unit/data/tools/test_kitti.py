from pathlib import Path

import pytest

from condetr.data.findings import Fault
from condetr.data.sources import open_data
from condetr.errors import InputError
from tests.unit.data.conftest import write_text
from tests.unit.data.tools.conftest import read, write_images

REST = "1.50 1.60 3.70 1.00 1.50 20.00 -1.50"
BOX = ("cat", (1, 2, 30, 40))


def line(name: str = "cat", corners: str = "1.00 2.00 30.00 40.00", *, rest: str = REST) -> str:
    return f"{name} 0.00 0 -1.57 {corners} {rest}"


def write(folder: Path, *, images: str = "image_2", labels: str = "label_2", **texts: str) -> None:
    for name, text in texts.items():
        write_images(folder / images, f"{name}.png")
        write_text(folder / labels / f"{name}.txt", text)


def test_the_published_folders_are_read(tmp_path: Path) -> None:
    write(tmp_path / "training", a=f"{line()}\n", b="")
    write_images(tmp_path / "training" / "image_3", "a.png", "b.png")
    write_images(tmp_path / "testing" / "image_2", "a.png", "b.png")

    data = read(tmp_path)

    assert data.splits == {"training": {"training/image_2/a.png": [BOX], "training/image_2/b.png": []}}
    assert data.source.understood == (
        "KITTI: 2 TXT in training/label_2/, their images in training/image_2/; splits training"
    )
    assert data.notes == ()


def test_folders_of_yolo_names_are_still_told_from_yolo(tmp_path: Path) -> None:
    write(tmp_path, images="images", labels="labels", a=line())

    data = read(tmp_path)

    assert (data.source.layout, data.images) == ("kitti", {"images/a.png": [BOX]})


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (line("Person sitting"), [("Person sitting", (1, 2, 30, 40))]),
        (line(rest=f"{REST} 0.87"), [BOX]),
        (line().replace(" ", "  ") + "\r\n", [BOX]),
        (f"{line('DontCare')}\n{line()}", [BOX]),
    ],
)
def test_lines_are_read_from_their_end(tmp_path: Path, text: str, boxes: object) -> None:
    write(tmp_path, a=text)

    assert read(tmp_path).images == {"image_2/a.png": boxes}


def test_regions_that_nobody_annotated_are_counted(tmp_path: Path) -> None:
    write(tmp_path, a=f"{line()}\n{line('DontCare')}\n")

    assert read(tmp_path).places(Fault.DONT_CARE) == ("label_2/a.txt: line 2",)


def test_an_image_without_a_file_is_empty(tmp_path: Path) -> None:
    write(tmp_path, a=line(), b=line())
    (tmp_path / "label_2" / "b.txt").unlink()

    data = read(tmp_path)

    assert data.images == {"image_2/a.png": [BOX], "image_2/b.png": []}
    assert data.places(Fault.UNANNOTATED) == ("image_2/b.png",)


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        ("cat 0.00 0 -1.57 1 2 30", "has 7 words, expected a class and 14 numbers, maybe a score"),
        (line(corners="1 2 x 4"), "expected a class and 14 numbers, maybe a score; 'x' is no number"),
        (line(corners="1 2 nan 4"), "'nan' is no number"),
        (line(corners="1 2 1e300 4"), "has a box that lies outside of any image"),
        (line("7"), "has 15 words, expected a class and 14 numbers"),
    ],
)
def test_a_faulty_line_is_refused_by_itself(tmp_path: Path, faulty: str, sentence: str) -> None:
    write(tmp_path, a=f"{line()}\n{faulty}\n")

    data = read(tmp_path)

    assert data.images == {"image_2/a.png": [BOX]}
    assert data.places(Fault.FAULTY_ENTRY)[0].startswith("label_2/a.txt: line 2 ")
    assert sentence in data.places(Fault.FAULTY_ENTRY)[0]
    with pytest.raises(InputError, match=r"a\.txt: line 2"):
        open_data(tmp_path)


def test_notes_among_labels_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, a=line())
    write_text(tmp_path / "label_2" / "README.txt", "boxes of cats\n")

    data = read(tmp_path)

    assert (list(data.images), data.places(Fault.NOT_READ)) == (["image_2/a.png"], ("label_2/README.txt",))
