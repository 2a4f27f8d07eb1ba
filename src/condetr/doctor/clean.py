"""Write a cleaned copy of a data set: new annotations in the data's own layout, beside links to its images."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from condetr.data.files import absolute
from condetr.data.raw import Source
from condetr.data.stored.places import stored_below
from condetr.doctor.decide import Decisions, decide
from condetr.doctor.examine import Examination
from condetr.doctor.rewrite import OWN_LAYOUTS, rewrite
from condetr.errors import InputError
from condetr.storage.atomic import replaced_folder, require_free, write_text

PROTOCOL = "cleaning.txt"


class Cleaned(NamedTuple):
    """What cleaning did, and where its result can be given as DATA."""

    data: Path
    protocol: Path
    training_images: int
    dropped: int
    changed: int
    undecided: int


def write_cleaned(examination: Examination, *, pointed_at: Path, out: Path) -> Cleaned:
    """Write the cleaned copy of what `pointed_at` names into the new folder `out`.

    `out/cleaning.txt` lists everything dropped, changed, and left for someone to decide. The data itself is not
    touched. Raises InputError where `out` is not empty, or where nothing of a split would be left.
    """
    require_free(out, overwrite=None)
    decisions = decide(examination)
    for name, kept in decisions.kept.items():
        if not kept:
            raise InputError(f"nothing of the split {name!r} can be kept, so there is no cleaned copy to write")
    base = common_folder(examination, pointed_at)
    files, omitted = rewrite(examination.source, decisions, label_map=examination.label_map)
    try:
        with replaced_folder(out) as draft:
            own = frozenset({absolute(out), absolute(draft)})
            _mirror(base, draft, files=files, omitted=omitted, own=own)
            write_text(draft / PROTOCOL, _protocol(decisions))
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}") from None
    return Cleaned(
        data=out / os.path.relpath(described_by(examination, pointed_at), base),
        protocol=out / PROTOCOL,
        training_images=len(decisions.kept[examination.train]),
        dropped=len(decisions.dropped),
        changed=len(decisions.changed),
        undecided=len(decisions.undecided),
    )


def require_image_files(source: Source) -> None:
    """Raise InputError if images are no files, to which a cleaned copy would link."""
    if stored_below(source.root):
        raise InputError(
            f"--fix makes links to image files, but those of {source.root} are in tar files or in a storage: unpack "
            "them, or correct the annotations by what the doctor lists"
        )


def described_by(examination: Examination, pointed_at: Path) -> Path:
    """Return what describes the data and will describe the copy: the file or, where that becomes COCO, its folder."""
    becomes_coco = examination.source.layout not in OWN_LAYOUTS
    return absolute(pointed_at.parent if becomes_coco and pointed_at.is_file() else pointed_at)


def common_folder(examination: Examination, pointed_at: Path) -> Path:
    """Return the folder that holds everything that the data consists of."""
    images = [image for images in examination.raw.images.values() for image in images]
    parts = {examination.source.root, *_listing(examination.source)}
    parts |= {image.path.parent for image in images} | {file.parent for image in images for file in image.files}
    parts.add(pointed_at if pointed_at.is_dir() else pointed_at.parent)
    try:
        base = Path(os.path.commonpath([absolute(part) for part in parts]))
    except ValueError:  # on several drives of Windows
        base = None
    if base is None or base == Path(base.anchor):
        raise InputError(f"the parts of {pointed_at} lie too far apart for a copy: bring them into one folder")
    return base


def _listing(source: Source) -> frozenset[Path]:
    """Return the files and folders that say which images there are."""
    places = [place for split in source.places.values() for place in split]
    return frozenset(absolute(path) for path in (*places, source.description) if path is not None)


def _mirror(
    folder: Path, copy: Path, *, files: Mapping[Path, bytes], omitted: frozenset[Path], own: frozenset[Path]
) -> None:
    """Fill a folder with new files, and with links to everything of the old one that needs no change."""
    touched = {parent for path in (*files, *omitted) for parent in path.parents}
    for entry in sorted(folder.iterdir()):
        # The copy may lie inside the data: it does not mirror itself, nor what other runs are writing.
        if entry in omitted or entry in own or any(entry in path.parents for path in own):
            continue
        if entry in files:
            (copy / entry.name).write_bytes(files[entry])
        elif entry in touched:
            (copy / entry.name).mkdir()
            _mirror(entry, copy / entry.name, files=files, omitted=omitted, own=own)
        else:
            (copy / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    for path in files:
        if path.parent == folder and not path.exists():
            (copy / path.name).write_bytes(files[path])


def _protocol(decisions: Decisions) -> str:
    sections = (
        ("dropped", decisions.dropped),
        ("changed", decisions.changed),
        ("left as it is, look at it yourself", decisions.undecided),
    )
    return "\n".join(
        "\n".join((f"{len(lines)} {title}", *(f"  {line}" for line in lines), "")) for title, lines in sections
    )
