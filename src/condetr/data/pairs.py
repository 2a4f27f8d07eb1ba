"""Annotation files that belong to one image each: which image, and which split."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from condetr.data.findings import Fault, Note, refused
from condetr.data.index import Index, folder_of, is_image, join, name_of, shown_folder, spelling, stem
from condetr.data.resolve import Match, Place, Resolver, notes_of_match, role_of
from condetr.data.splits import role
from condetr.errors import InputError

ALL = "all"
"""Name of the only split where nothing names any."""
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An annotation file and its image."""

    file: str
    match: Match | None
    """None where no image fits."""
    place: Place
    base: str | None
    """The folder with the images of most files beside this one or, if none is there, where they should be."""

    @property
    def image(self) -> str:
        """The image or, if it is nowhere, where it should be."""
        if self.match is not None:
            return self.match.file
        return join(self.place.folder if self.base is None else self.base, f"{own_name(self.file)}.jpg")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Annotation files, below the index's root, each with its image."""

    resolver: Resolver
    pairs: Sequence[Pair]
    unclear: Mapping[str, InputError]
    """Annotation files that fit several images alike."""
    unannotated: Sequence[str]
    """Images beside annotated ones that no file annotates."""

    def images(self) -> list[str]:
        """Return the images that are annotated, each once."""
        return list(dict.fromkeys(pair.match.file for pair in self.pairs if pair.match is not None))

    def image_folders(self) -> frozenset[Path]:
        """Return where the annotated images are, without links."""
        return frozenset(
            self.resolver.index.path(folder).resolve() for folder in {folder_of(file) for file in self.images()}
        )

    def told(self, one: str, many: str) -> str:
        """Say in a line where annotation files are, and where their images."""
        by_folder: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            by_folder.setdefault(pair.place.folder, []).append(pair)
        parts = []
        for folder, pairs in list(by_folder.items())[:_SHOWN]:
            of_images = sorted({folder_of(pair.match.file) for pair in pairs if pair.match is not None})
            where = " beside their images" if of_images == [folder] else f", {_their_images(of_images)}"
            parts.append(f"{len(pairs):,} {one if len(pairs) == 1 else many} in {shown_folder(folder)}{where}")
        rest = len(by_folder) - _SHOWN
        return "; ".join(parts) + (f"; and {rest:,} {'folder' if rest == 1 else 'folders'} more" if rest > 0 else "")

    @property
    def most_are_unannotated(self) -> bool:
        """Tell whether more images lack an annotation file than have one: it was not made yet, rather than needless."""
        return len(self.unannotated) > len(self.images())

    def with_pairs(self, pairs: "Sequence[Pair]") -> "Pairs":
        """Return the same with other pairs, of which the images count as annotated."""
        taken = {pair.match.file for pair in pairs if pair.match is not None}
        rest = [image for image in self.unannotated if image not in taken]
        return replace(self, pairs=pairs, unannotated=rest)

    def notes_of_unannotated(self) -> Iterator[Note]:
        """Note images without an annotation file, which are left out or taken as empty."""
        for image in self.unannotated:
            yield Note(Fault.NOT_ANNOTATED if self.most_are_unannotated else Fault.UNANNOTATED, image)

    def notes(self) -> Iterator[Note]:
        """Note what was found otherwise than by its place, and what is unclear."""
        for error in self.unclear.values():
            yield refused(Fault.AMBIGUOUS, error)
        for pair in self.pairs:
            if pair.match is not None:
                yield from notes_of_match(pair.match, stem(name_of(pair.file)), where=pair.file)


def find_pairs(index: Index, files: Sequence[str]) -> Pairs:
    """Find the image of each annotation file: of the same name, in the nearest folder with such images."""
    resolver = Resolver(index)
    by_folder: dict[str, list[str]] = {}
    for file in files:
        by_folder.setdefault(folder_of(file), []).append(file)
    pairs: list[Pair] = []
    unclear: dict[str, InputError] = {}
    bases: dict[str, str | None] = {}
    for folder, inside in by_folder.items():
        try:
            bases[folder] = resolver.base_of_stems([own_name(file) for file in inside], Place(folder, role_of(folder)))
        except InputError as error:
            unclear |= dict.fromkeys(inside, error)
    for folder in bases:
        inside, base, place = by_folder[folder], bases[folder], Place(folder, role_of(folder))
        if base is not None and _belongs_to_a_sibling(folder, base, bases):
            pairs += [Pair(file=file, match=None, place=place, base=folder) for file in inside]
            continue
        if base is None:
            base = resolver.usual_folder(place)
        for file in inside:
            try:
                match = resolver.image_of_stem(own_name(file), place, base=base)
            except InputError as error:
                unclear[file] = error
            else:
                pairs.append(Pair(file=file, match=match, place=place, base=base))
    return Pairs(resolver=resolver, pairs=pairs, unclear=unclear, unannotated=_unannotated(index, pairs))


def _belongs_to_a_sibling(folder: str, base: str, bases: Mapping[str, str | None]) -> bool:
    """Tell whether images lie with the annotations of another folder: the folder's own are missing then."""
    here = _shared(folder, base)
    return any(theirs == base and _shared(other, base) > here for other, theirs in bases.items())


def _shared(folder: str, other: str) -> int:
    """Return how many first folders two paths share."""
    return len([part for part in os.path.commonpath([f"/{folder}", f"/{other}"]).split("/") if part])


def own_name(file: str) -> str:
    """Return the name of an annotation file without its ending, by which it fits its image."""
    return name_of(file).rpartition(".")[0]


def roles_of(pairs: Pairs) -> dict[str, str | None]:
    """Return what each annotation file is for by the names of its folders or, where they do not tell, its image's."""
    return {
        pair.file: role_of(folder_of(pair.file)) or (role_of(folder_of(pair.match.file)) if pair.match else None)
        for pair in pairs.pairs
    }


def split_names(paths: Iterable[str]) -> dict[str, str]:
    """Return the name of each role's split: that of the folder, where all folders of the role have one name for it."""
    found: dict[str, set[str]] = {}
    for path in paths:
        part = next((part for part in reversed(path.split("/")) if role_of(part)), None)
        if part is not None:
            found.setdefault(role(part), set()).add(part)
    return {
        each: next(iter(parts)) if len(parts) == 1 and next(iter(parts)).isalnum() else each
        for each, parts in found.items()
    }


def told_splits(names: Sequence[str]) -> str:
    """Say which splits there are."""
    return "no split" if tuple(names) == (ALL,) else f"splits {', '.join(names)}"


def _unannotated(index: Index, pairs: Sequence[Pair]) -> list[str]:
    taken = {pair.match.file for pair in pairs if pair.match is not None}
    folders = {folder_of(file) for file in taken}
    stems = {(folder_of(file), spelling(stem(name_of(file)))) for file in taken}
    inside = [folder for folder in index.folders if folder in folders or _is_below(folder, folders)]
    return [
        file
        for folder in inside
        for file in (join(folder, name) for name in index.folders[folder] if is_image(name))
        if file not in taken and (folder, spelling(stem(name_of(file)))) not in stems
    ]


def _is_below(folder: str, others: Collection[str]) -> bool:
    """Tell whether a folder lies below one of others, the root aside."""
    parts = folder.split("/")
    return any("/".join(parts[:end]) in others for end in range(1, len(parts)))


def _their_images(folders: Sequence[str]) -> str:
    if not folders:
        return "their images are missing"
    return f"their images in {' and '.join(map(shown_folder, folders[:_SHOWN]))}"
