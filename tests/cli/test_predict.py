import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from condetr.data.findings import strictly
from condetr.data.sources import read_split
from condetr.inference.video import frames_of
from tests.films import write_film

Command = Callable[..., Any]


def test_every_image_gets_a_picture_also_where_names_repeat(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    ended = condetr("predict", weights, photos, "--out", tmp_path / "out")

    assert ended.code in (0, None)
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == [
        "c.jpg",
        "photo-2.jpg",
        "photo.jpg",
    ]


def test_detections_are_a_coco_file_with_the_ids_of_the_data(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    condetr("predict", weights, photos, "--out", tmp_path / "out", "--limit", 3)

    coco = COCO(str(tmp_path / "out" / "detections.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        str(photos / name) for name in ("a/photo.jpg", "b/photo.png", "c.jpg")
    ]
    assert {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())} == {3: "bolt", 7: "nut"}
    assert {annotation["category_id"] for annotation in coco.anns.values()} <= {3, 7}
    assert len(coco.anns) == 3 * 3


def test_the_threshold_is_for_pictures_only(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out", "--threshold", 1)

    assert "0 objects with a score of 1 or more" in ended.out
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["annotations"]) == 4


def test_an_unreadable_image_among_others_is_counted_and_left_out(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")

    ended = condetr("predict", weights, photos, "--out", tmp_path / "out")

    assert ended.code in (0, None)
    assert "1 of 4 images left out" in ended.err
    assert "broken.jpg" in ended.err
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 3


def test_only_unreadable_images_are_refused(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "c.jpg").write_bytes(b"no image")

    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out")

    assert ended.code == 2
    assert "no image could be read, of 1" in ended.err


def test_results_are_not_overwritten_unless_said(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    command = ("predict", weights, photos, "--out", tmp_path / "out")
    condetr(*command)

    assert condetr(*command).code == 2
    assert condetr(*command, "--overwrite").code in (0, None)


def test_what_is_left_out_and_pages_that_are_not_read_are_a_line_each(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "film.mp4").touch()
    page = Image.new("RGB", (48, 32))
    page.save(photos / "pages.tif", save_all=True, append_images=[page])

    ended = condetr("predict", weights, photos, "--out", tmp_path / "out")

    assert ended.code in (0, None)
    left_out, pages = [line for line in ended.err.splitlines() if line]
    assert left_out.startswith(f"condetr: left out of {photos}: 1 file that cannot be read as images (film.mp4); ")
    assert pages.endswith(f" with several pages or frames, of which only the first was used: {photos / 'pages.tif'}")


def set_threshold(weights: Path, threshold: float) -> None:
    path = weights / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": threshold}))


def test_the_models_own_threshold_is_used_and_named(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    set_threshold(weights, 0.0001)

    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out")

    assert "1 image, 4 objects with a score of 0.0001 or more" in ended.out
    assert "threshold 0.0001, which had the best F1 in the model's validation" in ended.out


def test_weights_without_a_threshold_use_one_half_and_say_so(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out")

    assert "threshold 0.5, as these weights store none" in ended.out


def test_a_given_threshold_is_not_explained(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out", "--threshold", 0.4)

    assert "see --threshold" not in ended.out


def test_where_nothing_passes_the_best_score_is_named(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    ended = condetr("predict", weights, photos, "--out", tmp_path / "out", "--threshold", 0.99)

    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    best = max(found["annotations"], key=lambda each: each["score"])
    (image,) = (each["file_name"] for each in found["images"] if each["id"] == best["image_id"])
    name = {3: "bolt", 7: "nut"}[best["category_id"]]
    assert f"nothing above 0.99; the best score was {best['score']:.3g}, for {name} in {image}" in ended.out


def test_only_the_named_classes_are_found(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    command = ("predict", weights, photos, "--threshold", 0)
    counts = {}
    for names in ("bolt", "nut", "bolt,nut"):
        condetr(*command, "--out", tmp_path / names, "--classes", names)
        rows = json.loads((tmp_path / names / "detections.json").read_text())["annotations"]
        counts[names] = [row["category_id"] for row in rows]

    assert set(counts["bolt"]) <= {3}
    assert set(counts["nut"]) <= {7}
    assert len(counts["bolt"]) + len(counts["nut"]) == len(counts["bolt,nut"]) == 3 * 4


def test_an_unknown_class_is_refused_with_the_nearest(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    ended = condetr("predict", weights, photos, "--out", tmp_path / "out", "--classes", "nut,blot")

    assert ended.code == 2
    assert ended.err == "condetr: the model has no class 'blot'; did you mean 'bolt'?\n"
    assert not (tmp_path / "out").exists()


def test_labels_to_correct_are_saved_in_several_layouts_at_once(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    ended = condetr(
        *("predict", weights, photos, "--out", tmp_path / "out", "--threshold", 0),
        *("--save", "yolo,coco", "--save", "crops", "--no-pictures"),
    )

    assert ended.code in (0, None), ended.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["coco", "crops", "detections.json", "yolo"]
    for kind in ("yolo", "coco"):
        split, _ = strictly(read_split(tmp_path / "out" / kind))
        assert sorted(record.path.name for record in split.records) == ["c.jpg", "photo-2.png", "photo.jpg"]
        assert sum(len(record.labels) for record in split.records) > 0
        assert f"saved: {tmp_path / 'out' / kind}" in ended.out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--save", "pdf"), "detections cannot be saved as 'pdf': give some of crops, yolo, coco, voc, csv"),
        (("--tile", 8), "Invalid value for '--tile'"),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path, options: tuple[object, ...], complaint: str
) -> None:
    ended = condetr("predict", weights, photos, "--out", tmp_path / "out", *options)

    assert ended.code == 2
    assert complaint in ended.err
    assert not (tmp_path / "out").exists()


def test_an_empty_source_is_refused(condetr: Command, weights: Path, tmp_path: Path) -> None:
    for source in ("", " "):
        ended = condetr("predict", weights, source, "--out", tmp_path / "out")

        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert "empty" in ended.err


def test_sources_may_come_from_stdin(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos / 'c.jpg'}\n{photos / 'a'}\n"))

    ended = condetr("predict", weights, "-", "--out", tmp_path / "out")

    assert ended.out.startswith("2 images, ")


def test_a_video_becomes_an_annotated_video_and_a_line_of_json_for_every_frame(
    condetr: Command, weights: Path, tmp_path: Path
) -> None:
    film = write_film(tmp_path / "film.mp4")

    ended = condetr("predict", weights, film, "--out", tmp_path / "out", "--threshold", 0, "--frames", 3)

    videos = tmp_path / "out" / "videos"
    assert ended.out == f"{film}: 3 frames, 12 objects with a score of 0 or more: {videos / 'film.mp4'}\n"
    assert len(list(frames_of(videos / "film.mp4"))) == 3
    rows = [json.loads(line) for line in (videos / "film.jsonl").read_text().splitlines()]
    assert [len(row["detections"]) for row in rows] == [4, 4, 4]


def test_images_and_videos_together_are_one_json(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")

    ended = condetr("predict", weights, film, photos, "--out", tmp_path / "out", "--json", "--no-pictures")

    told = json.loads(ended.out)
    assert len(told["images"]) == 3
    (video,) = told["videos"]
    assert (video["frames"], video["picture"]) == (6, None)
    assert Path(video["detections"]).is_file()


def test_labels_of_a_video_are_refused_before_anything_is_written(
    condetr: Command, weights: Path, tmp_path: Path
) -> None:
    film = write_film(tmp_path / "film.mp4")

    ended = condetr("predict", weights, film, "--out", tmp_path / "out", "--save", "voc")

    assert ended.code == 2
    assert ended.err == f"condetr: --save is for images, and {film} is a video: save its frames as images first\n"
    assert not (tmp_path / "out").exists()


def test_a_broken_video_is_refused(condetr: Command, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no video")

    ended = condetr("predict", weights, tmp_path / "film.mp4", "--out", tmp_path / "out")

    assert ended.code == 2
    assert "no video could be read, of 1; the first: " in ended.err
    assert not (tmp_path / "out").exists()


def test_a_large_image_is_looked_at_in_tiles(condetr: Command, weights: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")

    for name, options in (("whole", ()), ("tiles", ("--tile", 64, "--overlap", 0.25))):
        condetr("predict", weights, tmp_path / "large.png", "--out", tmp_path / name, "--threshold", 0, *options)

    whole, tiles = (
        json.loads((tmp_path / name / "detections.json").read_text())["annotations"] for name in ("whole", "tiles")
    )
    assert len(whole) == 4
    assert len(tiles) > 4
