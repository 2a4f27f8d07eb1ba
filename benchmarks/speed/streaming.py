"""Prediction of many images in shards beside one file: images a second, memory, and what SIGKILLs leave.

CONDETR_IMAGES is the number of images, 20,000 by default; without `--quick` it takes about ten minutes on two cores.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.speed.report import Cell, Table
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap
from condetr.recipes.registry import recipe
from condetr.scenes.shapes import SHAPES, write_scenes

IMAGES, FEW, KILLS = 20_000, 1_000, 20
BROKEN_EVERY = 1_000
FASTER = 4
AUTO = ("--precision", "auto")
SHARDS = 200
"""Small ones, so that a kill costs little."""
_LOOK = 0.05  # seconds between two looks at the memory of processes
_BRIEF = 20  # looks that a process lasts at least whose memory counts


class Material(NamedTuple):
    """A model, and lists of images."""

    folder: Path
    weights: Path
    images: list[Path]

    @property
    def shard_size(self) -> int:
        """How many images a shard holds."""
        return max(1, len(self.images) // SHARDS)


class Ran(NamedTuple):
    """What a command took."""

    seconds: float
    gibibytes: float
    """The peaks of all of its processes together."""


def measure(*, quick: bool) -> Table:
    """Predict in one file, in shards, and in shards with SIGKILLs."""
    few, kills = (60, 2) if quick else (FEW, KILLS)
    with material(count=num_images(quick=quick)) as made:
        listed = {count: list_of(made, count) for count in (few // 10, few, len(made.images))}
        once = {count: _once(made, listed[count]) for count in (few // 10, few)}
        shards = {count: in_shards(made, listed[count], out=f"shards-{count}") for count in (few, len(made.images))}
        # Fewer images are enough for a rate; the first command finds the engine.
        some = {count: list_of(made, count) for count in (few, FASTER * few)}
        in_shards(made, listed[few // 10], out="auto", options=AUTO)
        auto = {count: in_shards(made, some[count], out=f"auto-{count}", options=AUTO) for count in some}
        whole, cut = made.folder / f"shards-{len(made.images)}", made.folder / "cut"
        pause = shards[len(made.images)].seconds / kills / 2
        killed = _killed(made, listed[len(made.images)], out=cut, kills=kills, pause=pause)
        equal, lost, twice = compared(cut, whole, made.images)
    old, new, fastest = rate(once), rate(shards), rate(auto)
    engine = json.loads((made.folder / "auto" / "manifest.json").read_text())
    rows: list[tuple[Cell, ...]] = [
        *((f"one file, {count:,} images", ran.seconds, None, ran.gibibytes) for count, ran in once.items()),
        *((f"shards, {count:,} images", ran.seconds, None, ran.gibibytes) for count, ran in shards.items()),
        ("one file, without the start", None, old, None),
        ("shards, without the start", None, new, None),
        (f"shards in {engine['engine']}, {engine['precision']}, without the start", None, fastest, None),
    ]
    small, large = shards.values()
    return Table(
        name="streaming",
        title=f"Prediction of {len(made.images):,} scenes, Conditional DETR-MobileNetV2 at 320 x 320",
        columns=("", "seconds", "images a second", "GiB at the peak"),
        rows=rows,
        headline={
            "images a second over one file": new / old,
            "images a second over one file, with --precision auto": fastest / old,
            f"memory of {len(made.images):,} images over {few:,}": large.gibibytes / small.gibibytes,
            "SIGKILLs": killed,
            "images lost": lost,
            "images twice": twice,
            "bytes equal to an undisturbed run": float(equal),
        },
        notes=[
            "one file: condetr predict --no-pictures, an image at a time with all threads",
            "shards: condetr predict --format jsonl --min-score 0, batches of 8, a process for each core",
            "without the start: between the smaller and the larger number of images; memory: of all processes",
            f"one image in {BROKEN_EVERY:,} is broken",
        ],
    )


def num_images(*, quick: bool) -> int:
    """Return how many images are asked for."""
    return int(os.environ.get("CONDETR_IMAGES", "400" if quick else str(IMAGES)))


@contextmanager
def material(*, count: int) -> Iterator[Material]:
    """Make a model with random weights and scenes of 128 x 128, for the length of a block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = recipe("conditional_detr_mobilenet")
        save_model(
            folder / "weights",
            config.detector.build(num_classes=len(SHAPES), pretrained=False),
            detector_config=config.detector,
            transform=config.data.transform,
            label_map=LabelMap(tuple(Category(number, shape) for number, shape in enumerate(SHAPES, 1))),
        )
        write_scenes(folder / "scenes", num_images=count, seed=0)
        images = sorted((folder / "scenes" / "images").iterdir())
        for image in images[50::BROKEN_EVERY]:
            image.write_bytes(image.read_bytes()[:500])
        yield Material(folder, folder / "weights", images)


def in_shards(made: Material, listed: Path, *, out: str, options: Sequence[str] = ()) -> Ran:
    """Predict in shards, undisturbed."""
    return _run(shards_command(made, listed, out=made.folder / out, options=options))


def shards_command(made: Material, listed: Path, *, out: Path, options: Sequence[str] = ()) -> list[str]:
    """Return the command that predicts in shards, or continues."""
    settings = ("--format", "jsonl", "--min-score", "0", "--shard-size", str(made.shard_size), "--resume", *options)
    return [*_command(made, listed, out=out), *settings]


def compared(out: Path, whole: Path, images: Sequence[Path]) -> tuple[bool, int, int]:
    """Return whether both folders hold the same bytes, and how many images are lost, and twice, in the first."""
    found: dict[str, int] = {}
    for path in (*sorted((out / "shards").iterdir()), out / "errors.jsonl"):
        for line in path.read_text().splitlines():
            name = json.loads(line)["image"]
            found[name] = found.get(name, 0) + 1
    lost = sum(str(image) not in found for image in images)
    return digests(out) == digests(whole), lost, sum(count > 1 for count in found.values())


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of results."""
    files = (*(out / "shards").iterdir(), out / "errors.jsonl")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def rate(ran: dict[int, Ran]) -> float:
    """Return the images a second between two numbers of images."""
    (few, first), (many, second) = sorted(ran.items())
    return (many - few) / (second.seconds - first.seconds)


def wait_for(event: Callable[[], bool], process: "subprocess.Popen[bytes]") -> bool:
    """Wait until something has happened or the process has ended; return whether it is running."""
    while process.poll() is None and not event():
        time.sleep(0.01)
    return process.poll() is None


def num_done(out: Path) -> int:
    """Return how many shards are complete."""
    return len(list((out / "done").glob("[0-9]*.json")))


def list_of(made: Material, count: int) -> Path:
    """Write a list of the first images."""
    path = made.folder / f"first-{count}.txt"
    path.write_text("".join(f"{image}\n" for image in made.images[:count]))
    return path


def _command(made: Material, listed: Path, *, out: Path) -> list[str]:
    return [sys.executable, "-m", "condetr", "predict", str(made.weights), f"@{listed}", "--out", str(out)]


def _once(made: Material, listed: Path) -> Ran:
    out = made.folder / "once"
    shutil.rmtree(out, ignore_errors=True)
    return _run([*_command(made, listed, out=out), "--no-pictures"])


def _run(command: Sequence[str]) -> Ran:
    began, peaks, looks = time.perf_counter(), Counter[int](), Counter[int]()
    process = started(command)
    while process.poll() is None:
        for member in [process.pid, *(child.pid for child in _children(process))]:
            peaks[member] = max(peaks[member], _peak_bytes(member))
            looks[member] += 1
        time.sleep(_LOOK)
    # What forks counts its parent's memory until it becomes another program.
    lasting = sum(peak for member, peak in peaks.items() if looks[member] > _BRIEF)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Ran(time.perf_counter() - began, lasting / 2**30)


def started(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a command in a process group of its own."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def _children(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _peak_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _killed(made: Material, listed: Path, *, out: Path, kills: int, pause: float) -> int:
    """Predict with SIGKILLs at random moments, every second one of the command alone; return how many there were."""
    moments, number = random.Random(0), 0
    for number in range(kills):
        before = num_done(out)
        process = started(shards_command(made, listed, out=out))
        if wait_for(lambda: num_done(out) > before, process):  # noqa: B023 - used in this life
            time.sleep(moments.uniform(0, pause))
        workers = _children(process)
        if process.poll() is not None:
            return number
        if number % 2:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(workers, timeout=60)
    _run(shards_command(made, listed, out=out))
    return kills
