"""What is found in images as plain data, and many images as the content of a file: JSON lines, COCO or Parquet."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from condetr.errors import InputError
from condetr.inference.sources import ImageSource
from condetr.labels import LabelMap
from condetr.metrics.coco import result_rows
from condetr.shapes import Detections

Format = Literal["parquet", "jsonl", "coco"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: Mapping[Format, str] = {"parquet": ".parquet", "jsonl": ".jsonl", "coco": ".json"}
_SCORE_DIGITS, _PIXEL_DIGITS = 5, 2


class ImageRow(NamedTuple):
    """An image and its detections."""

    position: int
    """Among all images, from 0."""
    source: ImageSource
    size_hw: tuple[int, int]
    detections: Detections


def require_format(kind: Format) -> None:
    """Raise InputError if a package is missing that a format needs."""
    if kind == "parquet":
        try:
            import pyarrow  # noqa: F401 - only whether it is there
        except ImportError:
            raise InputError(
                "Parquet files need pyarrow, which is not installed: pip install 'condetr[parquet]', or choose jsonl "
                "or coco"
            ) from None


def encoded(rows: Sequence[ImageRow], kind: Format, *, label_map: LabelMap, limit: int) -> bytes:
    """Return images, of which each has at most `limit` detections, as the content of a file."""
    content: dict[Format, Callable[[], bytes]] = {
        "jsonl": lambda: "".join(map(_line, rows, _all_plain(rows, label_map))).encode("utf-8", "backslashreplace"),
        "coco": lambda: json_bytes(coco_content(rows, label_map=label_map, limit=limit)),
        "parquet": partial(_parquet, rows, label_map=label_map),
    }
    return content[kind]()


def plain_detections(found: Detections, *, label_map: LabelMap) -> list[dict[str, Any]]:
    """Return the detections in an image or a frame as plain data, boxes in pixels."""
    return [
        {
            "name": name,
            "category_id": label_map.dataset_ids[label],
            "score": round(score, _SCORE_DIGITS),
            "box_xyxy": [round(value, _PIXEL_DIGITS) for value in box],
        }
        for name, label, score, box in zip(
            found.names, found.labels.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True
        )
    ]


def coco_content(rows: Sequence[ImageRow], *, label_map: LabelMap, limit: int) -> dict[str, Any]:
    """Return images as the content of a COCO file.

    An image's id is its position from 1, and ids of detections follow from it, so they are unique in several files.
    """
    found = {row.position + 1: row.detections for row in rows}
    ranks = (rank for row in rows for rank in range(1, len(row.detections) + 1))
    return {
        "images": [
            {"id": row.position + 1, "file_name": str(row.source), "height": row.size_hw[0], "width": row.size_hw[1]}
            for row in rows
        ],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in label_map.categories],
        "annotations": [
            {
                "id": (row["image_id"] - 1) * limit + rank,
                **row,
                "area": round(row["bbox"][2] * row["bbox"][3], _PIXEL_DIGITS),
                "iscrowd": 0,
            }
            for rank, row in zip(ranks, result_rows(found, label_map=label_map), strict=True)
        ],
    }


def json_bytes(content: Any) -> bytes:  # noqa: ANN401 - JSON is anything
    r"""Return JSON in UTF-8, with escapes such as `\udce4` for the bytes of file names that are not UTF-8."""
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _all_plain(rows: Iterable[ImageRow], label_map: LabelMap) -> Iterable[list[dict[str, Any]]]:
    return (plain_detections(row.detections, label_map=label_map) for row in rows)


def _line(row: ImageRow, detections: list[dict[str, Any]]) -> str:
    height, width = row.size_hw
    content = {"image": str(row.source), "width": width, "height": height, "detections": detections}
    return json.dumps(content, ensure_ascii=False) + "\n"


def _parquet(rows: Sequence[ImageRow], *, label_map: LabelMap) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    found = [row.detections for row in rows]
    schema = pa.schema(
        {
            "image": pa.string(),
            "width": pa.int32(),
            "height": pa.int32(),
            "category_ids": pa.list_(pa.int64()),
            "names": pa.list_(pa.string()),
            "scores": pa.list_(pa.float32()),
            "boxes_xyxy": pa.list_(pa.list_(pa.float32(), 4)),
        }
    )
    columns = {
        "image": [str(row.source).encode("utf-8", "backslashreplace").decode() for row in rows],
        "width": [row.size_hw[1] for row in rows],
        "height": [row.size_hw[0] for row in rows],
        "category_ids": [[label_map.dataset_ids[label] for label in each.labels.tolist()] for each in found],
        "names": [list(each.names) for each in found],
        "scores": [np.round(each.scores, _SCORE_DIGITS).tolist() for each in found],
        "boxes_xyxy": [np.round(each.boxes_xyxy, _PIXEL_DIGITS).tolist() for each in found],
    }
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
    return stream.getvalue()
