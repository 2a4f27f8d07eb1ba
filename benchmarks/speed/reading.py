"""Index and annotations of 20,000 images: ours in three layouts, beside pycocotools' loading of the same JSON."""

import contextlib
import io
import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pycocotools.coco import COCO

from benchmarks.speed.report import Table
from benchmarks.speed.timing import alternate
from condetr.data.findings import strictly
from condetr.data.recognise import recognise

BOXES, ROUNDS = 7, 5
WIDTH, HEIGHT = 640, 480
CLASSES = ("cat", "dog", "bird")


def measure(*, quick: bool) -> Table:
    """Read the same boxes in turn; no image is opened, because pycocotools opens none."""
    images = 500 if quick else 20_000
    with TemporaryDirectory() as place:
        folders = {layout: Path(place) / layout for layout in ("COCO", "Pascal VOC", "YOLO")}
        _write(folders, images=images)
        medians = alternate(
            {
                "pycocotools, the same COCO JSON": partial(_theirs, folders["COCO"] / "train.json"),
                **{f"ours, {layout}": partial(_ours, folder) for layout, folder in folders.items()},
                "ours, the layout alone (Pascal VOC)": partial(recognise, folders["Pascal VOC"]),
            },
            rounds=1 if quick else ROUNDS,
        )
    theirs, ours = medians["pycocotools, the same COCO JSON"], medians["ours, COCO"]
    return Table(
        name="reading",
        title=f"index and annotations of {images:,} images with {BOXES} boxes each",
        columns=("", "seconds"),
        rows=list(medians.items()),
        headline={"ratio": theirs / ours},
        notes=["ours walks the folder, checks every entry and finds every image file; no image is opened by either"],
    )


def _ours(folder: Path) -> int:
    source = recognise(folder)
    raw, _ = strictly(source.read(source.splits))
    return len(raw.images[source.splits[0]])


def _theirs(file: Path) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return len(COCO(str(file)).imgs)


def _write(folders: dict[str, Path], *, images: int) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 200, (images, BOXES, 2))
    boxes = np.concatenate([corners, corners + rng.integers(20, 200, (images, BOXES, 2))], axis=2)
    labels = rng.integers(0, len(CLASSES), (images, BOXES))
    for folder in folders.values():
        (folder / "images").mkdir(parents=True)
        for number in range(images):
            (folder / "images" / f"{number:06}.jpg").touch()
    _write_coco(folders["COCO"] / "train.json", boxes, labels)
    for name in ("annotations", "labels"):
        (folders["Pascal VOC" if name == "annotations" else "YOLO"] / name).mkdir()
    (folders["YOLO"] / "classes.txt").write_text("\n".join(CLASSES))
    for number in range(images):
        objects, lines = [], []
        for (x1, y1, x2, y2), label in zip(boxes[number].tolist(), labels[number].tolist(), strict=True):
            corner = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            objects.append(f"<object><name>{CLASSES[label]}</name><bndbox>{corner}</bndbox></object>")
            center = f"{(x1 + x2) / 2 / WIDTH:.6f} {(y1 + y2) / 2 / HEIGHT:.6f}"
            lines.append(f"{label} {center} {(x2 - x1) / WIDTH:.6f} {(y2 - y1) / HEIGHT:.6f}\n")
        annotation = f"<annotation><filename>{number:06}.jpg</filename>{''.join(objects)}</annotation>"
        (folders["Pascal VOC"] / "annotations" / f"{number:06}.xml").write_text(annotation)
        (folders["YOLO"] / "labels" / f"{number:06}.txt").write_text("".join(lines))


def _write_coco(file: Path, boxes: np.ndarray, labels: np.ndarray) -> None:
    annotations = [
        {
            "id": number * BOXES + which + 1,
            "image_id": number,
            "category_id": int(labels[number, which]),
            "bbox": [int(x1), int(y1), int(x2 - x1), int(y2 - y1)],
            "area": int((x2 - x1) * (y2 - y1)),
            "iscrowd": 0,
        }
        for number in range(len(boxes))
        for which, (x1, y1, x2, y2) in enumerate(boxes[number])
    ]
    listed = [
        {"id": number, "file_name": f"{number:06}.jpg", "width": WIDTH, "height": HEIGHT}
        for number in range(len(boxes))
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    file.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))
