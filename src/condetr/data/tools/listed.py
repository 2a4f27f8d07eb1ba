"""Tools that write a file about many images: VIA, CreateML, Label Studio, CVAT."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.index import Index, folder_of, index_folder, join, name_of, shown_folder, spelling
from condetr.data.pairs import ALL, own_name, split_names, told_splits
from condetr.data.raw import RawData, RawImage, Source
from condetr.data.resolve import Finder, Match, Place, Resolver, role_of
from condetr.data.tools.page import ImageName, Page, PageImage, head, label_map_of, raw_boxes
from condetr.errors import InputError
from condetr.labels import LabelMap

_HEAD = 2**18  # bytes that tell what a file holds
_LOOKED_AT = 20  # files of a folder that may be a tool's


class ListedTool(NamedTuple):
    """How a tool's files are told from others, and read."""

    layout: str
    title: str
    suffixes: tuple[str, ...]
    is_its_own: Callable[[str], bool]
    """Tells by its first characters whether a text was written by the tool."""
    names: Callable[[str], list[ImageName]]
    """Finds the names of images in a text, without understanding all of it."""
    read: Callable[[Page], Reading[list[PageImage]]]
    """Returns what a file says; raises InputError where it is damaged."""
    respelt: Callable[[str], str] | None = None
    """How the tool changes the names of the files that it is given, where it does."""


@dataclass(frozen=True, kw_only=True)
class _Data:
    tool: ListedTool
    resolver: Resolver
    files: Sequence[str]
    splits: Mapping[str, str]
    """The split of each role that is there."""
    rest: str | None
    """The split of what has no role; None where it is left out."""

    @cached_property
    def respelt(self) -> Mapping[str, str]:
        """The names of images by what the tool makes of them."""
        respelt = self.tool.respelt
        return (
            {} if respelt is None else {respelt(name_of(image)): name_of(image) for image in self.resolver.index.images}
        )

    def split(self, file: str, name: ImageName) -> str | None:
        """Return the split of an image."""
        role = _role(file, name)
        return self.rest if role is None else self.splits.get(role)


def find_listed(tool: ListedTool, index: Index) -> Source | None:
    """Recognise a tool's files; None where there are none."""
    files = [file for file in _candidates(tool, index) if _is_its_own(tool, index.path(file))]
    return _source(tool, index, files) if files else None


def listed_file(tool: ListedTool, path: Path) -> Source | None:
    """Return the data set that a file describes; its images may lie beside it or in folders beside its own.

    None where the file is not the tool's.
    """
    if not path.name.lower().endswith(tool.suffixes) or not _is_its_own(tool, path):
        return None
    names = [spelt for name in tool.names(head(path))[:_LOOKED_AT] for spelt in name.spellings]
    index = near = index_folder(path.parent)
    if path.parent.name and not _holds_any(near, names):
        above = index_folder(path.parent.parent)
        index = above if _holds_any(above, names) else near
    return _source(tool, index, [path.relative_to(index.root).as_posix()])


def _holds_any(index: Index, names: Sequence[str]) -> bool:
    return any(_match(Resolver(index), name, Place("", None), None) for name in names)


def _is_its_own(tool: ListedTool, path: Path) -> bool:
    return tool.is_its_own(head(path, most=_HEAD))


def _candidates(tool: ListedTool, index: Index) -> list[str]:
    """Return some files of each folder, rather those that are not called like images."""
    by_folder: dict[str, list[str]] = {}
    for file in index.ending_in(*tool.suffixes):
        by_folder.setdefault(folder_of(file), []).append(file)
    found = []
    for files in by_folder.values():
        if len(files) > _LOOKED_AT:
            files = [file for file in files if spelling(own_name(file)) not in index.images_by_stem]
        found += files[:_LOOKED_AT]
    return found


def _source(tool: ListedTool, index: Index, files: Sequence[str]) -> Source:
    resolver = Resolver(index)
    names = {file: tool.names(head(index.path(file))) or [ImageName(())] for file in files}
    splits, rest = _splits(names)
    data = _Data(tool=tool, resolver=resolver, files=files, splits=splits, rest=rest)
    found = dict.fromkeys(data.split(file, name) for file, some in names.items() for name in some)
    split_names_found = tuple(split for split in found if split is not None) or (ALL,)
    folders = {file: _folder(resolver, file, some) for file, some in names.items()}
    told = ", ".join(
        file if folder is None else f"{file} with images in {shown_folder(folder)}" for file, folder in folders.items()
    )
    inside = {folder for folder in folders.values() if folder is not None}
    return Source(
        layout=tool.layout,
        root=index.root,
        understood=f"{tool.title}: {told}; {told_splits(split_names_found)}",
        splits=split_names_found,
        places={},
        image_folders=frozenset(index.path(folder).resolve() for folder in inside),
        num_images=sum(map(len, names.values())),
        read=partial(_read, data),
        files=tuple(index.path(file) for file in files),
    )


def _splits(names: Mapping[str, Sequence[ImageName]]) -> tuple[dict[str, str], str | None]:
    """Return the split of each role, and that of what has none: for training, unless others are."""
    roles = {_role(file, name) for file, some in names.items() for name in some}
    by_file = (own_name(file) if role_of(own_name(file)) else folder_of(file) for file in names)
    subsets = dict.fromkeys(name.subset for some in names.values() for name in some)
    has_train = "train" in roles or "trainval" in roles
    rest = ALL if not any(roles) else None if has_train else "train"
    return split_names((*by_file, *subsets)), rest


def _role(file: str, name: ImageName) -> str | None:
    return role_of(name.subset) or role_of(file.rpartition(".")[0])


def _folder(resolver: Resolver, file: str, names: Sequence[ImageName]) -> str | None:
    """Return where most images of a file are."""
    place = Place(folder_of(file), role_of(file.rpartition(".")[0]))
    for spelt in zip(*(name.spellings for name in names), strict=False):
        base = resolver.base(spelt, place)
        if base is not None:
            return join(base, folder_of(spelt[0].replace("\\", "/")).strip("./")).rstrip("/")
    return None


def _read(data: _Data, splits: Sequence[str]) -> Reading[RawData]:
    pages = {}
    for file in data.files:  # of every split, so that the ids do not depend on which one is opened
        pages[file] = yield from _pages(data, file)
    root = data.resolver.index.root
    label_map = yield from label_map_of((image for some in pages.values() for image in some), root)
    images: dict[str, list[RawImage]] = {split: [] for split in splits}
    for file, some in pages.items():
        groups: dict[tuple[str | None, str | None], list[PageImage]] = {}
        for image in some:
            groups.setdefault((data.split(file, image.name), _role(file, image.name)), []).append(image)
        for (split, role), group in groups.items():
            if split is None:
                yield Note(Fault.NOT_LISTED, file, count=len(group))
            elif split in images:
                place = Place(folder_of(file), role)
                images[split] += yield from _images(data, file, group, place, label_map=label_map)
    for split, found in images.items():
        images[split] = yield from _joined(found)
    return RawData(label_map=label_map, images=images)


def _pages(data: _Data, file: str) -> Reading[list[PageImage]]:
    try:
        return (yield from data.tool.read(Page(data.resolver.index.path(file), shown=file)))
    except InputError as error:
        yield refused(Fault.FAULTY_FILE, error)
        return []


def _images(
    data: _Data, file: str, pages: Sequence[PageImage], place: Place, *, label_map: LabelMap
) -> Reading[list[RawImage]]:
    ids = {category.name: category.dataset_id for category in label_map.categories}
    finder = _finder(data.resolver, file, [page.name for page in pages], place)
    images = []
    for page in pages:
        path = yield from finder.path(_name_in_data(page.name, finder, data))
        if path is not None:
            images.append(
                RawImage(
                    image_id=0,
                    path=path,
                    boxes=raw_boxes([(file, page)], ids),
                    files=(data.resolver.index.path(file),),
                    number=0,
                    size_hw=page.size_hw,
                )
            )
    return images


def _finder(resolver: Resolver, file: str, names: Sequence[ImageName], place: Place) -> Finder:
    """Return what finds images under the first spelling of their names in which any are there."""
    finders = [
        Finder(resolver, spelt, place, where=name_of(file))
        for spelt in zip(*(name.spellings for name in names), strict=False)
    ]
    return next((finder for finder in finders if finder.base is not None), finders[0])


def _name_in_data(name: ImageName, finder: Finder, data: _Data) -> str:
    """Return the spelling under which an image is there, at its place or anywhere; otherwise the last one."""
    matches = {spelt: _match(finder.resolver, spelt, finder.place, finder.base) for spelt in name.spellings}
    exact = [spelt for spelt, match in matches.items() if match is not None and match.is_as_written]
    found = exact or [spelt for spelt in matches if finder.is_somewhere(spelt)]
    if found:
        return found[0]
    last = name.spellings[-1]
    return data.respelt.get(last, last)


def _match(resolver: Resolver, name: str, place: Place, base: str | None) -> Match | None:
    try:
        return resolver.image(name, place, base=base)
    except InputError:
        return None


def _joined(images: Sequence[RawImage]) -> Reading[list[RawImage]]:
    """Put together what is said about an image in several places, the same boxes once, and number the images."""
    by_path: dict[Path, RawImage] = {}
    for image in images:
        before = by_path.get(image.path)
        by_path[image.path] = image if before is None else (yield from _with_new_boxes(before, image))
    return [image._replace(image_id=number, number=number) for number, image in enumerate(by_path.values())]


def _with_new_boxes(before: RawImage, image: RawImage) -> Reading[RawImage]:
    """Return an image with the boxes that were not there before, as people keep older exports beside newer ones."""
    known = {(box.corners, box.dataset_id) for box in before.boxes}
    new = [box for box in image.boxes if (box.corners, box.dataset_id) not in known]
    yield Note(Fault.JOINED if new else Fault.REPEATED_IMAGE, image.path.name)
    files = tuple(dict.fromkeys((*before.files, *image.files)))
    return before._replace(boxes=[*before.boxes, *new], files=files)
