"""The data sets as the benchmark reads them: COCO files of fixed splits, beside links to the images."""

import json
import math
import random
from pathlib import Path
from typing import Any

from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord
from condetr.data.recognise import recognise
from condetr.data.sources import open_split
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.storage.atomic import replaced_folder

SPLITS = Path(__file__).with_name("splits")
"""A folder for each data set, with a list of image names for each split.

`bccd` has its own lists. `neu-det` was drawn from its 1,800 images, 210, 30 and 60 of each class, by the seed "CLASS 1"
(the first whose pair of identical images is in one split). In `facemask`, `test` is its own validation split, and `val`
was drawn from its training images by the seed "facemask 0".
"""


def prepare(source: Path, folder: Path, *, lists: Path, share: float = 1.0) -> None:
    """Write the data set to a folder, with a share of its training images, unless it is there.

    Raises InputError if the source lacks an image of a list.
    """
    if folder.exists():
        return
    found = [open_split(source, split=split) for split in recognise(source).splits]
    label_map = found[0].label_map
    assert all(split.label_map == label_map for split in found)  # training ids mean the same in every split
    records = {record.path.stem: record for split in found for record in split.records}
    with replaced_folder(folder) as draft:
        (draft / "annotations").mkdir()
        (draft / "images").mkdir()
        for file in sorted(lists.glob("*.txt")):
            names = file.read_text().split()
            missing = [name for name in names if name not in records]
            if missing:
                raise InputError(
                    f"{source} has no image {missing[0]}, which {file.stem} needs: give the whole data set"
                )
            if file.stem == "train":
                names = some_of(names, share=share)
            content = _coco([records[name] for name in names], label_map=label_map)
            (draft / "annotations" / f"{file.stem}.json").write_text(json.dumps(content))
            for name in names:
                (draft / "images" / records[name].path.name).symlink_to(records[name].path.absolute())


def some_of(names: list[str], *, share: float) -> list[str]:
    """Return a share of the names; a smaller one is part of every larger one."""
    order = sorted(names)
    random.Random("share").shuffle(order)
    return order[: math.ceil(share * len(order))]


def _coco(records: list[ImageRecord], *, label_map: LabelMap) -> dict[str, Any]:
    boxes = [
        {
            "image_id": number,
            "category_id": label_map.dataset_ids[label],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, record in enumerate(records, start=1)
        for label, box, area, crowd in zip(
            record.labels.tolist(),
            to_xywh(record.boxes_xyxy).tolist(),
            record.areas.tolist(),
            record.is_crowd.tolist(),
            strict=True,
        )
    ]
    return {
        "images": [
            {"id": number, "file_name": record.path.name, "height": record.size_hw[0], "width": record.size_hw[1]}
            for number, record in enumerate(records, start=1)
        ],
        "annotations": [{"id": number, **box} for number, box in enumerate(boxes, start=1)],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in label_map.categories],
    }
