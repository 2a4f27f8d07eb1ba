"""A prediction over many images on disk: its settings, its shards, and which of them are done."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

import condetr
from condetr.errors import InputError
from condetr.inference.fastest import Engine
from condetr.inference.rows import SUFFIXES, Format
from condetr.optimize.machine import FastPrecision
from condetr.storage.atomic import replaced_file, require_free, write_json, write_text
from condetr.words import counted

_DRAFT = re.compile(r"\.(\d+)\.\w+\.draft-")

_WORDS = {"weights": "other weights", "sources": "other images"}
"""Of settings whose values tell nobody anything."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that the content of shards depends on."""

    weights: str
    """The SHA-256 of their files."""
    images: int
    sources: str
    """The SHA-256 of the list of images."""
    format: Format
    min_score: float
    limit: int
    classes: list[str] | None
    tile: int | None
    overlap: float
    batch_size: int
    shard_size: int
    engine: Engine
    precision: FastPrecision
    categories: list[dict[str, Any]]

    @property
    def num_shards(self) -> int:
        """How many shards there are; the last one may hold fewer images."""
        return -(-self.images // self.shard_size)

    def size_of(self, shard: int) -> int:
        """Return how many images a shard holds."""
        return min(self.shard_size, self.images - shard * self.shard_size)


class Shard(NamedTuple):
    """Images in a row, which are done together or not at all."""

    number: int
    first: int
    """The position of the first image among all."""
    sources: list[str]
    """Files and addresses."""


class Done(NamedTuple):
    """What is noted of a shard when it is on the disk."""

    number: int
    images: int
    objects: int
    bytes: int
    errors: list[list[str]]
    """The images that could not be read, and why."""


class Part(NamedTuple):
    """The shards that one of several commands does: every `of`-th from `number` on, which counts from 1."""

    number: int = 1
    of: int = 1

    def has(self, shard: int) -> bool:
        """Tell whether a shard belongs to the part."""
        return shard % self.of == self.number - 1

    @staticmethod
    def parse(text: str) -> "Part":
        """Return the part that a text such as 3/8 names; raises InputError for others."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        part = Part(*map(int, match.groups())) if match else Part(0, 0)
        if not 1 <= part.number <= part.of:
            raise InputError(f"--part {text} is no part: give one such as 3/8, from 1/8 to 8/8")
        return part


class Folder:
    """The folder of a job: `manifest.json`, `shards/`, `done/` and `errors.jsonl`."""

    def __init__(self, path: Path, kind: Format) -> None:
        self.path = path
        self.kind = kind
        self.manifest = path / "manifest.json"
        self.errors = path / "errors.jsonl"

    @contextmanager
    def begun(self, job: Job, *, resume: bool, overwrite: bool, part: Part) -> Iterator[None]:
        """Make the folder, or continue with one of the same settings, and keep others out for the length of a block.

        Raises InputError if it holds something else, or if another command does the same part.
        """
        is_begun = self.manifest.is_file()
        if is_begun and resume:
            self._require_same(job)
        elif is_begun and not overwrite:
            raise InputError(
                f"{self.path} holds a prediction that was begun: continue it with --resume, begin anew with "
                "--overwrite, or name another folder with --out"
            )
        elif not is_begun:
            require_free(self.path, overwrite=overwrite)
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_manifest(job)
        with self._locked(part):
            if is_begun and not resume:
                for place in (self.shards, self.notes):
                    shutil.rmtree(place, ignore_errors=True)
                self.errors.unlink(missing_ok=True)
                self._write_manifest(job)
            for place in (self.shards, self.notes):
                place.mkdir(exist_ok=True)
                _remove_drafts(place, part)
            yield

    def begun_with(self) -> dict[str, Any]:
        """Return the settings of the prediction that was begun here; raises InputError if they cannot be read."""
        try:
            begun = json.loads(self.manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.manifest} cannot be read ({error}): name another folder with --out") from None
        return begun if isinstance(begun, dict) else {}

    @property
    def shards(self) -> Path:
        """The folder of results."""
        return self.path / "shards"

    @property
    def notes(self) -> Path:
        """The folder that tells which shards are complete."""
        return self.path / "done"

    def shard(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.shards / f"{number:06}{SUFFIXES[self.kind]}"

    def put(self, done: Done, content: bytes) -> None:
        """Write a shard, and then the note that it is complete; raises RunError if the disk is full."""
        with replaced_file(self.shard(done.number)) as draft:
            draft.write_bytes(content)
        with replaced_file(self._note(done.number)) as draft:
            write_text(draft, json.dumps(done._asdict(), ensure_ascii=False))

    def done(self, number: int) -> Done | None:
        """Return the note of a shard; None if it is still to do, or if its file is gone or was changed in length."""
        try:
            done = Done(**json.loads(self._note(number).read_text(encoding="utf-8")))
            return done if self.shard(number).stat().st_size == done.bytes else None
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return None  # not what was written there: the shard is done again

    def list_errors(self, all_done: Iterable[Done]) -> None:
        """Write the images that could not be read, a line each, if there are any."""
        lines = [
            json.dumps({"image": image, "error": error}, ensure_ascii=False) + "\n"
            for done in all_done
            for image, error in done.errors
        ]
        if lines:
            with replaced_file(self.errors) as draft:
                write_text(draft, "".join(lines))
        else:
            self.errors.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, part: Part) -> Iterator[None]:
        lock = FileLock(self.path / f".lock-{part.number}-of-{part.of}", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(f"another prediction is writing to {self.path}: let it end") from None
        except (OSError, NotImplementedError):  # no locks there; if the folder is not writable, writing will say it
            pass
        try:
            yield
        finally:
            if lock.is_locked:
                with suppress(OSError):  # Windows cannot delete an open file
                    Path(lock.lock_file).unlink()
            lock.release()

    def _note(self, number: int) -> Path:
        return self.notes / f"{number:06}.json"

    def _write_manifest(self, job: Job) -> None:
        with replaced_file(self.manifest) as draft:
            write_json(draft, {**asdict(job), "condetr": condetr.__version__})

    def _require_same(self, job: Job) -> None:
        begun = self.begun_with()
        for name, value in asdict(job).items():
            if name not in begun or begun[name] != value:
                before = begun.get(name)
                raise InputError(
                    f"{self.path} was begun with {_difference(name, before, value)}: give the same as then, or name "
                    "another folder with --out"
                )


def _remove_drafts(folder: Path, part: Part) -> None:
    """Remove what killed processes left of the shards of a part."""
    for left in folder.glob(".*.draft-*"):
        number = _DRAFT.match(left.name)
        if number is not None and part.has(int(number[1])):
            left.unlink(missing_ok=True)


def shards_of(sources: Sequence[str], job: Job, *, numbers: Iterable[int]) -> Iterator[Shard]:
    """Yield the shards of these numbers."""
    for number in numbers:
        first = number * job.shard_size
        yield Shard(number, first, list(sources[first : first + job.shard_size]))


def digest_of(sources: Iterable[str]) -> str:
    """Return a number that changes with every image and its place."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _difference(name: str, before: object, now: object) -> str:
    if name in _WORDS:
        return _WORDS[name]
    if name == "images":
        return f"{counted(int(str(before)), 'image')}, and now there are {now:,}"
    option = {"categories": "classes of the weights", "engine": "the engine"}.get(name, f"--{name.replace('_', '-')}")
    return f"{option} {before}, and now it is {now}"
