"""Find the image that an annotation means: as written, otherwise as the only file of that name."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.index import Index, folder_of, is_image, join, name_of, spelling, stem
from condetr.data.splits import ROLES, role
from condetr.errors import InputError

_SAMPLE = 200  # names that settle in which folder most of them are
_HALF = 0.5  # of the best count: a folder of the same split with so many is preferred, whatever else is there
_NEARLY = 0.9  # of the best count: a nearer folder with so many is preferred
_USUAL = ("images", "data", "img", "imgs", "image", "jpegimages")
_LEADING = re.compile(r"^(?:[a-zA-Z]:)?/*(?:\.\./)*")


class Match(NamedTuple):
    """An image that was found."""

    file: str
    """Below the root."""
    is_as_written: bool


class Place(NamedTuple):
    """From where names are looked up: the folder and the role of the annotations that hold them."""

    folder: str
    """Below the root."""
    role: str | None
    """What the annotations are for, `train` or `val`, as far as names tell."""


class Resolver:
    """Finds images below an index's root."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._parallel: dict[tuple[str, str], bool] = {}

    def base(self, names: Sequence[str], place: Place) -> str | None:
        """Return the folder below which most of some names lie as written; of several the usual, the nearest one.

        None where none of them is found so. Raises InputError where two folders fit alike.
        """
        sample = [self._written(name) for name in names[:: max(1, len(names) // _SAMPLE)]]
        return self._best(
            (
                (file.removesuffix(name).removesuffix("/"), name)
                for name in sample
                for file in self.index.images_by_name.get(spelling(name_of(name)), ())
                if file == name or file.endswith(f"/{name}")
            ),
            place,
        )

    def base_of_stems(self, stems: Sequence[str], place: Place) -> str | None:
        """Return the folder with the images that most annotation files are named like; see `base`."""
        sample = stems[:: max(1, len(stems) // _SAMPLE)]
        return self._best(((folder_of(file), each) for each in sample for file in self._like(each)), place)

    def image(self, name: str, place: Place, *, base: str | None) -> Match | None:
        """Return the image that is called `name`, below `base` if it is there; None where there is none.

        Elsewhere it must be the only file of that name: its path may differ, then its spelling (`%20`, another case),
        then its ending. Raises InputError where several files fit.
        """
        written = self._written(name)
        if base is not None and self._is_there(join(base, written)):
            return Match(join(base, written), is_as_written=True)
        last = name_of(written)
        by_name, by_stem = self.index.images_by_name, self.index.images_by_stem
        for same in (
            by_name.get(spelling(last), ()),
            by_name.get(spelling(unquote(last)), ()),
            by_stem.get(spelling(stem(last)), ()),
            by_stem.get(spelling(stem(unquote(last))), ()),
        ):
            found = self._only(written, same, place, base=base)
            if found is not None:
                return Match(found, is_as_written=False)
        return None

    def image_of_stem(self, named: str, place: Place, *, base: str | None) -> Match | None:
        """Return the image that is called like an annotation file but for its ending; see `image`."""
        like = self._like(named)
        inside = [file for file in like if folder_of(file) == base]
        if inside:
            return Match(inside[0], is_as_written=True)
        found = self._only(named, like, place, base=base)
        return None if found is None else Match(found, is_as_written=False)

    def usual_folder(self, place: Place) -> str | None:
        """Return the nearest folder that is called like those of images, whether or not it holds any."""
        usual = [folder for folder in self.index.folders if name_of(folder).lower() in _USUAL]
        return min(usual, key=lambda folder: self._rank(folder, place), default=None)

    def namesakes(self, file: str) -> list[str]:
        """Return the images beside one that differ from it in their ending alone."""
        own = stem(name_of(file))
        like = [other for other in self.index.images_by_stem[spelling(own)] if stem(name_of(other)) == own]
        return [other for other in like if other != file and folder_of(other) == folder_of(file)]

    def _like(self, named: str) -> Sequence[str]:
        exact = self.index.images_by_name.get(spelling(named), ()) if is_image(named) else ()
        like = exact or self.index.images_by_stem.get(spelling(named), ())
        return [file for file in like if named in (name_of(file), stem(name_of(file)))] or like

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.index.files)

    def _is_there(self, file: str) -> bool:
        """Tell whether a file is there; through links it may be without being in the index under this name."""
        if file in self._files:
            return True
        try:
            return not os.path.isabs(file) and ".." not in file.split("/") and self.index.path(file).is_file()  # noqa: PTH117
        except (OSError, ValueError):
            return False

    def _written(self, name: str) -> str:
        """Return a name as a path below some folder: slashes, no drive, nothing of or above the root."""
        path = os.path.normpath(name.replace("\\", "/"))
        root = os.path.abspath(self.index.root)  # noqa: PTH100 - links stay
        if path.startswith(f"{root}/"):
            path = path.removeprefix(f"{root}/")
        return _LEADING.sub("", path)

    def _best(self, found: Iterable[tuple[str, str]], place: Place) -> str | None:
        """Return the best of some folders, each with a name that fits in it."""
        names: dict[str, set[str]] = {}
        for base, name in found:
            names.setdefault(base, set()).add(name)
        counts = {base: len(some) for base, some in names.items() if not _conflict(role_of(base), place.role)}
        if not counts:
            return None
        most = max(counts.values())
        own = {base: count for base, count in counts.items() if place.role and role_of(base) == place.role}
        if own and max(own.values()) >= _HALF * most:
            counts, most = own, max(own.values())
        enough = _NEARLY * most
        ranked = sorted((self._rank(base, place), base) for base, count in counts.items() if count >= enough)
        (first, base), *others = ranked
        # Where two folders share no name, each name settles itself.
        if others and others[0][0] == first and names[base] & names[others[0][1]]:
            raise InputError(
                f"the images that {self.index.path(place.folder)} annotates may be those of {self.index.path(base)} or "
                f"of {self.index.path(others[0][1])}, which are called alike: leave one of both folders"
            )
        return base

    def _rank(self, base: str, place: Place) -> tuple[int, ...]:
        """Order folders: of the same role, near, called alike, usual ones first."""
        mine, theirs = place.folder.split("/") if place.folder else [], base.split("/") if base else []
        shared = _common(mine, theirs)
        alike = _common(mine[shared:][::-1], theirs[shared:][::-1])
        usual = not any(part.lower() in _USUAL for part in theirs[shared:])
        distance = len(mine) + len(theirs) - 2 * shared
        return int(place.role is not None and role_of(base) != place.role), -shared, -alike, int(usual), distance

    def _only(self, name: str, files: Sequence[str], place: Place, *, base: str | None) -> str | None:
        """Return the file that fits best among those of one name; raise InputError where two fit alike."""
        able = [file for file in files if not _conflict(role_of(folder_of(file)), place.role)]
        if base is not None:
            able = [file for file in able if folder_of(file) == base or not self._is_parallel(folder_of(file), base)]
        if not able:
            return None
        ranked = sorted((-_common_tail(name, file), *self._rank(folder_of(file), place), file) for file in able)
        first = ranked[0]
        others = [each for each in ranked[1:] if each[:-1] == first[:-1]]
        if any(folder_of(str(each[-1])) != folder_of(str(first[-1])) for each in others):
            found = " and ".join(str(self.index.path(str(each[-1]))) for each in (first, *others[:1]))
            raise InputError(f"{name!r} may mean {found}: rename one of them, or correct the name")
        return str(first[-1])

    def _is_parallel(self, folder: str, base: str) -> bool:
        """Tell whether a folder holds other versions of the images in `base`, such as masks or thumbnails."""
        key = (folder, base)
        if key not in self._parallel:
            stems = self.index.stems
            self._parallel[key] = not stems.get(folder, frozenset()).isdisjoint(stems.get(base, frozenset()))
        return self._parallel[key]


def role_of(path: str) -> str | None:
    """Return what a path is for by the last of its parts whose name tells: `train` for `train2017/images`."""
    found = [role(part) for part in path.split("/")]
    return next((each for each in reversed(found) if each in ROLES), None)


class Finder:
    """Finds the images that one file lists, and notes what is odd about it."""

    def __init__(self, resolver: Resolver, names: Sequence[str], place: Place, *, where: str) -> None:
        self.resolver = resolver
        self.place = place
        self.where = where
        self.base = resolver.base(names, place)

    def path(self, name: str) -> Reading[Path | None]:
        """Return where an image is or, if it is nowhere, where it should be; None where that is refused."""
        root = self.resolver.index.root
        try:
            match = self.resolver.image(name, self.place, base=self.base)
        except InputError as error:
            yield refused(Fault.AMBIGUOUS, error)
            return None
        if match is not None:
            yield from notes_of_match(match, name, where=self.where)
            return self.resolver.index.path(match.file)
        folder = root / (self.place.folder if self.base is None else self.base)
        if leads_out(name, folder) and leads_out(name, root):
            sentence = f"the file name {name!r} leads out of the data folder {root}: file names must stay inside it"
            yield refused(Fault.LEAVING, sentence)
            return None
        return folder / name.replace("\\", "/")

    def is_somewhere(self, name: str) -> bool:
        """Tell whether any file fits a name."""
        try:
            return self.resolver.image(name, self.place, base=self.base) is not None
        except InputError:
            return True  # two files do


def notes_of_match(match: Match, name: str, *, where: str) -> Iterator[Note]:
    """Note an image that was found otherwise than by its path."""
    if not match.is_as_written:
        yield Note(Fault.FOUND_ELSEWHERE, f"{where}: {name} is {match.file}")


def leads_out(name: str, root: Path) -> bool:
    """Tell whether a name, taken as it is, lies outside a folder."""
    path = os.path.normpath(os.path.join(os.path.abspath(root), name.replace("\\", "/")))  # noqa: PTH100, PTH118
    return "\0" in name or not Path(path).is_relative_to(os.path.abspath(root))  # noqa: PTH100


def _conflict(one: str | None, other: str | None) -> bool:
    """Tell whether two roles exclude each other."""
    if one is None or other is None or one == other:
        return False
    return {one, other} not in ({"trainval", "train"}, {"trainval", "val"})


def _common_tail(name: str, file: str) -> int:
    """Return how many parts two paths end in alike."""
    return _common(name.split("/")[::-1], file.split("/")[::-1])


def _common(mine: Sequence[str], theirs: Sequence[str]) -> int:
    """Return how many first parts are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False)))
