"""The labelling tools whose formats are read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from condetr.data.index import Index
from condetr.data.raw import Source
from condetr.data.tools.createml import CREATEML, find_createml
from condetr.data.tools.cvat import CVAT, find_cvat
from condetr.data.tools.kitti import KITTI, find_kitti
from condetr.data.tools.label_studio import LABEL_STUDIO, find_label_studio
from condetr.data.tools.labelme import LABELME, find_labelme
from condetr.data.tools.listed import listed_file
from condetr.data.tools.page import head
from condetr.data.tools.supervisely import SUPERVISELY, find_supervisely
from condetr.data.tools.via import VIA, VIA_CSV, find_via, find_via_csv
from condetr.errors import InputError

TOOLS: Sequence[Callable[[Index], Source | None]] = (
    find_labelme,
    find_supervisely,
    find_label_studio,
    find_createml,
    find_via,
    find_via_csv,
    find_cvat,
    find_kitti,
)
"""What looks for each tool's files."""


def tool_file(path: Path) -> Source | None:
    """Return the data set that a tool's file about many images describes; None where it is no tool's.

    Raises InputError for a file about one image.
    """
    for paired in (LABELME, SUPERVISELY, KITTI):
        if path.name.lower().endswith(paired.suffix) and paired.is_its_own(head(path)):
            raise InputError(f"{path} describes one image, as {paired.title} does: give its folder")
    found = (listed_file(tool, path) for tool in (LABEL_STUDIO, CREATEML, VIA, VIA_CSV, CVAT))
    return next((source for source in found if source is not None), None)
