import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condetr.inference import fastest
from tests.cli.conftest import Command, Ended

Begin = Callable[..., Ended]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Return eleven images of two sizes, and one that is none."""
    rng = np.random.default_rng(0)
    (tmp_path / "many").mkdir()
    for number in range(11):
        size_hw = (32, 48) if number % 3 else (48, 32)
        Image.fromarray(rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(tmp_path / f"many/{number:02}.png")
    (tmp_path / "many" / "05.png").write_bytes(b"no image")
    return tmp_path / "many"


@pytest.fixture
def predict(condetr: Command, weights: Path, many: Path) -> Begin:
    """Predict in shards of four images; later options win."""

    def predict(out: Path, *options: object, images: object = many) -> Ended:
        settings = ("--format", "jsonl", "--shard-size", 4, "--min-score", 0, "--workers", 1)
        return condetr("predict", weights, images, "--out", out, *settings, *options)

    return predict


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for each in content(out).values() for line in each.splitlines()]


def test_every_image_is_in_a_shard_or_in_the_list_of_errors(predict: Begin, many: Path, tmp_path: Path) -> None:
    ended = predict(tmp_path / "out")

    assert ended.code in (0, None), ended.err
    assert list(content(tmp_path / "out")) == ["000000.jsonl", "000001.jsonl", "000002.jsonl"]
    names = [Path(row["image"]).name for row in rows(tmp_path / "out")]
    assert names == [f"{number:02}.png" for number in range(11) if number != 5]
    (error,) = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert error["image"] == str(many / "05.png")
    assert "1 of 11 images left out, see " in ended.err
    assert "10 images, 40 objects with a score of 0 or more" in ended.out


def test_boxes_are_those_of_the_ordinary_prediction(
    predict: Begin, condetr: Command, weights: Path, many: Path, tmp_path: Path
) -> None:
    predict(tmp_path / "shards", "--format", "coco")
    condetr("predict", weights, many, "--out", tmp_path / "once", "--no-pictures")

    once = json.loads((tmp_path / "once" / "detections.json").read_text())
    shards = [json.loads(each) for each in content(tmp_path / "shards").values()]
    assert once["images"] == [image for shard in shards for image in shard["images"]]
    both = zip(once["annotations"], (row for shard in shards for row in shard["annotations"]), strict=True)
    for one, other in both:
        assert one.keys() == other.keys()
        assert [one[key] for key in ("id", "image_id", "category_id")] == [
            other[key] for key in ("id", "image_id", "category_id")
        ]
        assert other["bbox"] == pytest.approx(one["bbox"], abs=0.011)
        assert other["score"] == pytest.approx(one["score"], abs=1.1e-5)


def test_lower_scores_are_left_out_by_default_and_kept_if_wished(predict: Begin, tmp_path: Path) -> None:
    predict(tmp_path / "all")
    scores = sorted(each["score"] for row in rows(tmp_path / "all") for each in row["detections"])
    least = scores[len(scores) // 2]

    predict(tmp_path / "some", "--min-score", least)

    kept = [each["score"] for row in rows(tmp_path / "some") for each in row["detections"]]
    assert 0 < len(kept) < len(scores)
    assert min(kept) >= least - 1e-5


def test_what_is_missing_is_done_again_and_nothing_else(predict: Begin, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(out)
    whole, written = content(out), (out / "shards" / "000000.jsonl").stat().st_mtime_ns
    (out / "shards" / "000001.jsonl").unlink()
    (out / "shards" / "000002.jsonl").write_bytes(b"half")
    (out / "shards" / ".000002.jsonl.draft-77.jsonl").write_bytes(b"left by a killed process")

    ended = predict(out, "--resume")

    assert "continuing: 4 images of 11 were looked at before" in ended.out
    assert content(out) == whole
    assert (out / "shards" / "000000.jsonl").stat().st_mtime_ns == written


def test_parts_together_are_the_whole(predict: Begin, tmp_path: Path) -> None:
    predict(tmp_path / "whole")

    first = predict(tmp_path / "parts", "--part", "1/2", "--resume")
    second = predict(tmp_path / "parts", "--part", "2/2", "--resume")

    assert "part 1/2: 2 of all 3 shards are complete" in first.out
    assert "part 2/2: 3 of all 3 shards are complete" in second.out
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    errors = [(tmp_path / name / "errors.jsonl").read_bytes() for name in ("parts", "whole")]
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--min-score", 0.3), "--min-score 0.0, and now it is 0.3"),
        (("--batch-size", 2), "--batch-size 8, and now it is 2"),
        (("--shard-size", 5), "--shard-size 4, and now it is 5"),
        (("--classes", "nut"), "--classes None, and now it is ['nut']"),
        (("--format", "coco"), "--format jsonl, and now it is coco"),
    ],
)
def test_other_settings_do_not_continue_a_prediction(
    predict: Begin, tmp_path: Path, options: tuple[object, ...], complaint: str
) -> None:
    predict(tmp_path / "out")
    before = content(tmp_path / "out")

    ended = predict(tmp_path / "out", "--resume", *options)

    assert ended.code == 2
    assert ended.err.endswith(f"was begun with {complaint}: give the same as then, or name another folder with --out\n")
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_fastest_engine_is_chosen_once_for_all_shards(
    predict: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    pytest.importorskip(engine)
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(fastest, "remembered", lambda what, *, measure: f"{engine} in fp32")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert predict(whole, "--precision", "auto").code in (0, None)
    assert predict(cut, "--precision", "auto").code in (0, None)
    begun = json.loads((cut / "manifest.json").read_text())
    assert (begun["engine"], begun["precision"]) == (engine, "fp32")

    (cut / "done" / "000001.json").unlink()
    (cut / "shards" / "000001.jsonl").unlink()
    monkeypatch.setattr(fastest, "remembered", lambda what, *, measure: "torch in bf16")  # another machine
    ended = predict(cut, "--precision", "auto", "--resume")

    assert ended.code in (0, None), ended.err
    assert content(cut) == content(whole)


def test_other_images_or_weights_do_not_continue_a_prediction(
    predict: Begin, weights: Path, many: Path, tmp_path: Path
) -> None:
    predict(tmp_path / "out")
    (many / "10.png").rename(many / "12.png")
    renamed = predict(tmp_path / "out", "--resume")
    (many / "12.png").unlink()
    fewer = predict(tmp_path / "out", "--resume")
    path = weights / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": 0.1}))
    other = predict(tmp_path / "out", "--resume")

    assert "was begun with other images: " in renamed.err
    assert "was begun with 11 images, and now there are 10: " in fewer.err
    assert "was begun with other weights: " in other.err
    assert {renamed.code, fewer.code, other.code} == {2}


def test_a_prediction_is_continued_or_begun_anew_only_if_said(predict: Begin, many: Path, tmp_path: Path) -> None:
    predict(tmp_path / "out")
    again = predict(tmp_path / "out")
    anew = predict(tmp_path / "out", "--overwrite", "--format", "coco", "--shard-size", 6)

    assert again.code == 2
    assert "holds a prediction that was begun: continue it with --resume" in again.err
    assert anew.code in (0, None)
    assert list(content(tmp_path / "out")) == ["000000.json", "000001.json"]


def test_a_folder_of_other_files_is_refused(predict: Begin, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()

    ended = predict(tmp_path / "out", "--resume")

    assert ended.code == 2
    assert "is not empty" in ended.err


def test_only_unreadable_images_are_refused_but_noted(predict: Begin, many: Path, tmp_path: Path) -> None:
    ended = predict(tmp_path / "out", images=many / "05.png")

    assert ended.code == 2
    assert "no image could be read, of 1; the first: " in ended.err
    assert (tmp_path / "out" / "errors.jsonl").is_file()


def test_figures_are_told_as_json(predict: Begin, tmp_path: Path) -> None:
    told = json.loads(predict(tmp_path / "out", "--json").out)

    assert told == {
        "images": 10,
        "objects": 40,
        "left_out": 1,
        "shards": str(tmp_path / "out" / "shards"),
        "errors": str(tmp_path / "out" / "errors.jsonl"),
        "complete": True,
    }


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--save", "yolo"), "--format writes data alone: leave --save and --pictures out"),
        (("--pictures",), "--format writes data alone: leave --save and --pictures out"),
        (("--part", "3/2"), "--part 3/2 is no part: give one such as 3/8"),
        (("--part", "0/2"), "--part 0/2 is no part: give one such as 3/8"),
        (("--part", "half"), "--part half is no part: give one such as 3/8"),
        (("--classes", "blot"), "did you mean 'bolt'?"),
    ],
)
def test_an_option_that_means_nothing_writes_nothing(
    predict: Begin, tmp_path: Path, options: tuple[object, ...], complaint: str
) -> None:
    ended = predict(tmp_path / "out", *options)

    assert ended.code == 2
    assert complaint in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--resume",), ("--workers", 2), ("--part", "1/2"), ("--engine", "ray")])
def test_options_for_many_images_ask_for_a_format(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    ended = condetr("predict", weights, photos, "--out", tmp_path / "out", *option)

    assert ended.code == 2
    assert ended.err == (
        f"condetr: {option[0]} is for many images: choose how they are written, such as --format jsonl\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_video_is_refused(predict: Begin, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()

    ended = predict(tmp_path / "out", images=tmp_path / "film.mp4")

    assert ended.code == 2
    assert "--format is for images" in ended.err
