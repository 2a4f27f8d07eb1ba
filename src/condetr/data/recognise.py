"""Which layout a folder or file holds, found out by looking; nothing of a detector is needed for that."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from condetr.data.index import Index, index_folder
from condetr.data.layouts.coco import coco_file, damaged_coco, find_coco
from condetr.data.layouts.table import find_tables, table_file
from condetr.data.layouts.voc import find_voc
from condetr.data.layouts.yolo import find_yolo, yolo_file
from condetr.data.raw import Source
from condetr.data.seen import what_is_there
from condetr.data.stored.mirror import address_of, mirror
from condetr.data.tools.registry import TOOLS, tool_file
from condetr.errors import InputError

DIALECTS: Sequence[Callable[[Index], Source | None]] = (find_coco, find_voc, *TOOLS, find_yolo, find_tables)
"""What looks for each layout; of those that describe the same images the first is read."""
_FILES: dict[str, Callable[[Path], Source]] = {
    ".json": coco_file,
    ".yaml": yolo_file,
    ".yml": yolo_file,
    ".data": yolo_file,
    ".csv": table_file,
}
KNOWN = (
    "COCO (a JSON file with the lists images, annotations and categories), Pascal VOC (an XML file for each image), "
    "YOLO (a text file for each image, or a data.yaml), CSV (a row for each box), and what labelme, VIA, CreateML, "
    "Label Studio, CVAT, KITTI and Supervisely write"
)
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_NEARLY = 0.9  # of the most images that a layout describes: then the order of the layouts decides
_WORTH_ASKING = 0.1  # of the images: so many others in another layout are not passed over


def recognise(path: Path) -> Source:
    """Find out which layout a path holds; raises InputError where it holds none, or several that do not go together.

    A path made of an address, such as s3://bucket/data, stands for a copy of the annotations there, with the images.
    """
    address = address_of(path)
    if address is not None:
        copied = mirror(address)
        source = recognise(copied.folder)
        return replace(source, notes=(*source.notes, copied.told))
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    if path.is_file():
        return _of_file(path)
    if not any(path.iterdir()):
        raise InputError(f"the folder {path} is empty")
    index = index_folder(path)
    found, refused = _look(index)
    if found:
        return _one_of(found, refused, index)
    damaged = damaged_coco(index)
    if refused or damaged is None:
        raise refused[0] if refused else _unknown(index)
    return damaged


def _look(index: Index) -> tuple[list[Source], list[InputError]]:
    found: list[Source] = []
    refused: list[InputError] = []
    for find in DIALECTS:
        try:
            source = find(index)
        except InputError as error:
            refused.append(error)
        else:
            found += [source] if source is not None else []
    return found, refused


def _of_file(path: Path) -> Source:
    of_tool = tool_file(path)
    if of_tool is not None:
        return of_tool
    if path.suffix.lower() in _ARCHIVES:
        cure = "give the folder that holds it" if path.suffix.lower() == ".tar" else "unpack it, and give the folder"
        raise InputError(f"{path} is an archive: {cure}")
    read = _FILES.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path} describes no data set: give the folder of the data, or a file of {', '.join(sorted(_FILES))}"
        )
    return read(path)


def _one_of(found: Sequence[Source], refused: Sequence[InputError], index: Index) -> Source:
    """Take one layout; refuse where another one describes other images, and say which ones are not read."""
    source = _first_of(found)
    others = [other for other in found if other is not source]
    apart = [other for other in others if not _share(source, other)]
    apart = [other for other in apart if other.num_images >= _WORTH_ASKING * source.num_images]
    if apart:
        raise InputError(
            f"{index.root} holds data of several layouts with different images ({source.understood} / "
            f"{apart[0].understood}): give the folder or file of one of them"
        )
    notes = [f"not read: {other.understood}" for other in others]
    notes += [f"not read: {error}" for error in refused]
    if index.own:
        notes.append(f"passed over, as condetr wrote it: {', '.join(index.own[:3])}")
    return replace(source, notes=tuple(notes))


def _first_of(found: Sequence[Source]) -> Source:
    """Return the first layout whose images are here, unless another one describes more of the same images."""
    there = [source for source in found if source.image_folders] or found
    larger = [other for other in there if _share(there[0], other) and there[0].num_images < _NEARLY * other.num_images]
    return max(larger, key=lambda source: source.num_images, default=there[0])


def _share(source: Source, other: Source) -> bool:
    return not other.image_folders or not source.image_folders.isdisjoint(other.image_folders)


def _unknown(index: Index) -> InputError:
    if index.own:
        return InputError(f"{index.root} holds no data set but what condetr wrote ({', '.join(index.own[:3])})")
    if index.files and len(index.images) == len(index.files):
        return InputError(
            f"{index.root} holds {len(index.images):,} images but no annotations: give the folder that holds both"
        )
    return InputError(
        f"{index.root} is in no layout that condetr knows: it has {what_is_there(index)}; condetr reads {KNOWN}"
    )
