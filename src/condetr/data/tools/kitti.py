"""KITTI: `label_2/1.txt` for `image_2/1.png`, a line for each object.

A line is a class, which may hold blanks, 14 numbers, of which the fourth to seventh are the box, and maybe a score.
"""

import math
import reprlib
from dataclasses import replace

from condetr.data.findings import Fault, Reading
from condetr.data.index import Index, folder_of, name_of
from condetr.data.raw import Source
from condetr.data.tools.page import ImageName, Page, PageImage, Shape
from condetr.data.tools.paired import PairedTool, find_paired
from condetr.errors import InputError

_NUMBERS = (14, 15)
_BOX = slice(3, 7)
_LARGEST_COORDINATE = 1e9
_OTHER_CAMERAS = ("image_0", "image_1", "image_3")
_LOOKED_AT = 50  # lines that tell what a file holds


def find_kitti(index: Index) -> Source | None:
    """Recognise KITTI's label files; of its cameras, `label_2` belongs to `image_2`."""
    around = {folder_of(folder) for folder in index.folders if name_of(folder) == "label_2"}
    others = {f"{parent}/{name}".lstrip("/") for parent in around for name in _OTHER_CAMERAS}
    folders = {folder: names for folder, names in index.folders.items() if folder not in others}
    return find_paired(KITTI, replace(index, folders=folders))


def _is_kitti(text: str) -> bool:
    return any(_is_line(line) for line in text.splitlines()[:_LOOKED_AT])


def _is_line(line: str) -> bool:
    try:
        return _shape(line) is not None
    except InputError:
        return False


def _read(page: Page) -> Reading[PageImage]:
    text = yield from page.text()
    return (yield from page.image(ImageName(()), text.splitlines(), _shape, what="line"))


def _shape(line: str) -> Shape | None:
    words = line.split()
    if not words:
        return None
    numbers = [_number(word) for word in words]
    for count in reversed(_NUMBERS):
        name = words[:-count]
        if name and all(map(math.isfinite, numbers[-count:])) and not all(map(math.isfinite, numbers[:-count])):
            return _of_class(" ".join(name), numbers[-count:])
    numbered = ", ".join(
        reprlib.repr(word) for word, number in zip(words[1:], numbers[1:], strict=True) if math.isnan(number)
    )
    why = f"; {numbered} is no number" if numbered and len(words) - 1 in _NUMBERS else ""
    raise InputError(f"has {len(words)} words, expected a class and 14 numbers, maybe a score{why}")


def _of_class(name: str, numbers: list[float]) -> Shape:
    if name == "DontCare":
        return Shape(name, None, (Fault.DONT_CARE,))
    x1, y1, x2, y2 = numbers[_BOX]
    if max(map(abs, (x1, y1, x2, y2))) > _LARGEST_COORDINATE:
        raise InputError("has a box that lies outside of any image")
    return Shape(name, (x1, y1, x2, y2))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


KITTI = PairedTool(layout="kitti", title="KITTI", suffix=".txt", is_its_own=_is_kitti, read=_read)
