"""`condetr doctor` finds every fault at once, says how bad it is, and can write a cleaned copy."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condetr.scenes.shapes import write_scenes
from tests.cli.conftest import Coco, Command, Train

NOISE = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)

Report = dict[str, Any]
Doctor = Callable[..., Report]
Edit = Callable[[Path], object]


@pytest.fixture
def doctor(condetr: Command) -> Doctor:
    """Examine data against the tiny recipe and return what `--json` says, with the exit code."""

    def run(data: Path, *arguments: object) -> Report:
        ended = condetr("doctor", data, "--recipe", "conditional_detr_tiny", "--json", *arguments)
        assert ended.code in (0, 1), ended.err
        return {**json.loads(ended.out), "code": ended.code}

    return run


def found(report: Report, severity: str) -> str:
    """Return the findings of a severity as one text."""
    return "\n".join(finding["what"] for finding in report["findings"] if finding["severity"] == severity)


def edit_coco(edit: Callable[[Coco], object], *, split: str = "train") -> Edit:
    def change(data: Path) -> None:
        path = data / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change


def annotation(number: int, **changes: object) -> Edit:
    return edit_coco(lambda coco: coco["annotations"][number].update(changes))


def image(number: int, **changes: object) -> Edit:
    return edit_coco(lambda coco: coco["images"][number].update(changes))


def add_boxes(count: int, **changes: object) -> Edit:
    def add(coco: Coco) -> None:
        first = coco["annotations"][0]
        coco["annotations"] += [
            {**first, "id": 100 + n, "bbox": [n % 20, n // 20, 9, 9], **changes} for n in range(count)
        ]

    return edit_coco(add)


def turn(data: Path) -> None:
    """Store an image of 32x24 so that EXIF makes it 24x32."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.full((24, 32, 3), 9, dtype=np.uint8)).save(data / "train" / "2.png", exif=exif)
    image(1, width=32, height=24)(data)


def cut_pixels(data: Path) -> None:
    """Damage the compressed pixels of an image, but neither its beginning nor its end."""
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    path = data / "train" / "2.png"
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[60:2000] = bytes(1940)
    path.write_bytes(content)


def brighten(source: str, target: str) -> Edit:
    """Save an image again, a little brighter and of less contrast."""

    def change(data: Path) -> None:
        with Image.open(data / source) as picture:
            picture.point([20 + value * 4 // 5 for value in range(256)] * 3).save(data / target)

    return change


def save_as(name: str, pixels: np.ndarray, **options: Any) -> Edit:  # noqa: ANN401
    return lambda data: Image.fromarray(pixels).save(data / name, **options)


def twelve_bits(data: Path) -> None:
    """Replace an image by one of a camera of 12 bits, whose values stand in 16 bits."""
    values = np.random.default_rng(0).integers(200, 4000, size=(32, 32), dtype=np.uint16)
    save_as("train/2.png", values)(data)


def keep_only_nuts(coco: Coco) -> None:
    coco["annotations"] = [each for each in coco["annotations"] if each["category_id"] == 7]


def write_bytes(name: str, content: bytes) -> Edit:
    return lambda data: (data / name).write_bytes(content)


FAULTS: list[tuple[str, str, Edit]] = [
    ("error", "1 annotation of a category that the data does not name", annotation(0, category_id=99)),
    ("error", "1 entry of annotation files that cannot be understood", annotation(0, bbox=[1, 2, float("nan"), 3])),
    ("error", "1 entry of annotation files that cannot be understood", annotation(0, bbox=[1, 2, float("inf"), 3])),
    ("error", "1 entry of annotation files that cannot be understood", annotation(0, bbox=[1, 2, 1e300, 3])),
    ("error", "1 entry of annotation files that cannot be understood", annotation(0, image_id=10**30)),
    ("error", "1 entry of annotation files that cannot be understood", image(0, width=float("inf"))),
    ("error", "2 images with an id that another one has", image(1, id=1)),
    ("error", "1 file name leading out of the data folder", image(1, file_name="../../secret.png")),
    ("error", "1 image missing, truncated or unreadable", image(1, file_name="x" * 5000)),
    ("error", "1 image missing, truncated or unreadable", lambda data: (data / "train" / "2.png").unlink()),
    ("error", "1 image missing, truncated or unreadable", write_bytes("train/2.png", b"not an image")),
    ("error", "1 image whose pixels cannot be decoded", cut_pixels),
    ("error", "1 annotation file that cannot be read", write_bytes("annotations/val.json", b"{")),
    ("error", "1 part of the data with nothing to use", edit_coco(lambda coco: coco["annotations"].clear())),
    (
        "error",
        "1 clash between the ids or names of categories",
        edit_coco(lambda coco: coco["categories"][0].update(name="screw")),
    ),
    ("warning", "1 annotation of images that the file does not list", annotation(0, image_id=99)),
    ("warning", "1 annotation with an id that another one has", annotation(1, id=1)),
    ("warning", "1 box without area", annotation(0, bbox=[4, 4, 0, 9])),
    ("warning", "1 box wholly outside the image", annotation(0, bbox=[90, 90, 5, 5])),
    ("warning", "1 box reaching beyond the image", annotation(0, bbox=[20, 20, 40, 40])),
    ("warning", "1 box almost the same as another one", add_boxes(1, bbox=[4, 6, 16, 12])),
    ("warning", "1 image of another size than the annotations say", image(0, width=64)),
    ("warning", "1 image annotated at the size before EXIF rotation", turn),
    ("info", "1 image turned by EXIF", turn),
    (
        "warning",
        "1 image the same, byte for byte, as another one of the split",
        lambda data: shutil.copy(data / "train" / "1.png", data / "train" / "2.png"),
    ),
    (
        "warning",
        "1 image the same, byte for byte, as one of another split",
        lambda data: shutil.copy(data / "train" / "1.png", data / "val" / "5.png"),
    ),
    ("info", "1 image looking the same as another one of the split", brighten("train/1.png", "train/2.png")),
    ("warning", "1 image looking the same as one of another split", brighten("train/1.png", "val/5.png")),
    ("warning", "1 image of nearly one flat colour", save_as("train/2.png", np.full((32, 32, 3), 9, np.uint8))),
    ("warning", "1 image of 16 bits whose values use a sliver of 0 to 65535", twelve_bits),
    (
        "info",
        "1 image with several pages or frames, of which only the first is used",
        save_as("train/2.png", NOISE, save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
    ),
    ("warning", "1 class without a box in the training split", edit_coco(keep_only_nuts)),
    ("warning", "1 image with more objects than the 50 that", add_boxes(60)),
    ("warning", "5 objects (45.5%) smaller than a feature cell, 8 pixels", add_boxes(5, bbox=[1, 1, 5, 5])),
    ("info", "1 class more than ten times as rare as the most frequent one", add_boxes(40)),
    ("warning", "1 class more than ten times as rare as the most frequent one", add_boxes(400)),
    ("info", "1 image with more than 100 objects", add_boxes(101)),
    ("info", "3 holes in the category ids 3 to 7", lambda data: None),
    ("info", "the largest batch of conditional_detr_tiny, 16 images of 32x32, takes about", lambda data: None),
]


@pytest.mark.parametrize(("severity", "sentence", "spoil"), FAULTS)
def test_a_fault_is_found(severity: str, sentence: str, spoil: Edit, doctor: Doctor, data: Path) -> None:
    spoil(data)
    report = doctor(data)
    assert sentence in found(report, severity)
    assert report["code"] == (1 if found(report, "error") else 0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: shutil.copy(data / "train" / "1.png", data / "val" / "5.png"), "looking the same"),
        (lambda data: [save_as(name, NOISE // 20)(data) for name in ("train/1.png", "val/5.png")], "looking the same"),
        (twelve_bits, "flat colour"),
    ],
    ids=["the same bytes", "flat", "of 16 bits"],
)
def test_what_one_finding_says_another_does_not_repeat(spoil: Edit, said: str, doctor: Doctor, data: Path) -> None:
    spoil(data)
    report = doctor(data)
    assert found(report, "warning")
    assert said not in found(report, "warning") + found(report, "info")


def test_sound_data_has_nothing_above_info(doctor: Doctor, data: Path) -> None:
    report = doctor(data, "--strict")
    assert found(report, "error") + found(report, "warning") == ""
    assert report["code"] == 0
    assert [row["training_id"] for row in report["classes"]] == [0, 1]
    assert [row["boxes"] for row in report["classes"]] == [{"train": 2, "val": 1}, {"train": 2, "val": 1}]


@pytest.mark.parametrize("recipe", ["conditional_detr_tiny", "conditional_detr_mobilenet"])
def test_drawn_scenes_raise_no_false_alarm(recipe: str, condetr: Command, tmp_path: Path) -> None:
    assert condetr("synth", tmp_path / "scenes", "--images", 40, "--val-images", 10).code == 0
    ended = condetr("doctor", tmp_path / "scenes", "--recipe", recipe, "--strict", "--json")
    assert found(json.loads(ended.out), "warning") == ""
    assert ended.code == 0, ended.out


def test_all_faults_are_found_at_once(doctor: Doctor, data: Path) -> None:
    image(1, file_name="../../secret.png")(data)
    annotation(0, category_id=99)(data)
    annotation(2, bbox="everywhere")(data)
    (data / "train" / "3.png").write_bytes(b"not an image")
    (data / "val" / "5.png").unlink()
    errors = found(doctor(data), "error")
    assert "1 file name leading out" in errors
    assert "1 annotation of a category" in errors
    assert "1 entry of annotation files" in errors
    assert "2 images missing, truncated or unreadable" in errors


def test_warnings_fail_only_when_asked(doctor: Doctor, data: Path) -> None:
    annotation(0, bbox=[20, 20, 40, 40])(data)
    assert doctor(data)["code"] == 0
    assert doctor(data, "--strict")["code"] == 1


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_cannot_be_read_at_all_ends_with_2(name: str, condetr: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = condetr("doctor", tmp_path / name)
    assert ended.code == 2
    assert ended.err.startswith("condetr: ")
    assert ended.err.count("\n") == 1


def test_the_recommended_recipe_asks_for_its_library(
    condetr: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    ended = condetr("doctor", data, "--recipe", "conditional_detr_mobilenet")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "condetr: the backbone mobilenetv2_100 needs timm: pip install timm\n"


def test_the_tables_name_places_and_the_command(condetr: Command, data: Path) -> None:
    annotation(0, bbox=[20, 20, 40, 40])(data)
    ended = condetr("doctor", data, "--recipe", "conditional_detr_tiny")
    told = " ".join(ended.out.split())
    assert "warning 1 box reaching beyond the image, clipped train/1.png: annotation 1" in told
    assert "0 errors, 1 warning," in told
    assert f"condetr train conditional_detr_tiny --data {data} --set data.batch_size=4" in told


class TestAdvice:
    def test_the_command_trains(self, doctor: Doctor, train: Train, data: Path, run: Path) -> None:
        add_boxes(60)(data)
        words = shlex.split(doctor(data)["command"])
        assert words[:5] == ["condetr", "train", "conditional_detr_tiny", "--data", str(data)]
        assert "detector.num_queries=100" in words
        ended = train(data, *words[5:], "--set", "data.batch_size=2")
        assert ended.code == 0, ended.err
        assert (run / "results.json").is_file()

    @pytest.mark.parametrize("images", [1, 2, 3])
    def test_the_command_trains_on_few_images_of_which_some_are_held_out(
        self, images: int, doctor: Doctor, train: Train, data: Path
    ) -> None:
        (data / "annotations" / "val.json").unlink()
        edit_coco(lambda coco: coco.update(images=coco["images"][:images]))(data)
        words = shlex.split(doctor(data)["command"])
        ended = train(data, *words[5:])
        assert ended.code == 0, ended.err

    def test_every_part_has_a_reason(self, doctor: Doctor, data: Path) -> None:
        (data / "train" / "2.png").unlink()
        (data / "annotations" / "val.json").unlink()
        reasons = {part["text"]: part["reason"] for part in doctor(data)["reasons"]}
        assert "1 missing or unreadable" in reasons["--set data.skip_unreadable=true"]
        assert "a batch of 16 is more than the 2 images" in reasons["--set data.batch_size=2"]
        assert "no validation split" in reasons["--val-fraction 0.2"]

    def test_small_objects_ask_for_larger_images(self, condetr: Command, data: Path) -> None:
        edit_coco(lambda coco: [each.update(bbox=[1, 1, 1, 1]) for each in coco["annotations"]])(data)
        ended = condetr("doctor", data, "--recipe", "conditional_detr_mobilenet", "--json")
        assert "smaller than a feature cell, 16 pixels" in found(json.loads(ended.out), "warning")


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestFix:
    def test_a_coco_copy_is_clean_and_trains(self, doctor: Doctor, train: Train, data: Path, tmp_path: Path) -> None:
        add_boxes(3, bbox=[20, 20, 40, 40])(data)
        annotation(0, category_id=99)(data)
        annotation(3, id=2)(data)
        image(2, file_name="../../secret.png")(data)
        shutil.copy(data / "train" / "4.png", data / "val" / "6.png")
        before = snapshot(data)
        report = doctor(data, "--fix", tmp_path / "clean")
        assert report["code"] == 1
        assert snapshot(data) == before
        clean = Path(report["cleaned"]["data"])
        after = doctor(clean)
        assert found(after, "error") + found(after, "warning") == ""
        assert json.loads((clean / "annotations" / "train.json").read_text())["annotations"][-1]["bbox"] == [
            20,
            20,
            12,
            12,
        ]
        assert train(clean).code == 0

    def test_everything_dropped_and_changed_is_listed(self, doctor: Doctor, data: Path, tmp_path: Path) -> None:
        annotation(0, category_id=99)(data)
        annotation(1, bbox=[20, 20, 40, 40])(data)
        (data / "train" / "3.png").unlink()
        image(3, width=64)(data)
        cleaned = doctor(data, "--fix", tmp_path / "clean")["cleaned"]
        assert (cleaned["dropped"], cleaned["changed"], cleaned["undecided"]) == (2, 1, 1)
        lines = Path(cleaned["protocol"]).read_text().splitlines()
        assert lines[0] == "2 dropped"
        assert any("annotation 1 has category_id 99" in line for line in lines)
        assert any("3.png with 1 boxes: missing, truncated or unreadable" in line for line in lines)
        assert any("2.png: annotation 2: clipped to the image" in line for line in lines)
        assert any("4.png: 64x32 in the annotations, 32x32 in the file" in line for line in lines)

    def test_images_that_look_the_same_are_left_to_decide(self, doctor: Doctor, data: Path, tmp_path: Path) -> None:
        brighten("train/1.png", "val/5.png")(data)
        cleaned = doctor(data, "--fix", tmp_path / "clean")["cleaned"]
        assert (cleaned["dropped"], cleaned["changed"], cleaned["undecided"]) == (0, 0, 1)
        last = Path(cleaned["protocol"]).read_text().splitlines()[-1]
        assert last == f"  val: {data}/val/5.png looks the same as train: {data}/train/1.png"

    def test_other_fields_of_coco_stay(self, doctor: Doctor, data: Path, tmp_path: Path) -> None:
        annotation(0, bbox=[20, 20, 40, 40], segmentation=[[20, 20, 60, 20, 60, 60]], area=800)(data)
        edit_coco(lambda coco: coco.update(info={"year": 2024}))(data)
        clean = Path(doctor(data, "--fix", tmp_path / "clean")["cleaned"]["data"])
        content = json.loads((clean / "annotations" / "train.json").read_text())
        assert content["info"] == {"year": 2024}
        assert content["annotations"][0]["area"] == 800
        assert content["annotations"][0]["segmentation"] == [[20, 20, 60, 20, 60, 60]]

    def test_a_folder_in_use_is_not_written_into(self, condetr: Command, data: Path, tmp_path: Path) -> None:
        (tmp_path / "clean").mkdir()
        (tmp_path / "clean" / "precious").write_text("")
        ended = condetr("doctor", data, "--fix", tmp_path / "clean")
        assert ended.code == 2
        assert [path.name for path in (tmp_path / "clean").iterdir()] == ["precious"]

    def test_a_voc_copy_is_clean(self, doctor: Doctor, tmp_path: Path) -> None:
        data = write_voc(tmp_path / "voc")
        (data / "Annotations" / "3.xml").write_text("<annotation")
        report = doctor(data, "--fix", tmp_path / "clean")
        assert "1 annotation file that cannot be read" in found(report, "error")
        assert "2 boxes without area" in found(report, "warning")
        after = doctor(Path(report["cleaned"]["data"]), "--strict")
        assert after["code"] == 0, found(after, "warning")
        assert after["splits"] == {"train": 2, "val": 1}
        assert "<xmin>5</xmin>" in (tmp_path / "clean" / "Annotations" / "1.xml").read_text()
        assert "<xmax>32</xmax>" in (tmp_path / "clean" / "Annotations" / "1.xml").read_text()

    def test_a_voc_copy_without_lists_holds_no_image_whose_annotation_was_dropped(
        self, doctor: Doctor, tmp_path: Path
    ) -> None:
        data = write_voc(tmp_path / "voc")
        shutil.rmtree(data / "ImageSets")
        (data / "Annotations" / "3.xml").write_text("<annotation")
        write_image(data / "JPEGImages" / "s" / "5.png", seed=120)
        copy = doctor(data, "--fix", tmp_path / "clean")["cleaned"]["data"]
        assert doctor(Path(copy))["splits"] == {"all": 4}

    def test_a_voc_copy_keeps_the_names_of_subfolders_in_its_lists(self, doctor: Doctor, tmp_path: Path) -> None:
        data = write_voc(tmp_path / "voc")
        for file in (data / "Annotations" / "2.xml", data / "JPEGImages" / "2.png"):
            (file.parent / "s").mkdir()
            file.rename(file.parent / "s" / file.name)
        (data / "ImageSets" / "Main" / "train.txt").write_text("1\ns/2\n")
        copy = doctor(data, "--fix", tmp_path / "clean")["cleaned"]["data"]
        assert doctor(Path(copy))["splits"] == {"train": 2, "val": 1}

    @pytest.mark.parametrize("places", ["folders", "lists"])
    def test_a_yolo_copy_is_clean(self, places: str, doctor: Doctor, tmp_path: Path) -> None:
        data = write_yolo(tmp_path / "yolo", lists=places == "lists")
        report = doctor(data, "--fix", data / "clean")  # inside the data itself
        assert "2 entries of annotation files" in found(report, "error")
        assert "1 image missing, truncated" in found(report, "error")
        after = doctor(Path(report["cleaned"]["data"]), "--strict")
        assert after["code"] == 0, found(after, "warning") + found(after, "error")
        assert after["splits"] == {"train": 2, "val": 1}
        label = (data / "clean" / "labels" / "train" / "1.txt").read_text()
        assert label == "0 0.5 0.5 0.25 0.25\n1 0.800000 0.500000 0.400000 0.500000\n"

    def test_an_image_that_two_entries_of_a_yaml_reach_stays_in_the_validation_split(
        self, doctor: Doctor, tmp_path: Path
    ) -> None:
        data = write_yolo(tmp_path / "yolo", lists=False)
        description = {
            "path": ".",
            "train": ["images/train", "images/val"],
            "val": "images/val",
            "names": ["cat", "dog"],
        }
        (data / "data.yaml").write_text(json.dumps(description))
        after = doctor(Path(doctor(data, "--fix", tmp_path / "clean")["cleaned"]["data"]))
        assert after["splits"] == {"train": 2, "val": 1}
        assert found(after, "error") == ""

    def test_a_category_that_is_left_out_is_not_in_the_copy(self, doctor: Doctor, data: Path, tmp_path: Path) -> None:
        for split in ("train", "val"):
            edit_coco(lambda coco: coco["categories"].append({"id": 99, "name": " "}), split=split)(data)
        clean = Path(doctor(data, "--fix", tmp_path / "clean")["cleaned"]["data"])
        assert found(doctor(clean), "error") == ""

    def test_a_box_that_stands_twice_is_dropped_and_one_that_is_almost_another_is_left(
        self, doctor: Doctor, data: Path, tmp_path: Path
    ) -> None:
        add_boxes(2, bbox=[1, 1, 20, 20])(data)
        add_boxes(1, bbox=[1, 1, 20, 20.1], id=200)(data)
        cleaned = doctor(data, "--fix", tmp_path / "clean")["cleaned"]
        assert (cleaned["dropped"], cleaned["changed"], cleaned["undecided"]) == (1, 0, 1)

    def test_a_place_that_cannot_be_is_refused_before_anything_is_read(
        self, condetr: Command, data: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        ended = condetr("doctor", data, "--fix", tmp_path / "file" / "clean")
        assert ended.code == 2
        assert "file is a file" in ended.err


def write_image(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(256, size=(32, 32, 3), dtype=np.uint8)).save(path)


def write_voc(folder: Path) -> Path:
    """Four images, of which the first has a box that overhangs and two without area."""
    large, faulty = (4, 4, 20, 20), [(5, 5, 60, 20), (9, 9, 9, 9), (7, 8, 7, 20)]
    corners = {"1": faulty, "2": [large], "3": [], "4": [large]}
    (folder / "Annotations").mkdir(parents=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name, boxes in corners.items():
        write_image(folder / "JPEGImages" / f"{name}.png", seed=20 * int(name))
        objects = "".join(
            f"<object><name>cat</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
            f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
            for box in boxes
        )
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    for split, names in (("train", "1 2 3"), ("val", "4"), ("trainval", "1 2 3 4")):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names.split()))
    return folder


def write_yolo(folder: Path, *, lists: bool) -> Path:
    """Three training images, one of them broken, and a validation image; faulty lines and a box that overhangs."""
    labels = {
        "train/1": "0 0.5 0.5 0.25 0.25\n1 0.9 0.5 0.6 0.5\n7 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n",
        "train/2": "1 0.5 0.5 0.25 0.25",
        "train/3": "0 0.5 0.5 0.25 0.25",
        "val/4": "1 0.5 0.5 0.25 0.25",
    }
    for name, lines in labels.items():
        write_image(folder / "images" / f"{name}.png", seed=20 * int(name[-1]))
        (folder / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "labels" / f"{name}.txt").write_text(lines)
    (folder / "images" / "train" / "3.png").write_bytes(b"not an image")
    for split in ("train", "val"):
        names = [name for name in labels if name.startswith(split)]
        (folder / f"{split}.txt").write_text("".join(f"./images/{name}.png\n" for name in names))
    entries = {split: f"{split}.txt" if lists else f"images/{split}" for split in ("train", "val")}
    (folder / "data.yaml").write_text(json.dumps({**entries, "path": str(folder), "names": ["cat", "dog"]}))
    return folder


def test_images_at_an_address_are_examined_and_get_no_cleaned_copy(
    condetr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDETR_CACHE", str(tmp_path / "cache"))
    write_scenes(tmp_path / "scenes", num_images=6, val_images=2, seed=1, size=32)
    address = f"file://{tmp_path}/scenes"

    examined = condetr("doctor", address)
    fixed = condetr("doctor", address, "--fix", tmp_path / "out")

    assert examined.code == 0, examined.err
    assert f"--data {address}" in examined.out
    assert (fixed.code, fixed.out) == (2, "")
    assert "--fix makes links to image files, but those of" in fixed.err
    assert not (tmp_path / "out").exists()
