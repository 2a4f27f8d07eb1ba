from pathlib import Path

from PIL import Image

from condetr.data.findings import strictly
from condetr.data.recognise import recognise
from condetr.doctor.decide import Decisions, KeptImage
from condetr.doctor.rewrite import rewrite


def test_keypoints_stay_behind_a_box_that_changes(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nkpt_shape: [1, 3]\n")
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 2 .4 .1 .1 2\n")
    source = recognise(tmp_path)
    raw, _ = strictly(source.read(["train"]))
    (image,) = raw.images["train"]
    kept = KeptImage(image, size_hw=(50, 100), boxes={0: (0.0, 15.0, 100.0, 35.0)})

    files = rewrite(source, Decisions(kept={"train": [kept]}), label_map=raw.label_map).files

    assert files[image.files[0]] == b"0 0.500000 0.500000 1.000000 0.400000 .1 .1 2\n"
