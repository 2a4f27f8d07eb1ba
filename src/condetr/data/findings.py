"""What can be wrong or worth knowing in data, and how readers tell it.

What reads data is a generator: it yields a note for everything that is worth one, and returns what it read. One reader
calls another with `result = yield from read_part(...)`, so that notes come in the order of reading. Whoever needs the
result decides what a refusal means: `strictly` stops at the first one, `leniently` goes on without what is faulty.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias, TypeVar

from condetr.data.dataset import Finding
from condetr.errors import InputError

_EXAMPLES = 5


class Fault(Enum):
    """Severity, what is counted (one, many) and what is the matter with it."""

    FAULTY_FILE = ("error", "annotation file", "annotation files", "that cannot be read")
    FAULTY_ENTRY = ("error", "entry", "entries", "of annotation files that cannot be understood")
    CATEGORY_CLASH = ("error", "clash", "clashes", "between the ids or names of categories")
    UNKNOWN_CATEGORY = ("error", "annotation", "annotations", "of a category that the data does not name")
    REPEATED_IMAGE_ID = ("error", "image", "images", "with an id that another one has")
    LEAVING = ("error", "file name", "file names", "leading out of the data folder")
    NO_ANNOTATION = ("error", "listed image", "listed images", "without an annotation file")
    BROKEN_IMAGE = ("error", "image", "images", "missing, truncated or unreadable")
    AMBIGUOUS = ("error", "image", "images", "that may be one of several files")
    FRACTIONS = ("error", "split", "splits", "with boxes in fractions of the image where pixels are meant")
    SPLIT_UNCLEAR = ("error", "choice", "choices", "of a split that names do not settle")
    NOTHING = ("error", "part", "parts", "of the data with nothing to use")
    MISSING_SPLIT = ("warning", "split", "splits", "named but missing, left out")
    UNREADABLE = ("warning", "image", "images", "missing or unreadable, left out")
    UNANNOTATED = ("warning", "image", "images", "without an annotation file, taken as without objects")
    NOT_ANNOTATED = ("warning", "image", "images", "without an annotation file, left out, as most have none")
    NOT_REACHED = ("warning", "labelled image", "labelled images", "in folders that are not read, left out")
    NOT_LISTED = ("warning", "annotated image", "annotated images", "in none of the lists that are read, left out")
    ORPHAN = ("warning", "annotation", "annotations", "of images that the file does not list, left out")
    UNUSED_FOLDER = ("warning", "folder", "folders", "with labels but not named like a split, left out")
    NAMESAKE = ("warning", "image", "images", "with the name of another one but for the ending, left out")
    ORPHAN_LABELS = ("warning", "label file", "label files", "with boxes but without an image, left out")
    NAMED_ALIKE = ("warning", "class", "classes", "whose name differs from another's in blanks or case alone")
    FEWER_NAMES = ("warning", "count", "counts", "of classes other than the names that are given")
    OTHER_LABELS_FOLDER = ("warning", "folder", "folders", "read for labels, as the one of the usual name is missing")
    LISTED_TWICE = ("warning", "image", "images", "listed under several ids, so that its boxes may be divided")
    COPIED = ("warning", "annotation file", "annotation files", "of a folder that is a copy of another one, left out")
    REPEATED_ID = ("warning", "annotation", "annotations", "with an id that another one has, kept")
    REPEATED_IMAGE = ("warning", "image", "images", "listed more than once, read once")
    DEGENERATE = ("warning", "box", "boxes", "without area, left out")
    OUTSIDE = ("warning", "box", "boxes", "wholly outside the image, left out")
    CLIPPED = ("warning", "box", "boxes", "reaching beyond the image, clipped")
    REPEATED_BOX = ("warning", "box", "boxes", "almost the same as another one of the same class, kept")
    TURNED = ("warning", "image", "images", "annotated at the size before EXIF rotation, so boxes may lie elsewhere")
    OTHER_SIZE = ("warning", "image", "images", "of another size than the annotations say")
    LEAK = ("warning", "image", "images", "in both the training and the validation split")
    UNUSED_CLASS = ("warning", "class", "classes", "without a box in the training split")
    NO_VALIDATION_BOX = ("warning", "validation split", "validation splits", "without any box, so AP is undefined")
    FOUND_ELSEWHERE = ("info", "image", "images", "found by name, not by the path that the annotations give")
    PLACE_ELSEWHERE = ("info", "path", "paths", "of splits found by the last folders alone")
    JOINED = ("info", "image", "images", "annotated in several files, which are joined")
    BAD_AREA = ("info", "annotation", "annotations", "with an area that is no number of pixels; the box's is taken")
    OTHER_ENCODING = ("info", "annotation file", "annotation files", "in UTF-16, read as such")
    UNNAMED_CLASS = ("info", "class", "classes", "without a name, called by its number")
    NOT_READ = ("info", "annotation file", "annotation files", "not read, as others describe the data")
    REPEATED_CATEGORY = ("info", "category", "categories", "without boxes and named like another, left out")
    EMPTY = ("info", "image", "images", "without boxes, kept")
    CROWD = ("info", "crowd region", "crowd regions", "not trained on, ignored in evaluation")
    DIFFICULT = ("info", "difficult object", "difficult objects", "not trained on, ignored in evaluation")
    POLYGON = ("info", "polygon", "polygons", "taken as bounding boxes")
    OUTLINE = ("info", "shape", "shapes", "other than upright boxes, taken as bounding boxes")
    GROUPED = ("info", "outline", "outlines", "joined with others of their class and group into one box")
    DONT_CARE = ("info", "region", "regions", "marked as not to be looked at, left out")
    NO_BOX = ("info", "shape", "shapes", "enclosing nothing, such as points and lines, left out")
    UNREAD_MASK = ("warning", "mask", "masks", "painted rather than outlined, not read")
    SEVERAL_LABELS = ("warning", "shape", "shapes", "with several classes, of which the first is taken")
    CHOSEN_ATTRIBUTE = ("info", "file", "files", "with several attributes of shapes, of which one is the class")
    NO_CLASSES = ("info", "annotation file", "annotation files", "without classes, all called `object`")
    NOT_DONE = ("warning", "image", "images", "that nobody has annotated yet, left out")
    OTHER_ANNOTATOR = ("info", "image", "images", "annotated several times, of which the best or first one is taken")
    HELD_OUT = (
        "info",
        "image",
        "images",
        "of the training split held out for validation, as the data has no such split",
    )

    def __init__(self, severity: Literal["error", "warning", "info"], one: str, many: str, what: str) -> None:
        self.severity = severity
        self.one = one
        self.many = many
        self.what = what


@dataclass(frozen=True, slots=True)
class Note:
    """A fault, and where it is."""

    fault: Fault
    place: str
    """Such as `images/12.jpg: annotation 3`."""
    count: int = 1
    refusal: str | None = None
    """What a strict reading ends with; None where it goes on. After a refusal readers leave out what is faulty."""


_Result = TypeVar("_Result")
Reading: TypeAlias = Generator[Note, None, _Result]
"""What yields notes and returns a result; it does nothing until it is run, by `yield from` or one of the two below."""


def refused(fault: Fault, sentence: str | InputError) -> Note:
    """Return the note of what cannot be used, at which a strict reading ends with the sentence."""
    return Note(fault, str(sentence), refusal=str(sentence))


def strictly(reading: Reading[_Result]) -> tuple[_Result, tuple[Note, ...]]:
    """Read to the end, and return the result and the notes; raises InputError at the first refusal."""
    return _run(reading, check=_raise_refusal)


def leniently(reading: Reading[_Result]) -> tuple[_Result, tuple[Note, ...]]:
    """Read to the end whatever is refused, and return the result and the notes."""
    return _run(reading, check=lambda note: None)


def places_of(notes: Sequence[Note], fault: Fault) -> tuple[str, ...]:
    """Return the places of a fault."""
    # File names may hold what is no text.
    return tuple(note.place.encode(errors="backslashreplace").decode() for note in notes if note.fault is fault)


def findings_of(notes: Sequence[Note], *, most_examples: int | None = _EXAMPLES) -> tuple[Finding, ...]:
    """Sum up notes, errors first, then warnings; of each fault the first places are told, or all."""
    by_fault: dict[Fault, list[Note]] = {fault: [] for fault in Fault}
    for note in notes:
        by_fault[note.fault].append(note)
    return tuple(_finding(fault, some, most_examples) for fault, some in by_fault.items() if some)


def _run(reading: Reading[_Result], *, check: Callable[[Note], None]) -> tuple[_Result, tuple[Note, ...]]:
    notes: list[Note] = []
    while True:
        try:
            note = next(reading)
        except StopIteration as end:
            return end.value, tuple(notes)
        check(note)
        notes.append(note)


def _raise_refusal(note: Note) -> None:
    if note.refusal is not None:
        raise InputError(note.refusal)


def _finding(fault: Fault, notes: Sequence[Note], most_examples: int | None) -> Finding:
    count = sum(note.count for note in notes)
    return Finding(
        severity=fault.severity,
        what=f"{count} {fault.one if count == 1 else fault.many} {fault.what}",
        count=count,
        examples=places_of(notes[:most_examples], fault),
    )
