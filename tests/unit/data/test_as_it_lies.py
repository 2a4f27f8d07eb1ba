"""Data sets as people publish them: small replicas of layouts that were found in the wild."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from condetr.data.dataset import Split
from condetr.data.findings import Fault, places_of, strictly
from condetr.data.recognise import recognise
from condetr.data.sources import open_data, open_split, read_split
from condetr.errors import InputError
from tests.layouts import BOX, coco, label, picture, text, xml


def splits_of(folder: Path) -> dict[str, Split]:
    source = recognise(folder)
    return {name: open_split(folder, split=name) for name in source.splits}


def names_of(split: Split, root: Path) -> list[str]:
    return sorted(record.path.absolute().relative_to(root).as_posix() for record in split.records)


def assert_all_boxes(splits: Mapping[str, Split]) -> None:
    """Every image has the one box that all writers here write."""
    for split in splits.values():
        for record in split.records:
            np.testing.assert_allclose(record.boxes_xyxy, [BOX], atol=1e-9)


VOC_FOLDERS = {
    "annotations and images": ("annotations/{}.xml", "images/{}.jpg"),
    "in capitals": ("ANNOTATIONS/{}.xml", "IMAGES/{}.png"),
    "label and image": ("label/{}.xml", "image/{}.jpeg"),
    "beside the images": ("{}.xml", "{}.jpg"),
    "below a folder": ("dataset/annots/{}.xml", "dataset/images/{}.jpg"),
    "another name": ("my boxes/{}.xml", "my photos/{}.jpg"),
}


class TestVoc:
    @pytest.mark.parametrize("layout", VOC_FOLDERS)
    def test_folders_may_have_any_name(self, tmp_path: Path, layout: str) -> None:
        annotations, images = VOC_FOLDERS[layout]
        for name in ("a", "b.mp4#t=1", "c d"):
            xml(tmp_path / annotations.format(name))
            picture(tmp_path / images.format(name))

        splits = splits_of(tmp_path)

        assert [(name, len(split)) for name, split in splits.items()] == [("all", 3)]
        assert_all_boxes(splits)
        assert "no split" in recognise(tmp_path).understood

    @pytest.mark.parametrize("inner", ["{}/annots/{}.xml {}/images/{}.jpg", "{}/{}.xml {}/{}.jpg"])
    def test_splits_come_from_the_names_of_folders(self, tmp_path: Path, inner: str) -> None:
        annotation, image = inner.split()
        for split, name in (("train", "a"), ("train", "b"), ("valid", "a")):
            xml(tmp_path / "data" / annotation.format(split, name))
            picture(tmp_path / "data" / image.format(split, name))

        splits = splits_of(tmp_path)

        assert {name: len(split) for name, split in splits.items()} == {"train": 2, "valid": 1}
        assert_all_boxes(splits)
        assert all("valid" in record.path.parts for record in splits["valid"].records)

    def test_what_lies_beside_a_validation_folder_is_for_training(self, tmp_path: Path) -> None:
        for prefix, name in (("", "a"), ("", "b"), ("Validation_", "c")):
            xml(tmp_path / f"{prefix}Annotations" / f"{name}.xml")
            picture(tmp_path / f"{prefix}Images" / f"{name}.jpg")

        data = open_data(tmp_path)

        assert (names_of(data.train, tmp_path), names_of(data.val, tmp_path)) == (
            ["Images/a.jpg", "Images/b.jpg"],
            ["Validation_Images/c.jpg"],
        )

    def test_the_name_of_the_file_counts_before_the_name_inside(self, tmp_path: Path) -> None:
        for name, said in (("a", "b.jpg"), ("b", "no"), ("c", "d.jpg")):
            xml(tmp_path / "annotations" / f"{name}.xml", filename=said, name=name)
        for name in ("a", "b", "d"):
            picture(tmp_path / "images" / f"{name}.jpg")

        split = open_split(tmp_path)

        found = {record.path.stem: split.label_map.names[record.labels[0]] for record in split.records}
        assert found == {"a": "a", "b": "b", "d": "c"}

    def test_files_about_one_image_are_joined(self, tmp_path: Path) -> None:
        picture(tmp_path / "set" / "images" / "1.jpg")
        picture(tmp_path / "other" / "images" / "1.jpg")
        for kind in ("defect", "part"):
            xml(tmp_path / "set" / "labels" / kind / "1.xml", name=kind)
        xml(tmp_path / "other" / "labels" / "1.xml", name="part", size=(65, 48))

        split, notes = strictly(read_split(tmp_path))

        assert {record.path.parts[-3]: len(record.labels) for record in split.records} == {"set": 2, "other": 1}
        assert places_of(notes, Fault.JOINED) == ("set/images/1.jpg",)

    def test_two_versions_of_the_annotations_are_refused_and_named(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        xml(tmp_path / "annotations" / "1.xml")
        xml(tmp_path / "annotations_old" / "1.xml", size=(65, 48))

        with pytest.raises(InputError, match=r"annotations/1\.xml and annotations_old/1\.xml mark the same objects"):
            open_split(tmp_path)

    def test_copies_of_a_folder_are_read_once(self, tmp_path: Path) -> None:
        for folder in ("train", "train_zip/train", "test"):
            xml(tmp_path / folder / "1.xml", name=folder[:4])
            picture(tmp_path / folder / "1.jpg", form="PNG")  # as many downloaded pictures are

        split, notes = strictly(read_split(tmp_path, split="train"))

        assert names_of(split, tmp_path) == ["train/1.jpg"]
        assert places_of(notes, Fault.COPIED) == ("train_zip/train",)

    def test_sizes_of_zero_say_nothing(self, tmp_path: Path) -> None:
        xml(tmp_path / "1.xml", size=(0, 0))
        picture(tmp_path / "1.jpg")

        _, notes = strictly(read_split(tmp_path))

        assert not notes

    def test_images_that_nobody_annotated_yet_are_left_out(self, tmp_path: Path) -> None:
        xml(tmp_path / "annotations" / "1.xml")
        for number in (1, 2, 3):
            picture(tmp_path / "images" / f"{number}.jpg")

        split, notes = strictly(read_split(tmp_path))

        assert len(split) == 1
        assert places_of(notes, Fault.NOT_ANNOTATED) == ("images/2.jpg", "images/3.jpg")

    def test_two_folders_that_fit_alike_are_refused_and_named(self, tmp_path: Path) -> None:
        xml(tmp_path / "boxes" / "1.xml")
        for folder in ("left", "right"):
            picture(tmp_path / folder / "1.jpg")

        with pytest.raises(InputError, match=r"may be those of .*left or of .*right, which are called alike"):
            open_split(tmp_path)


COCO_PLACES = {
    "as DETR's tutorials make it": ("annotations/custom_train.json", "train2017/{}", "{}"),
    "beside a folder of any name": ("labels.json", "my photos of cats/{}", "{}"),
    "with folders that are not there": ("annotations.json", "images/{}", "old/place/{}"),
    "absolute, of another machine": ("annotations.json", "images/{}", "/home/someone/data/images/{}"),
    "absolute, of Windows": ("annotations.json", "images/{}", "C:\\data\\images\\{}"),
    "with backslashes": ("annotations.json", "images/{}", "images\\{}"),
    "relative to the annotations": ("annotations/train.json", "images/{}", "../images/{}"),
    "deep below": ("a/b/annotations.json", "a/b/c/d/{}", "{}"),
}


class TestCoco:
    @pytest.mark.parametrize("layout", COCO_PLACES)
    def test_images_are_found(self, tmp_path: Path, layout: str) -> None:
        file, image, listed = COCO_PLACES[layout]
        names = ("1.jpg", "my photo#2.jpg")
        for name in names:
            picture(tmp_path / image.format(name))
        coco(tmp_path / file, *(listed.format(name) for name in names))

        for path in (tmp_path, tmp_path / file):
            split = open_split(path, split=recognise(path).splits[0])
            assert [record.path.name for record in split.records] == list(names)
            assert_all_boxes({"it": split})

    @pytest.mark.parametrize(
        ("there", "listed"),
        [("my photo#1.jpg", "my%20photo%231.jpg"), ("IMG_1.JPG", "img_1.jpg"), ("1.png", "1.jpg"), ("1.jpg", "1")],
    )
    def test_spelling_and_ending_may_differ_which_is_counted(self, tmp_path: Path, there: str, listed: str) -> None:
        picture(tmp_path / "images" / there)
        picture(tmp_path / "images" / "other.jpg")
        coco(tmp_path / "annotations.json", listed, "other.jpg")

        split, notes = strictly(read_split(tmp_path))

        assert [record.path.name for record in split.records] == [there, "other.jpg"]
        assert places_of(notes, Fault.FOUND_ELSEWHERE) == (f"annotations.json: {listed} is images/{there}",)

    def test_splits_may_have_images_of_the_same_names(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            picture(tmp_path / split / "1.jpg")
            coco(tmp_path / f"{split}.json", "1.jpg")

        data = open_data(tmp_path)

        assert (names_of(data.train, tmp_path), names_of(data.val, tmp_path)) == (["train/1.jpg"], ["val/1.jpg"])

    def test_a_missing_image_is_not_taken_from_another_split_or_from_thumbnails(self, tmp_path: Path) -> None:
        for name in ("train/1.jpg", "val/2.jpg", "thumbs/1.jpg", "thumbs/2.jpg"):
            picture(tmp_path / name)
        coco(tmp_path / "train.json", "1.jpg", "2.jpg")
        coco(tmp_path / "val.json", "2.jpg")

        with pytest.raises(InputError, match=r"train/2\.jpg does not exist"):
            open_data(tmp_path)

    def test_of_two_files_that_fit_alike_none_is_taken(self, tmp_path: Path) -> None:
        for name in ("images/1.jpg", "a/2.jpg", "b/2.jpg"):
            picture(tmp_path / name)
        coco(tmp_path / "annotations.json", "1.jpg", "old/2.jpg")

        with pytest.raises(InputError, match=r"'old/2\.jpg' may mean .*a/2\.jpg and .*b/2\.jpg"):
            open_split(tmp_path)

    def test_what_a_detector_found_is_no_annotation(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            picture(tmp_path / "images" / split / "1.jpg")
            label(tmp_path / "labels" / split / "1.txt")
        coco(tmp_path / "predictions" / "detections.json", "1.jpg")
        content = json.loads((tmp_path / "predictions" / "detections.json").read_text())
        content["annotations"][0]["score"] = 0.9
        text(tmp_path / "predictions" / "detections.json", json.dumps(content))
        picture(tmp_path / "predictions" / "pictures" / "1.jpg")

        source = recognise(tmp_path)

        assert source.layout == "yolo"
        assert source.notes == ("passed over, as condetr wrote it: predictions/detections.json",)
        with pytest.raises(InputError, match="holds detections with scores"):
            recognise(tmp_path / "predictions" / "detections.json")

    @pytest.mark.parametrize("files", [("config.yaml", "labels.json"), ("config.json", "model.safetensors")])
    def test_runs_and_models_are_no_data(self, tmp_path: Path, files: tuple[str, str]) -> None:
        picture(tmp_path / "images" / "1.jpg")
        coco(tmp_path / "annotations.json", "1.jpg")
        for file in files:
            text(tmp_path / "runs" / "one" / file, "{}")
        coco(tmp_path / "runs" / "one" / "annotations.json", "1.jpg")

        assert len(open_split(tmp_path)) == 1

    def test_results_of_an_evaluation_are_no_data(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        coco(tmp_path / "labels.json", "1.jpg")
        text(tmp_path / "eval" / "results.json", json.dumps({"AP": 0.5, "images": 1, "per_class": []}))

        assert len(open_split(tmp_path)) == 1

    def test_text_in_utf_16_is_read_and_said(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.jpg")
        coco(tmp_path / "annotations.json", "1.jpg")
        file = tmp_path / "annotations.json"
        file.write_text(file.read_text(), encoding="utf-16")

        split, notes = strictly(read_split(tmp_path))

        assert len(split) == 1
        assert places_of(notes, Fault.OTHER_ENCODING) == ("annotations.json",)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"PK\x03\x04....", "it is a ZIP archive: unpack it"),
            (b"version https://git-lfs.github.com", "git lfs pull"),
        ],
    )
    def test_what_is_no_text_is_called_what_it_is(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        picture(tmp_path / "images" / "1.jpg")
        (tmp_path / "annotations.json").write_bytes(content)

        for path in (tmp_path, tmp_path / "annotations.json"):
            with pytest.raises(InputError, match=sentence):
                open_split(path)

    @pytest.mark.parametrize("area", [-600.0, float("inf"), "600", [], None, True])
    def test_a_bad_area_costs_no_box(self, tmp_path: Path, area: object) -> None:
        picture(tmp_path / "1.jpg")
        coco(tmp_path / "annotations.json", "1.jpg")
        content = json.loads((tmp_path / "annotations.json").read_text())
        content["annotations"][0]["area"] = area
        text(tmp_path / "annotations.json", json.dumps(content))

        assert open_split(tmp_path).records[0].areas.tolist() == [200.0]

    def test_boxes_in_fractions_are_refused(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.jpg")
        coco(tmp_path / "annotations.json", "1.jpg")
        content = json.loads((tmp_path / "annotations.json").read_text())
        content["annotations"][0]["bbox"] = [0.1, 0.2, 0.3, 0.4]
        text(tmp_path / "annotations.json", json.dumps(content))

        with pytest.raises(InputError, match=r"lie between 0 and 1.* multiply them by the width and height"):
            open_split(tmp_path)

    def test_a_file_under_two_ids_is_told(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.jpg")
        coco(tmp_path / "annotations.json", "1.jpg", "1.jpg")

        findings = open_data(tmp_path, val_split="annotations").findings

        assert [finding.severity for finding in findings if "under several ids" in finding.what] == ["warning"]

    def test_classes_that_differ_in_blanks_or_case_alone_are_told(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.jpg")
        coco(tmp_path / "annotations.json", "1.jpg")
        content = json.loads((tmp_path / "annotations.json").read_text())
        content["categories"].append({"id": 1, "name": "Cat "})
        text(tmp_path / "annotations.json", json.dumps(content))

        (found,) = [f for f in open_data(tmp_path, val_split="annotations").findings if "blanks or case" in f.what]

        assert (found.severity, found.examples) == ("warning", ("'cat'", "'Cat '"))


YOLO_PLACES = {
    "beside the images": ("{}.txt", "{}.jpg"),
    "in a folder beside the images": ("photos/{}.txt", "photos/{}.jpg"),
    "one folder down": ("dataset/labels/{}.txt", "dataset/images/{}.jpg"),
    "of another name": ("boxes/{}.txt", "photos/{}.jpg"),
}


class TestYolo:
    @pytest.mark.parametrize("layout", YOLO_PLACES)
    def test_labels_are_found(self, tmp_path: Path, layout: str) -> None:
        labels, images = YOLO_PLACES[layout]
        for name in ("a", "b.c"):
            label(tmp_path / labels.format(name))
            picture(tmp_path / images.format(name))
        text(tmp_path / labels.format("classes"), "cat\n")

        splits = splits_of(tmp_path)

        assert [(name, len(split)) for name, split in splits.items()] == [("all", 2)]
        assert_all_boxes(splits)
        assert splits["all"].label_map.names == ("cat",)

    @pytest.mark.parametrize("file", ["dataset/data.yaml", "a/b/config.yaml"])
    def test_a_description_may_lie_below(self, tmp_path: Path, file: str) -> None:
        folder = (tmp_path / file).parent
        for split in ("train", "val"):
            picture(folder / split / "images" / "1.jpg")
            label(folder / split / "labels" / "1.txt")
        text(tmp_path / file, "names: [cat]\ntrain: train/images\nval: val/images\n")

        assert_all_boxes(splits_of(tmp_path))
        assert file in recognise(tmp_path).understood

    @pytest.mark.parametrize(
        "path", ["path: /content/data\n", "path: C:\\Users\\me\\data\n", "path: ../datasets/data\n", ""]
    )
    @pytest.mark.parametrize(
        "entry", ["images/train", "images\\train", ".\\images\\train", "/content/data/images/train"]
    )
    def test_paths_of_the_machine_it_was_written_on_are_found_here(self, tmp_path: Path, path: str, entry: str) -> None:
        picture(tmp_path / "images" / "train" / "1.jpg")
        label(tmp_path / "labels" / "train" / "1.txt")
        text(tmp_path / "data.yaml", f"{path}names: [cat]\ntrain: {entry}\n")

        assert_all_boxes(splits_of(tmp_path))

    def test_what_is_cut_off_a_path_never_tells_splits_apart(self, tmp_path: Path) -> None:
        for name in ("images", "valid/images"):
            picture(tmp_path / name / "1.jpg")
            label(tmp_path / name.replace("images", "labels") / "1.txt")
        text(tmp_path / "data.yaml", "names: [cat]\ntrain: /x/train/images\nval: /x/valid/images\n")

        with pytest.raises(InputError, match="train is '/x/train/images', which is neither"):
            open_data(tmp_path)

    def test_of_two_descriptions_of_the_same_images_the_one_with_boxes_is_read(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        for task, line in (("boxes", None), ("outlines", "0 .1 .1 .5 .1 .5 .6 .2 .7\n")):
            label(tmp_path / task / "labels" / "1.txt")
            if line:
                text(tmp_path / task / "labels" / "1.txt", line)
            (tmp_path / task / "images").symlink_to(tmp_path / "images")
            text(tmp_path / task / "config.yaml", "names: [cat]\ntrain: images\n")

        source = recognise(tmp_path)

        assert source.understood.startswith("YOLO: boxes/config.yaml")
        assert "outlines/config.yaml" in source.understood
        assert_all_boxes(splits_of(tmp_path))

    def test_darknet_names_lists_and_classes(self, tmp_path: Path) -> None:
        for name in ("1", "2", "3"):
            picture(tmp_path / "obj" / f"{name}.jpg")
            label(tmp_path / "obj" / f"{name}.txt")
        text(tmp_path / "obj.names", "cat\ndog\n")
        text(tmp_path / "train.txt", "data/obj/1.jpg\ndata/obj/2.jpg\n")
        text(tmp_path / "test.txt", "data/obj/3.jpg\n")
        text(
            tmp_path / "obj.data",
            "classes = 2\ntrain = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\nbackup = backup/\n",
        )

        splits = splits_of(tmp_path)

        assert {name: len(split) for name, split in splits.items()} == {"train": 2, "val": 1}
        assert splits["val"].label_map.names == ("cat", "dog")
        assert_all_boxes(splits)

    def test_of_lists_among_the_labels_those_that_name_most_images_divide_them(self, tmp_path: Path) -> None:
        for name in ("1", "2", "3", "4"):
            picture(tmp_path / f"{name}.jpg")
            label(tmp_path / f"{name}.txt")
        for name, listed in {"train": "12", "test": "3", "train2": "12", "test2": "34", "full": "1"}.items():
            text(tmp_path / f"{name}.txt", "".join(f"aerial/{number}.jpg\n" for number in listed))
        text(tmp_path / "train2.txt", (tmp_path / "train2.txt").read_text() + "aerial/lost.jpg\n")

        splits = splits_of(tmp_path)
        _, notes = strictly(read_split(tmp_path, split="train2"))

        assert {name: names_of(split, tmp_path) for name, split in splits.items()} == {
            "test2": ["3.jpg", "4.jpg"],
            "train2": ["1.jpg", "2.jpg"],
        }
        assert set(places_of(notes, Fault.NOT_READ)) == {"test.txt", "train.txt"}
        assert places_of(notes, Fault.UNREADABLE) == ("train2.txt: aerial/lost.jpg",)

    def test_images_of_one_name_share_no_label_file(self, tmp_path: Path) -> None:
        for name in ("1.jpg", "1.png", "2.jpg"):
            picture(tmp_path / "images" / name)
        for name in ("1", "2"):
            label(tmp_path / "labels" / f"{name}.txt")
        text(tmp_path / "classes.txt", "cat\n")

        split, notes = strictly(read_split(tmp_path))

        assert names_of(split, tmp_path) == ["images/1.jpg", "images/2.jpg"]
        assert places_of(notes, Fault.NAMESAKE) == ("images/1.png",)

    def test_two_label_files_of_an_image_are_refused_and_named(self, tmp_path: Path) -> None:
        picture(tmp_path / "photos" / "1.jpg")
        for folder in ("boxes", "boxes_old"):
            label(tmp_path / folder / "1.txt")

        with pytest.raises(InputError, match=r"boxes/1\.txt and boxes_old/1\.txt both hold labels of photos/1\.jpg"):
            open_split(tmp_path)

    def test_a_folder_of_labels_in_capitals_is_read_and_named(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        label(tmp_path / "Labels" / "1.txt")
        text(tmp_path / "data.yaml", "names: [cat]\ntrain: images\n")

        split, notes = strictly(read_split(tmp_path, split="train"))

        assert_all_boxes({"train": split})
        assert places_of(notes, Fault.OTHER_LABELS_FOLDER) == ("train: there is no folder labels/, so Labels/ is read",)

    def test_a_split_without_any_label_file_is_refused_with_the_folder_that_is_missing(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        text(tmp_path / "data.yaml", "names: [cat]\ntrain: images\n")

        with pytest.raises(
            InputError, match=r"has no labels: they should be in .*labels, where there is no such folder"
        ):
            open_split(tmp_path)

    def test_a_count_of_classes_other_than_the_names_is_told(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        label(tmp_path / "labels" / "1.txt")
        text(tmp_path / "data.yaml", "names: [cat, dog]\nnc: 5\ntrain: images\nval: images\n")

        (found,) = [finding for finding in open_data(tmp_path).findings if "count of classes" in finding.what]

        assert (found.severity, found.examples) == ("warning", ("data.yaml: nc is 5, names are 2",))

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ("0 0.2 0.3 0.3 0.3 0.57 1", "may be a triangle, or a box with its confidence and a track id"),
            ("0 0.2 0.3 0.3 0.3 0.9 0.9 2 0.2 0.2 2", "some above 1, so it is no polygon.* say so by kpt_shape"),
        ],
    )
    def test_numbers_behind_a_box_are_no_polygon(self, tmp_path: Path, line: str, sentence: str) -> None:
        picture(tmp_path / "images" / "1.jpg")
        text(tmp_path / "labels" / "1.txt", line)
        text(tmp_path / "classes.txt", "cat\n")

        with pytest.raises(InputError, match=sentence):
            open_split(tmp_path)

    def test_among_longer_polygons_seven_numbers_are_a_triangle(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        text(tmp_path / "labels" / "1.txt", "0 .1 .1 .5 .1 1 1\n0 .1 .1 .5 .1 .5 .5 .1 .5\n")
        text(tmp_path / "classes.txt", "cat\n")

        assert len(open_split(tmp_path).records[0].labels) == 2


HEADED = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
CSV = {
    "TensorFlow's": HEADED + "1.jpg,64,48,cat,4,5,24,15\n2.jpg,64,48,dog,4,5,24,15\n",
    "RetinaNet's": "images/1.jpg,4,5,24,15,cat\nimages/2.jpg,4,5,24,15,dog\n",
    "Open Images'": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    f"1,x,cat,1,{4 / 64},{24 / 64},{5 / 48},{15 / 48},0\n2,x,dog,1,{4 / 64},{24 / 64},{5 / 48},{15 / 48},0\n",
    "Kaggle's": 'image_id,width,height,bbox,label\n1,64,48,"[4, 5, 20, 10]",cat\n2,64,48,"[4, 5, 20, 10]",dog\n',
    "with semicolons": HEADED.replace(",", ";") + "1.jpg;64;48;cat;4;5;24;15\n2.jpg;64;48;dog;4;5;24;15\n",
}


class TestCsv:
    @pytest.mark.parametrize("kind", CSV)
    def test_tables_are_read(self, tmp_path: Path, kind: str) -> None:
        for number in (1, 2):
            picture(tmp_path / "images" / f"{number}.jpg")
        text(tmp_path / "boxes.csv", CSV[kind])

        for path in (tmp_path, tmp_path / "boxes.csv"):
            split = open_split(path)
            assert_all_boxes({"all": split})
            assert [split.label_map.names[record.labels[0]] for record in split.records] == ["cat", "dog"]

    def test_splits_come_from_the_names_of_files(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            picture(tmp_path / "images" / f"{split}.jpg")
            text(tmp_path / "data" / f"{split}_labels.csv", f"{HEADED}{split}.jpg,64,48,cat,4,5,24,15\n")

        assert {name: len(split) for name, split in splits_of(tmp_path).items()} == {"test": 1, "train": 1}

    def test_a_column_may_name_the_splits(self, tmp_path: Path) -> None:
        for number in (1, 2, 3):
            picture(tmp_path / f"{number}.jpg")
        rows = "".join(f"{n}.jpg,{split},cat,4,5,24,15\n" for n, split in ((1, "train"), (2, "valid"), (3, "train")))
        text(tmp_path / "boxes.csv", f"filename,split,class,xmin,ymin,xmax,ymax\n{rows}")

        splits = splits_of(tmp_path)

        assert {name: names_of(split, tmp_path) for name, split in splits.items()} == {
            "train": ["1.jpg", "3.jpg"],
            "valid": ["2.jpg"],
        }
        assert_all_boxes(splits)

    def test_a_path_alone_is_an_image_without_objects(self, tmp_path: Path) -> None:
        for number in (1, 2):
            picture(tmp_path / f"{number}.jpg")
        text(tmp_path / "boxes.csv", "1.jpg,4,5,24,15,cat\n2.jpg,,,,,\n")

        assert [len(record.labels) for record in open_split(tmp_path).records] == [1, 0]

    @pytest.mark.parametrize(
        ("row", "sentence"),
        [
            ("1.jpg,64,48,cat,4,5,x,15", r"row 2 has x2 'x', expected a finite number"),
            ("1.jpg,64,48,,4,5,24,15", "row 2 has a box without a class"),
            (",64,48,cat,4,5,24,15", "row 2 names no image"),
            ("1.jpg,64,48,cat,4,5,nan,15", "row 2 has x2 'nan'"),
        ],
    )
    def test_faulty_rows_are_refused(self, tmp_path: Path, row: str, sentence: str) -> None:
        picture(tmp_path / "1.jpg")
        text(tmp_path / "boxes.csv", f"{HEADED}{row}\n1.jpg,64,48,cat,4,5,24,15\n")

        with pytest.raises(InputError, match=sentence):
            open_split(tmp_path)

    def test_fractions_may_overhang_a_little_and_are_known_over_all_files(self, tmp_path: Path) -> None:
        for number in range(12):
            picture(tmp_path / "images" / f"{number}.jpg")
        rows = "".join(f"{number}.jpg,{4 / 64},{5 / 48},{24 / 64},{15 / 48},cat\n" for number in range(10))
        text(tmp_path / "train.csv", f"{rows}10.jpg,.5,.5,.9,1.001,cat\n")
        text(tmp_path / "val.csv", "11.jpg,0,0,1,1,cat\n")

        splits = splits_of(tmp_path)

        assert splits["train"].records[-1].boxes_xyxy.tolist() == [[32, 24, pytest.approx(57.6), 48]]
        assert splits["val"].records[0].boxes_xyxy.tolist() == [[0, 0, 64, 48]]

    def test_what_a_detector_scored_is_no_annotation(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.jpg")
        text(tmp_path / "truth.csv", f"{HEADED}1.jpg,64,48,cat,4,5,24,15\n")
        text(tmp_path / "submission.csv", "filename,class,confidence,xmin,ymin,xmax,ymax\n1.jpg,cat,0.9,1,2,9,9\n")

        assert_all_boxes(splits_of(tmp_path))

    def test_without_a_column_of_classes_all_boxes_are_of_one_class(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.jpg")
        text(tmp_path / "train.csv", 'image_id,width,height,bbox,source\n1,64,48,"[4, 5, 20, 10]",usask_1\n')

        split, notes = strictly(read_split(tmp_path, split="train"))

        assert split.label_map.names == ("object",)
        assert len(places_of(notes, Fault.UNNAMED_CLASS)) == 1

    def test_xml_is_read_where_a_table_was_made_from_it(self, tmp_path: Path) -> None:
        xml(tmp_path / "annotations" / "1.xml")
        picture(tmp_path / "images" / "1.jpg")
        text(tmp_path / "data" / "labels.csv", f"{HEADED}1.jpg,64,48,cat,5,6,24,15\n")

        source = recognise(tmp_path)

        assert source.layout == "voc"
        assert source.notes[0].startswith("not read: CSV: data/labels.csv")


class TestNothingIsLostWithoutAWord:
    """Parts of a data set that the chosen layout does not reach are told."""

    def warned(self, folder: Path, fault: Fault, *, split: str | None = None) -> tuple[str, ...]:
        _, notes = strictly(read_split(folder, split=split))
        return places_of(notes, fault)

    @pytest.mark.parametrize("yaml", [None, "names: [cat]\ntrain: images\n"])
    def test_labelled_images_beside_the_usual_folders(self, tmp_path: Path, yaml: str | None) -> None:
        for name in ("images/1", "augmented/images/2"):
            picture(tmp_path / f"{name}.jpg")
            label(tmp_path / f"{name.replace('images', 'labels')}.txt")
        if yaml:
            text(tmp_path / "data.yaml", yaml)

        assert self.warned(tmp_path, Fault.NOT_REACHED) == ("augmented/images/2.jpg",)

    def test_folders_beside_one_that_is_called_train(self, tmp_path: Path) -> None:
        for name in ("train/1", "bus/2"):
            picture(tmp_path / f"{name}.jpg")
            label(tmp_path / f"{name}.txt")

        assert self.warned(tmp_path, Fault.UNUSED_FOLDER, split="train") == ("bus",)

    def test_annotated_images_that_no_list_of_voc_names(self, tmp_path: Path) -> None:
        for name in ("1", "2"):
            picture(tmp_path / "JPEGImages" / f"{name}.jpg")
            xml(tmp_path / "Annotations" / f"{name}.xml")
        text(tmp_path / "ImageSets" / "train.txt", "1.jpg\n")

        assert self.warned(tmp_path, Fault.NOT_LISTED, split="train") == ("JPEGImages/2.jpg",)

    def test_lists_of_one_folder_do_not_reach_into_another(self, tmp_path: Path) -> None:
        for folder in ("A", "B"):
            picture(tmp_path / folder / "JPEGImages" / "1.jpg")
            xml(tmp_path / folder / "Annotations" / "1.xml", name=folder)
        text(tmp_path / "A" / "ImageSets" / "Main" / "train.txt", "1\n")

        split = open_split(tmp_path, split="train")

        assert [record.path.parts[-3] for record in split.records] == ["A"]
        assert self.warned(tmp_path, Fault.NOT_LISTED, split="train") == ("B/JPEGImages/1.jpg",)

    def test_annotations_whose_images_are_missing_do_not_take_those_of_others(self, tmp_path: Path) -> None:
        for folder in ("A", "B"):
            xml(tmp_path / folder / "Annotations" / "1.xml", name=folder)
        picture(tmp_path / "A" / "JPEGImages" / "1.jpg")

        with pytest.raises(InputError, match=r"B/Annotations/1\.jpg does not exist"):
            open_split(tmp_path)

    def test_lists_beside_images_and_labels_divide_them(self, tmp_path: Path) -> None:
        for name in ("1", "2", "3"):
            picture(tmp_path / "images" / f"{name}.jpg")
            label(tmp_path / "labels" / f"{name}.txt")
        text(tmp_path / "train.txt", "images/1.jpg\nimages/2.jpg\n")
        text(tmp_path / "val.txt", "images/3.jpg\n")

        assert {name: len(split) for name, split in splits_of(tmp_path).items()} == {"train": 2, "val": 1}

    def test_class_names_that_differ_are_refused(self, tmp_path: Path) -> None:
        for folder in ("a", "b"):
            picture(tmp_path / folder / f"{folder}.jpg")
            label(tmp_path / folder / f"{folder}.txt")
            text(tmp_path / folder / "classes.txt", f"{folder}\n")

        with pytest.raises(InputError, match=r"class names that differ.*a/classes\.txt, b/classes\.txt"):
            open_split(tmp_path)

    def test_names_that_differ_in_case_alone_stay_apart(self, tmp_path: Path) -> None:
        for name in ("A", "a"):
            picture(tmp_path / "images" / f"{name}.jpg")
            xml(tmp_path / "boxes" / f"{name}.xml", name=f"class {name}")
        split = open_split(tmp_path)

        found = {record.path.stem: split.label_map.names[record.labels[0]] for record in split.records}
        assert found == {"A": "class A", "a": "class a"}

    def test_labels_may_end_in_capitals(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        label(tmp_path / "labels" / "1.TXT")
        text(tmp_path / "classes.txt", "cat\n")

        assert_all_boxes({"all": open_split(tmp_path)})

    def test_a_link_to_itself_is_one_broken_image(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "1.jpg")
        label(tmp_path / "labels" / "1.txt")
        (tmp_path / "images" / "2.jpg").symlink_to("2.jpg")

        with pytest.raises(InputError, match=r"1 image is missing or unreadable"):
            open_split(tmp_path)


class TestSeveral:
    def test_layouts_of_different_images_are_refused_and_both_are_named(self, tmp_path: Path) -> None:
        xml(tmp_path / "voc" / "annotations" / "1.xml")
        picture(tmp_path / "voc" / "images" / "1.jpg")
        coco(tmp_path / "coco" / "labels.json", "2.jpg")
        picture(tmp_path / "coco" / "images" / "2.jpg")

        with pytest.raises(InputError, match=r"several layouts .*COCO: coco/labels\.json.* / Pascal VOC: 1 XML"):
            recognise(tmp_path)

    def test_of_two_layouts_of_the_same_images_the_one_with_many_more_is_read(self, tmp_path: Path) -> None:
        for number in range(5):
            picture(tmp_path / f"{number}.jpg")
            xml(tmp_path / f"{number}.xml")
        coco(tmp_path / "sample.json", "0.jpg")

        source = recognise(tmp_path)

        assert (source.layout, source.num_images) == ("voc", 5)
        assert source.notes == ("not read: COCO: sample.json with images in the folder itself; no split",)

    @pytest.mark.parametrize("content", [{"images": ["images/1.jpg"]}, {"images": [{"src": "a"}], "title": "x"}])
    def test_other_tools_lists_of_images_are_no_coco(self, tmp_path: Path, content: object) -> None:
        xml(tmp_path / "annotations" / "1.xml")
        picture(tmp_path / "images" / "1.jpg")
        text(tmp_path / "dataset.json", json.dumps(content))

        assert recognise(tmp_path).layout == "voc"

    def test_a_description_of_data_that_is_not_here_does_not_hide_what_is(self, tmp_path: Path) -> None:
        xml(tmp_path / "train" / "1.xml")
        picture(tmp_path / "train" / "1.jpg")
        text(tmp_path / "custom.yaml", "names: [cat]\nnc: 1\ntrain: train.txt\n")
        text(tmp_path / "train.txt", "C:\\photos\\1.jpg\n")

        source = recognise(tmp_path)

        assert source.layout == "voc"
        assert "custom.yaml" in source.notes[0]


class TestUnknown:
    def test_what_is_there_is_said(self, tmp_path: Path) -> None:
        for number in range(3):
            picture(tmp_path / "a" / f"{number}_test.jpg")
            text(tmp_path / "b" / f"{number}.txt", "466 441 493 470 3\n")
        text(tmp_path / "list.txt", "a/0.jpg b/0.txt\n")

        with pytest.raises(InputError, match=r"it has 4 \.txt of lines with five numbers .* beside 3 \.jpg"):
            recognise(tmp_path)

    def test_images_alone_and_archives_are_called_so(self, tmp_path: Path) -> None:
        picture(tmp_path / "photos" / "1.jpg")
        text(tmp_path / "data.zip", "")

        with pytest.raises(InputError, match="holds 1 images but no annotations"):
            recognise(tmp_path / "photos")
        with pytest.raises(InputError, match="is an archive: unpack it"):
            recognise(tmp_path / "data.zip")

    def test_a_folder_of_runs_alone_is_called_so(self, tmp_path: Path) -> None:
        for name in ("config.yaml", "labels.json"):
            text(tmp_path / "run" / name, "{}")

        with pytest.raises(InputError, match=r"holds no data set but what condetr wrote \(run/\)"):
            recognise(tmp_path)
