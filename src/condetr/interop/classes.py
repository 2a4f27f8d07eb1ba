"""The classes of the rows of a published model's class head."""

from collections.abc import Mapping
from typing import Any

from condetr.errors import InputError
from condetr.labels import Category, LabelMap, Rows

COCO_NAMES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
"""The 80 classes of COCO under the ids of its annotation files, as the official code trains on them."""

COCO_ROWS = 91

NO_CLASS = "N/A"
"""The name of a row without a class in transformers."""


def coco_classes() -> LabelMap:
    """Return COCO's 80 classes in a head of 91 rows, one for each of the ids 0..90."""
    return classes_by_row({row: Category(row, name) for row, name in COCO_NAMES.items()}, num_rows=COCO_ROWS)


def classes_by_row(categories: Mapping[int, Category], *, num_rows: int) -> LabelMap:
    """Return the classes of the named rows; the other rows have no class."""
    used = tuple(sorted(categories))
    rows = None if len(used) == num_rows else Rows(used, num_rows)
    return LabelMap(tuple(categories[row] for row in used), rows=rows)


def unnamed_classes(num_rows: int) -> LabelMap:
    """Return COCO's classes for 91 rows, and otherwise a class for every row, named by its number."""
    if num_rows == COCO_ROWS:
        return coco_classes()
    return classes_by_row({row: Category(row, f"class {row}") for row in range(num_rows)}, num_rows=num_rows)


def classes_of_map(label_map: LabelMap, *, num_rows: int, source: str) -> LabelMap:
    """Return the classes of a known label map in a head of `num_rows` rows.

    If there are as many rows as classes, they are in the order of the map; if there are more, they are numbered by the
    data set's ids, as in the official code. Raises InputError if there are too few rows.
    """
    if not label_map.categories:
        raise InputError(f"{source} has a label map without classes")
    if len(label_map) == num_rows:
        return label_map.without_rows()
    if not all(0 <= dataset_id < num_rows for dataset_id in label_map.dataset_ids):
        raise InputError(
            f"{source} has class rows 0..{num_rows - 1}, but the {len(label_map)} classes have ids up to "
            f"{max(label_map.dataset_ids)}; give the label map that the model was trained with"
        )
    return classes_by_row({category.dataset_id: category for category in label_map.categories}, num_rows=num_rows)


def from_id2label(id2label: Mapping[Any, Any], *, num_rows: int, source: str) -> LabelMap:
    """Return the classes of a transformers model; rows named "N/A" belong to none."""
    try:
        names = {int(row): str(name) for row, name in id2label.items()}
    except (TypeError, ValueError):
        names = {}
    if sorted(names) != list(range(num_rows)):
        raise InputError(
            f"{source}: id2label must name the class rows 0..{num_rows - 1}, it has {len(id2label)} entries"
        )
    used = {row: Category(row, name) for row, name in names.items() if name.upper() != NO_CLASS}
    if not used:
        raise InputError(f"{source}: id2label names no class")
    return classes_by_row(used, num_rows=num_rows)


def to_id2label(label_map: LabelMap) -> dict[int, str]:
    """Return the name of every row, "N/A" for rows that belong to no class."""
    named = zip(label_map.row_of_each, label_map.names, strict=True)
    return dict.fromkeys(range(label_map.num_rows), NO_CLASS) | dict(named)
