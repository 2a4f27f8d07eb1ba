"""Where bytes that someone else wrote enter: a target for each reader, for the tests here and for fuzz/run.py.

A target puts the bytes into the one file that is hostile, in a folder where all else is well, and reads it. Any bytes
are either read or refused with InputError, which the caller takes; everything else that happens is a bug.
"""

import json
from collections.abc import Callable, Mapping, Sequence
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
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.doctor.examine import examine
from condetr.doctor.plan import Plan
from condetr.engine.checkpoint import Progress, restore_checkpoint, save_checkpoint
from condetr.engine.config import TrainConfig
from condetr.engine.processes import launch
from condetr.engine.step import Stepper
from condetr.errors import InputError
from condetr.inference.model_folder import CONFIG, WEIGHTS, load_model, save_model
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

Target = Callable[[bytes, Path], None]

LABEL_MAP = LabelMap((Category(1, "cat"),))
CONFIGURED = ConditionalDetrConfig(**TINY)
CONFIG_OF_RUN = TrainConfig(detector=CONFIGURED, precision="32-true")
SPLIT = Split(name="train", records=(), label_map=LABEL_MAP)
SPLITS = DataSplits(layout="coco", understood="", train=SPLIT, val=SPLIT, findings=())
PLAN = Plan(recipe="any", most_objects=2, stride=4, transform=LightTransformConfig(), batch_size=2)


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


def read_yolo_list(hostile: bytes, folder: Path) -> None:
    """Read bytes as a list of images, beside a sound one."""
    for name in ("1", "2"):
        _put(folder / f"{name}.png", _picture())
        _put(folder / f"{name}.txt", _LABELS)
    _put(folder / "train.txt", hostile)
    _put(folder / "val.txt", b"2.png\n")
    _put(folder / "obj.names", b"cat\ndog\n")
    _read_data(folder)
    _put(folder / "data.yaml", b"names: [cat, dog]\ntrain: train.txt\nval: val.txt\n")
    _read_data(folder)


def read_darknet(hostile: bytes, folder: Path) -> None:
    """Read bytes as Darknet's description of data."""
    _put(folder / "images" / "1.png", _picture())
    _put(folder / "labels" / "1.txt", _LABELS)
    _put(folder / "obj.names", b"cat\ndog\n")
    _put(folder / "obj.data", hostile)
    _read_data(folder)


def read_table(hostile: bytes, folder: Path) -> None:
    """Read bytes as a CSV file of boxes, beside a sound one."""
    for name in ("1", "2"):
        _put(folder / "images" / f"{name}.png", _picture())
    _put(folder / "train.csv", hostile)
    _put(folder / "val.csv", _TABLE)
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
    restore_checkpoint(folder / "last.ckpt", _training(), splits=SPLITS, config=CONFIG_OF_RUN, steps_per_epoch=1)


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
    "yolo_list": read_yolo_list,
    "darknet": read_darknet,
    "table": read_table,
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
        "yolo_list": lambda: [b"1.png\n./2.png\n", b"C:\\data\\1.png\n"],
        "darknet": lambda: [b"classes = 2\ntrain = images\nvalid = data/images\nnames = data/obj.names\n"],
        "table": lambda: [_TABLE, b"images/1.png,1,2,9,8,cat\n2.png,,,,,\n", _KAGGLE],
        "settings": lambda: [to_yaml(TrainConfig()).encode(), b"epochs: 3\ndetector:\n  kind: detr\n  dim: 64\n"],
        "model_config": lambda: [_model(CONFIG)],
        "model_weights": lambda: [_model(WEIGHTS)],
        "checkpoint": lambda: [_checkpoint()],
        "picture": lambda: [_picture(), _picture(form="JPEG"), _picture(form="GIF"), _picture(form="BMP")],
    }
    return made[target]() if target in made else _TOOLS[target][1]


def _read_data(folder: Path) -> None:
    with suppress(InputError):
        open_data(folder)
    examine(folder, plan_for=lambda count: PLAN)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@cache
def _picture(form: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.new("RGB", (16, 12), (90, 120, 40)).save(stream, format=form)
    return stream.getvalue()


def _training() -> Stepper:
    fabric = launch(CONFIG_OF_RUN, device=torch.device("cpu"))
    return Stepper(CONFIGURED.build(num_classes=1), config=CONFIG_OF_RUN, steps_per_epoch=1, fabric=fabric)


@cache
def _model(name: str) -> bytes:
    with TemporaryDirectory() as place:
        save_model(
            Path(place) / "model",
            _training().detector,
            detector_config=CONFIGURED,
            transform=LightTransformConfig(),
            label_map=LABEL_MAP,
        )
        return (Path(place) / "model" / name).read_bytes()


@cache
def _checkpoint() -> bytes:
    with TemporaryDirectory() as place:
        path = Path(place) / "last.ckpt"
        save_checkpoint(path, _training(), progress=Progress(), best=None, splits=SPLITS, config=CONFIG_OF_RUN)
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
_TABLE = b"filename,width,height,class,xmin,ymin,xmax,ymax\n1.png,16,12,cat,1,2,9,8\n2.png,16,12,dog,0,0,5,5.5\n"
_KAGGLE = b'image_id,width,height,bbox,label\n1,16,12,"[1, 2, 8, 6]",cat\n2,16,12,"[0.5, 0, 5, 5]",dog\n'


def _reader_of(file: str, images: Sequence[str], sound: Mapping[str, bytes] | None = None) -> Target:
    """Return what reads bytes as a labelling tool's file, beside sound ones, by the folder and by itself."""

    def read(hostile: bytes, folder: Path) -> None:
        for image in images:
            _put(folder / image, _picture())
        for other, content in (sound or {}).items():
            _put(folder / other, content)
        _put(folder / file, hostile)
        _read_data(folder)
        with suppress(InputError):
            open_data(folder / file)

    return read


_SHAPES = [
    {"label": "cat", "points": [[1, 2], [9, 8], [4, 4]], "shape_type": kind, "group_id": 1}
    for kind in ("polygon", "rectangle", "circle", "linestrip", "polygon")
]
_LABELME = json.dumps({"shapes": _SHAPES, "imagePath": "1.png", "imageHeight": 12, "imageWidth": 16}).encode()
_DRAWN = [
    {"name": "rect", "x": 1, "y": 2, "width": 8, "height": 5},
    {"name": "circle", "cx": 6, "cy": 5, "r": 3},
    {"name": "ellipse", "cx": 6, "cy": 5, "rx": 3, "ry": 2, "theta": 0.5},
    {"name": "polygon", "all_points_x": [1, 5, 3], "all_points_y": [2, 3, 8]},
    {"name": "polyline", "all_points_x": [1, 5], "all_points_y": [2, 3]},
]
_ATTRIBUTES = {"class": "cat", "size": {"big": True}}
_REGIONS = [{"shape_attributes": drawn, "region_attributes": _ATTRIBUTES} for drawn in _DRAWN]
_VIA = {"1.png99": {"filename": "1.png", "size": 99, "regions": _REGIONS, "file_attributes": {}}}
_VIA_HEADING = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
_VIA_ROWS = '1.png,99,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":8,""height"":5}","{""class"":""cat""}"'
_CENTRED = {"label": "cat", "coordinates": {"x": 5, "y": 6, "width": 4, "height": 5}}
_CREATEML = json.dumps([{"image": "1.png", "annotations": [_CENTRED]}]).encode()
_PERCENT = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 5, "rectanglelabels": ["cat"]}
_SIZE = {"original_width": 16, "original_height": 12}
_RESULTS = [
    {"type": "rectanglelabels", "id": "a", **_SIZE, "value": _PERCENT},
    {"type": "polygon", "id": "b", **_SIZE, "value": {"points": [[1, 2], [30, 40]]}},
    {"type": "labels", "id": "b", "value": {"labels": ["dog"]}},
    {"type": "brushlabels", "value": {"rle": [1]}},
]
_DONE = [{"result": _RESULTS, "was_cancelled": False, "ground_truth": True, "updated_at": "2024"}]
_LABEL_STUDIO = [{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-1.png"}, "annotations": _DONE}]
_LABEL_STUDIO_MIN = [
    {"image": "2.png", "label": [{**_PERCENT, "original_width": 16, "original_height": 12}], "annotator": 1}
]
_CVAT = b"""<annotations><version>1.1</version><meta><task/></meta><image id="0" name="1.png" width="16" height="12">
<box label="cat" xtl="1.5" ytl="2" xbr="9" ybr="8" rotation="10"/><polygon label="dog" points="1,2;9,3;4.5,8"/>
<ellipse label="dog" cx="5" cy="5" rx="2" ry="3"/><mask label="cat" rle="1" left="1" top="2" width="4" height="5"/>
<points label="cat" points="1,2"/></image><track id="0" label="cat">
<box frame="0" outside="0" xtl="1" ytl="2" xbr="9" ybr="8"/><box frame="1" outside="1" xtl="1" ytl="2" xbr="9" ybr="8"/>
</track></annotations>"""
_KITTI = b"""cat 0.00 0 -1.57 1.00 2.00 9.00 8.00 1.50 1.60 3.70 1.00 1.50 20.00 -1.50
two words 0.00 0 -1.57 1.00 2.00 9.00 8.00 1.50 1.60 3.70 1.00 1.50 20.00 -1.50 0.9
DontCare -1 -1 -10 1.00 2.00 9.00 8.00 -1 -1 -1 -1000 -1000 -1000 -10
"""
_EXTERIOR = {"exterior": [[1, 2], [9, 8]], "interior": []}
_OBJECTS = [{"classTitle": "cat", "geometryType": kind, "points": _EXTERIOR} for kind in ("rectangle", "point")]
_SUPERVISELY = json.dumps({"tags": [], "size": {"height": 12, "width": 16}, "objects": _OBJECTS}).encode()

_TWO = ("1.png", "2.png")
_TOOLS: dict[str, tuple[Target, list[bytes]]] = {
    "labelme": (_reader_of("1.json", _TWO, {"2.json": _LABELME}), [_LABELME]),
    "via": (
        _reader_of("via.json", _TWO),
        [json.dumps(content).encode() for content in (_VIA, {"_via_img_metadata": _VIA, "_via_settings": {}})],
    ),
    "via_csv": (_reader_of("via.csv", _TWO), [f"{_VIA_HEADING}\n{_VIA_ROWS}\n".encode()]),
    "createml": (_reader_of("createml.json", _TWO), [_CREATEML]),
    "label_studio": (
        _reader_of("export.json", _TWO),
        [json.dumps(content).encode() for content in (_LABEL_STUDIO, _LABEL_STUDIO_MIN)],
    ),
    "cvat": (_reader_of("annotations.xml", ("images/1.png", "images/frame_000000.png")), [_CVAT]),
    "kitti": (_reader_of("label_2/1.txt", ("image_2/1.png", "image_2/2.png"), {"label_2/2.txt": _KITTI}), [_KITTI]),
    "supervisely": (
        _reader_of("ann/1.png.json", ("img/1.png", "img/2.png"), {"ann/2.png.json": _SUPERVISELY}),
        [_SUPERVISELY],
    ),
}
TARGETS |= {name: target for name, (target, _) in _TOOLS.items()}
