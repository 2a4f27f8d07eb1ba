"""Tools that write a file for each image: labelme, Supervisely, KITTI.

A file belongs to the image of its name; where there is none, the name that it states counts, as people rename files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from condetr.data.findings import Fault, Note, Reading, leniently, refused
from condetr.data.index import Index, folder_of, is_image, join, shown_folder, spelling, stem
from condetr.data.pairs import ALL, Pair, Pairs, find_pairs, own_name, roles_of, split_names, told_splits
from condetr.data.raw import RawData, RawImage, Source
from condetr.data.tools.page import Page, PageImage, head, label_map_of, raw_boxes
from condetr.errors import InputError

_LOOKED_AT = 5  # files of a folder that tell what it holds
_MOST = 2**24  # bytes of them, as an image may be inside
_CONTENTS_LOOKED_AT = 20  # files whose contents tell where images are that have other names


class PairedTool(NamedTuple):
    """How a tool's files are told from others, and read."""

    layout: str
    title: str
    suffix: str
    is_its_own: Callable[[str], bool]
    """Tells whether a text was written by the tool."""
    read: Callable[[Page], Reading[PageImage]]
    """Returns what a file says; raises InputError where it is damaged or another's."""


@dataclass(frozen=True, kw_only=True)
class _Data:
    tool: PairedTool
    pairs: Pairs
    splits: Mapping[str, str | None]
    """The split of each file; None for those that are in none."""


def find_paired(tool: PairedTool, index: Index) -> Source | None:
    """Recognise folders that hold a tool's files; None where there are none."""
    files = _files(tool, index)
    if not files:
        return None
    pairs = find_pairs(index, files)
    data = _Data(tool=tool, pairs=pairs, splits=_splits(pairs))
    names = tuple(dict.fromkeys(split for split in data.splits.values() if split is not None)) or (ALL,)
    folders, kind = pairs.image_folders(), tool.suffix[1:].upper()
    told = pairs.told(kind, kind)
    if not folders and (base := _base_by_contents(data)) is not None:
        folders = frozenset({index.path(base).resolve()})
        told = f"{len(files):,} {kind} in {shown_folder(folder_of(files[0]))}, their images in {shown_folder(base)}"
    return Source(
        layout=tool.layout,
        root=index.root,
        understood=f"{tool.title}: {told}; {told_splits(names)}",
        splits=names,
        places={},
        image_folders=folders,
        num_images=len(pairs.images()) or len(files),
        read=partial(_read, data),
        files=tuple(index.path(file) for file in files),
    )


def _files(tool: PairedTool, index: Index) -> list[str]:
    by_folder: dict[str, list[str]] = {}
    for file in index.ending_in(tool.suffix):
        by_folder.setdefault(folder_of(file), []).append(file)
    return [file for files in by_folder.values() if _are_its_own(tool, index, files) for file in files]


def _are_its_own(tool: PairedTool, index: Index, files: Sequence[str]) -> bool:
    """Tell by some files of a folder, those that are called like images if any are, what it holds."""
    likely = [file for file in files if _is_called_like_an_image(file, index)] or files
    spread = likely[:: max(1, len(likely) // _LOOKED_AT)][: _LOOKED_AT + 1]
    return any(tool.is_its_own(head(index.path(file), most=_MOST)) for file in spread)


def _is_called_like_an_image(file: str, index: Index) -> bool:
    name = spelling(own_name(file))
    return name in index.images_by_stem or name in index.images_by_name


def _splits(pairs: Pairs) -> dict[str, str | None]:
    """Divide files by the names of folders; those without a role are for training, unless others are."""
    roles = roles_of(pairs)
    folders = (folder for pair in pairs.pairs for folder in (pair.place.folder, folder_of(pair.image)))
    named = split_names(dict.fromkeys(folders))
    has_train = "train" in roles.values() or "trainval" in roles.values()
    rest = ALL if not any(roles.values()) else None if has_train else "train"
    return {file: named[each] if each else rest for file, each in roles.items()}


def _base_by_contents(data: _Data) -> str | None:
    """Return the folder of the images that the first files name, where no image is called like a file."""
    looked_at = data.pairs.pairs[:_CONTENTS_LOOKED_AT]
    pages, _ = leniently(_pages(looked_at, data))
    names = [name for page in pages.values() for name in page.name.spellings]
    try:
        return data.pairs.resolver.base(names, looked_at[0].place) if looked_at and names else None
    except InputError:
        return None  # then each image is told by itself


def _read(data: _Data, splits: Sequence[str]) -> Reading[RawData]:
    index = data.pairs.resolver.index
    yield from data.pairs.notes()
    pages = yield from _pages(
        data.pairs.pairs, data
    )  # of every split, so that ids do not depend on which one is opened
    grouped = yield from _grouped(data, pages)
    label_map = yield from label_map_of(pages.values(), index.root)
    ids = {category.name: category.dataset_id for category in label_map.categories}
    images = {
        split: [
            RawImage(
                image_id=number,
                path=index.path(image),
                boxes=raw_boxes(((file, pages[file]) for file in files), ids),
                files=tuple(index.path(file) for file in files),
                number=number,
                size_hw=pages[files[0]].size_hw if files else None,
            )
            for number, (image, files) in enumerate(grouped.get(split, {}).items())
        ]
        for split in splits
    }
    return RawData(label_map=label_map, images=images)


def _pages(pairs: Sequence[Pair], data: _Data) -> Reading[dict[str, PageImage]]:
    """Return what each file says but for those that are refused, or whose name and content are not of the data."""
    pages = {}
    for pair in pairs:
        path = data.pairs.resolver.index.path(pair.file)
        if pair.match is None and not data.tool.is_its_own(head(path)):
            yield Note(Fault.NOT_READ, pair.file)
            continue
        try:
            pages[pair.file] = yield from data.tool.read(Page(path, shown=pair.file))
        except InputError as error:
            yield refused(Fault.FAULTY_FILE, error)
    return pages


def _grouped(data: _Data, pages: Mapping[str, PageImage]) -> Reading[dict[str, dict[str, list[str]]]]:
    """Return the images of every split, each with its files."""
    grouped: dict[str, dict[str, list[str]]] = {split: {} for split in data.splits.values() if split is not None}
    ending = _usual_ending(data.pairs)
    for pair in data.pairs.pairs:
        split = data.splits[pair.file]
        if pair.file in pages and split is not None:
            files = grouped[split].setdefault(_image(pair, pages[pair.file], data.pairs, ending=ending), [])
            if any(pages[file].boxes == pages[pair.file].boxes for file in files):
                yield Note(Fault.REPEATED_IMAGE, pair.file)
                continue
            if files:
                yield Note(Fault.JOINED, pair.file)
            files.append(pair.file)
    for folder in dict.fromkeys(folder_of(file) for file, split in data.splits.items() if split is None):
        yield Note(Fault.UNUSED_FOLDER, folder)
    yield from _add_unannotated(data.pairs, grouped)
    return grouped


def _usual_ending(pairs: Pairs) -> str:
    image = next((pair.match.file for pair in pairs.pairs if pair.match is not None), "1.jpg")
    return image.removeprefix(stem(image))


def _image(pair: Pair, page: PageImage, pairs: Pairs, *, ending: str) -> str:
    """Return a file's image or, if it is nowhere, where it should be.

    The name inside the file counts as well where it differs in its ending alone, as two such images may be there.
    """
    own = own_name(pair.file)
    for name in page.name.spellings:
        if pair.match is None or spelling(stem(name)) == spelling(stem(own)):
            try:
                match = pairs.resolver.image(name, pair.place, base=pair.base)
            except InputError:
                continue  # then its own name is told as missing
            if match is not None:
                return match.file
    if pair.match is not None:
        return pair.match.file
    expected = [name for name in (*page.name.spellings, own) if is_image(name) and "/" not in name]
    return join(pair.place.folder if pair.base is None else pair.base, expected[0] if expected else f"{own}{ending}")


def _add_unannotated(pairs: Pairs, grouped: dict[str, dict[str, list[str]]]) -> Iterator[Note]:
    """Take images beside annotated ones as empty, since some write no file where nothing is marked; unless most are."""
    taken = {image: split for split, images in grouped.items() for image in images}
    there = frozenset(pairs.resolver.index.images)
    for other in (other for image in taken if image in there for other in pairs.resolver.namesakes(image)):
        if other not in taken:
            yield Note(Fault.NAMESAKE, other)
    of_folder = {folder_of(image): split for image, split in taken.items()}
    others = [image for image in pairs.unannotated if image not in taken]
    are_most = len(others) > len(taken)
    for image in others:
        yield Note(Fault.NOT_ANNOTATED if are_most else Fault.UNANNOTATED, image)
        folder = next((folder for folder in _upwards(folder_of(image)) if folder in of_folder), None)
        if not are_most and folder is not None:
            grouped[of_folder[folder]][image] = []


def _upwards(folder: str) -> Iterable[str]:
    """Yield a folder and those around it, but for the root unless it is the folder."""
    yield folder
    while folder := folder_of(folder):
        yield folder
