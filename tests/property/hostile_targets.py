"""Where bytes that someone else wrote enter: a target for each reader, for the tests here and for fuzz/run.py.

A target puts the bytes into the one file that is hostile, in a folder where all else is well, and reads it. Any bytes
are either read or refused with InputError, which the caller takes; everything else that happens is a bug.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from condetr.config import load, to_yaml
from condetr.data.dataset import Split
from condetr.data.images import read_headers, read_image
from condetr.data.sources import DataSplits, open_data
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetr, ConditionalDetrConfig
from condetr.doctor.examine import examine
from condetr.doctor.plan import Plan
from condetr.engine.checkpoint import Progress, restore_checkpoint, save_checkpoint
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.inference.model_folder import CONFIG, WEIGHTS, load_model, save_model
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

Target = Callable[[bytes, Path], None]

LABEL_MAP = LabelMap((Category(1, "cat"),))
CONFIGURED = ConditionalDetrConfig(**TINY)
CONFIG_OF_RUN = TrainConfig(detector=CONFIGURED, precision="32-true")
SPLIT = Split(name="train", records=(), label_map=LABEL_MAP)
SPLITS = DataSplits(layout="coco", train=SPLIT, val=SPLIT, findings=())
PLAN = Plan(recipe="any", num_queries=2, stride=4, transform=LightTransformConfig(), batch_size=2)


def read_coco(hostile: bytes, folder: Path) -> None:
    """Read bytes as a COCO file, as training and the doctor do."""
    _put(folder / "images" / "1.png", _picture())
    _put(folder / "annotations" / "train.json", hostile)
    _read_data(folder)


def read_voc(hostile: bytes, folder: Path) -> None:
    """Read bytes as a Pascal VOC annotation, beside a sound one."""
    for name, content in (("1", hostile), ("2", _VOC.encode())):
        _put(folder / "JPEGImages" / f"{name}.png", _picture())
        _put(folder / "Annotations" / f"{name}.xml", content)
    _read_data(folder)


def read_yolo_labels(hostile: bytes, folder: Path) -> None:
    """Read bytes as the boxes of one YOLO image."""
    _put(folder / "images" / "1.png", _picture())
    _put(folder / "images" / "2.png", _picture())
    _put(folder / "classes.txt", b"cat\ndog\n")
    _put(folder / "labels" / "1.txt", hostile)
    _put(folder / "labels" / "2.txt", _LABELS)
    _read_data(folder)


def read_yolo_description(hostile: bytes, folder: Path) -> None:
    """Read bytes as the file that describes YOLO data."""
    _put(folder / "images" / "1.png", _picture())
    _put(folder / "labels" / "1.txt", _LABELS)
    _put(folder / "data.yaml", hostile)
    _read_data(folder)


def read_settings(hostile: bytes, folder: Path) -> None:
    """Read bytes as the settings of a training."""
    _put(folder / "config.yaml", hostile)
    load(TrainConfig, folder / "config.yaml")


def read_model_config(hostile: bytes, folder: Path) -> None:
    """Read bytes as the config.json of a model folder."""
    _put(folder / CONFIG, hostile)
    _put(folder / WEIGHTS, _model(WEIGHTS))
    load_model(folder)


def read_model_weights(hostile: bytes, folder: Path) -> None:
    """Read bytes as the safetensors of a model folder."""
    _put(folder / CONFIG, _model(CONFIG))
    _put(folder / WEIGHTS, hostile)
    load_model(folder)


def read_checkpoint(hostile: bytes, folder: Path) -> None:
    """Read bytes as the checkpoint of a training."""
    _put(folder / "last.ckpt", hostile)
    detector, optimizer = _training()
    restore_checkpoint(
        folder / "last.ckpt",
        detector=detector,
        optimizer=optimizer,
        ema=None,
        splits=SPLITS,
        config=CONFIG_OF_RUN,
        steps_per_epoch=1,
    )


def read_picture(hostile: bytes, folder: Path) -> None:
    """Read bytes as an image, its header first."""
    _put(folder / "1.png", hostile)
    read_headers([folder / "1.png"])
    read_image(folder / "1.png")


TARGETS: dict[str, Target] = {
    "coco": read_coco,
    "voc": read_voc,
    "yolo_labels": read_yolo_labels,
    "yolo_description": read_yolo_description,
    "settings": read_settings,
    "model_config": read_model_config,
    "model_weights": read_model_weights,
    "checkpoint": read_checkpoint,
    "picture": read_picture,
}


def seeds(target: str) -> list[bytes]:
    """Return sound content for a target, from which hostile content is made."""
    made: dict[str, Callable[[], list[bytes]]] = {
        "coco": lambda: [json.dumps(_COCO).encode()],
        "voc": lambda: [_VOC.encode()],
        "yolo_labels": lambda: [_LABELS],
        "yolo_description": lambda: list(_DESCRIPTIONS),
        "settings": lambda: [to_yaml(TrainConfig()).encode(), b"epochs: 3\ndetector:\n  kind: detr\n  dim: 64\n"],
        "model_config": lambda: [_model(CONFIG)],
        "model_weights": lambda: [_model(WEIGHTS)],
        "checkpoint": lambda: [_checkpoint()],
        "picture": lambda: [_picture(), _picture(form="JPEG"), _picture(form="GIF"), _picture(form="BMP")],
    }
    return made[target]()


def _read_data(folder: Path) -> None:
    with suppress(InputError):
        open_data(folder)
    examine(folder, plan=PLAN)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@cache
def _picture(form: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.new("RGB", (16, 12), (90, 120, 40)).save(stream, format=form)
    return stream.getvalue()


def _training() -> tuple[ConditionalDetr, torch.optim.AdamW]:
    detector = CONFIGURED.build(num_classes=1)
    return detector, torch.optim.AdamW(detector.parameters())


@cache
def _model(name: str) -> bytes:
    with TemporaryDirectory() as place:
        detector, _ = _training()
        save_model(
            Path(place) / "model",
            detector,
            detector_config=CONFIGURED,
            transform=LightTransformConfig(),
            label_map=LABEL_MAP,
        )
        return (Path(place) / "model" / name).read_bytes()


@cache
def _checkpoint() -> bytes:
    with TemporaryDirectory() as place:
        detector, optimizer = _training()
        path = Path(place) / "last.ckpt"
        save_checkpoint(
            path,
            detector=detector,
            optimizer=optimizer,
            ema=None,
            progress=Progress(),
            splits=SPLITS,
            config=CONFIG_OF_RUN,
        )
        return path.read_bytes()


_COCO = {
    "images": [{"id": 1, "file_name": "1.png", "width": 16, "height": 12}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 6, 5], "area": 30, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [1.5, 2e0, 60, 5], "segmentation": [[1, 2, 3, 4, 5, 6]]},
    ],
    "categories": [{"id": 1, "name": "cat", "supercategory": "none"}, {"id": 3, "name": "dog"}],
}
_VOC = """<annotation><filename>2.png</filename><size><width>16</width><height>12</height></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>9.5</ymax></bndbox></object></annotation>"""

_DESCRIPTIONS = (
    b"path: .\ntrain: images\nval: images\nnames: [cat, dog]\n",
    b"train: images\nnames:\n  0: cat\n  1: dog\n",
)
_LABELS = b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.4 0.1 0.4 0.4\n"
