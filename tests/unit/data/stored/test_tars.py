import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condetr.data.images import read_headers, read_image
from condetr.data.sources import DataSplits, open_data
from condetr.errors import InputError
from condetr.inference.sources import find_images
from condetr.scenes.shapes import write_scenes
from tests import layouts


def pack(tar: Path, files: Mapping[str, Path], *, mode: str = "w") -> None:
    """Pack files under the names that are the keys."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, mode) as file:  # type: ignore[call-overload]
        for name, path in files.items():
            file.add(path, arcname=name)


def pack_images(folder: Path, packed: Path, *, shard: int = 3) -> None:
    """Copy a data set with its images in tar files, a few of each folder in one."""
    for file in sorted(each for each in folder.rglob("*") if each.is_file() and each.suffix != ".jpg"):
        target = packed / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    for images in {file.parent for file in folder.rglob("*.jpg")}:
        names = sorted(images.glob("*.jpg"))
        for first in range(0, len(names), shard):
            tar = packed / images.relative_to(folder) / f"{first:06}.tar"
            pack(tar, {f"./{file.name}": file for file in names[first : first + shard]})


def summary(data: DataSplits, root: Path) -> object:
    """Return all that a training sees of a data set, but for where its folder is."""
    return [
        (
            split.name,
            [
                (
                    record.path.relative_to(root),
                    record.size_hw,
                    record.boxes_xyxy.tolist(),
                    record.labels.tolist(),
                    read_image(record.path).sum().item(),
                )
                for record in split.records
            ],
        )
        for split in (data.train, data.val)
    ]


def test_data_in_tar_files_is_that_of_the_folder(tmp_path: Path) -> None:
    loose, packed = tmp_path / "loose", tmp_path / "packed"
    write_scenes(loose, num_images=7, val_images=2, seed=1, size=32)
    pack_images(loose, packed)
    assert not list(packed.rglob("*.jpg"))

    both = open_data(loose), open_data(packed)

    assert summary(both[0], loose) == summary(both[1], packed)
    assert both[0].findings == both[1].findings


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_every_layout_finds_its_images_in_tar_files(layout: str, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.new("RGB", (64, 48), (9, 8, 7)).save(image)
    names = [f"{number}.png" for number in range(4)]
    data = tmp_path / "data"
    pack(data / "images" / "all.tar", dict.fromkeys(names, image))
    for name in names:
        if layout == "yolo":
            layouts.label(data / "labels" / f"{name[:-4]}.txt")
        else:
            layouts.xml(data / "annotations" / f"{name[:-4]}.xml", filename=name)

    found = open_data(data)

    assert found.layout == layout
    assert sorted(record.path.name for split in (found.train, found.val) for record in split.records) == names
    assert all(len(record.labels) == 1 for record in found.train.records)


def test_tar_files_beside_images_are_not_looked_into(tmp_path: Path) -> None:
    write_scenes(tmp_path, num_images=3, val_images=1, seed=1, size=32)
    before = open_data(tmp_path)
    (tmp_path / "download.tar").write_bytes(b"what a broken download left")

    assert summary(open_data(tmp_path), tmp_path) == summary(before, tmp_path)


def one_image(folder: Path) -> Path:
    layouts.coco(folder / "annotations" / "train.json", "a.png", "b.png")
    Image.new("RGB", (64, 48)).save(folder / ".a.png")
    return folder / ".a.png"


def test_a_member_that_is_missing_is_refused_like_a_file(tmp_path: Path) -> None:
    pack(tmp_path / "train" / "0.tar", {"a.png": one_image(tmp_path)})

    with pytest.raises(
        InputError, match=r"in the split 'train' 1 image is missing or unreadable .*b\.png does not exist"
    ):
        open_data(tmp_path)


def test_two_tar_files_with_one_name_are_refused(tmp_path: Path) -> None:
    image = one_image(tmp_path)
    for name in ("0.tar", "1.tar"):
        pack(tmp_path / "train" / name, {"a.png": image, "b.png": image})

    with pytest.raises(InputError, match=r"0\.tar and .*1\.tar both hold [ab]\.png: put the tar files of each split"):
        open_data(tmp_path)


def test_a_compressed_tar_is_refused_in_a_sentence(tmp_path: Path) -> None:
    image = one_image(tmp_path)
    pack(tmp_path / "train" / "0.tar", {"a.png": image, "b.png": image}, mode="w:gz")

    with pytest.raises(InputError, match=r"0\.tar cannot be read as a tar file .* packed again without compression"):
        open_data(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_tar_is_refused_in_a_sentence(damage: str, tmp_path: Path) -> None:
    image = one_image(tmp_path)
    tar = tmp_path / "train" / "0.tar"
    pack(tar, {"a.png": image, "b.png": image})
    content = bytearray(tar.read_bytes())
    header = content.index(b"b.png")
    if damage == "cut":
        del content[header + 100 :]
    else:
        content[header : header + 300] = b"?" * 300
    tar.write_bytes(content)

    with pytest.raises(InputError, match=r"0\.tar (is damaged after 1 images|cannot be read as a tar file)"):
        open_data(tmp_path)


def test_members_that_lead_out_or_are_hidden_are_no_images(tmp_path: Path) -> None:
    image = one_image(tmp_path)
    pack(tmp_path / "train" / "0.tar", {"a.png": image, "b.png": image, "../c.png": image, "._a.png": image})

    assert len(open_data(tmp_path).train) + len(open_data(tmp_path).val) == 2


def test_images_to_predict_are_not_taken_from_tar_files(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {"a.png": one_image(tmp_path)})

    with pytest.raises(InputError, match="holds no image"):
        find_images([str(tmp_path)])


def test_headers_of_members_are_those_of_files(tmp_path: Path) -> None:
    """An image that is cut, one that is turned and one of 16 bits."""
    files = tmp_path / "files"
    files.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(files / "a.jpg", exif=exif)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format="JPEG")
    (files / "b.jpg").write_bytes(stream.getvalue()[:-40])
    Image.fromarray(noise[..., 0].astype(np.uint16) * 256).save(files / "c.png")
    names = sorted(file.name for file in files.iterdir())
    packed = tmp_path / "packed"
    pack(packed / "0.tar", {name: files / name for name in names})
    (packed / "train.json").write_text(
        json.dumps(
            {
                "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
                "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}],
                "categories": [{"id": 1, "name": "a"}],
            }
        )
    )
    open_data(packed, skip_unreadable=True)

    loose, stored = (read_headers([folder / name for name in names]) for folder in (files, packed))

    assert [str(each).replace(str(packed), str(files)) for each in stored] == [str(each) for each in loose]
    torch.testing.assert_close(read_image(packed / "a.jpg"), read_image(files / "a.jpg"), rtol=0, atol=0)
