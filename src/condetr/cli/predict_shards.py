"""`condetr predict --format`: many images, shard by shard, to be continued after any stop."""

from collections.abc import Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import typer

from condetr.cli.options import print_json
from condetr.cli.predict_files import SHOWN_WARNINGS, Wanted, progress_bar
from condetr.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from condetr.inference.fastest import Engine as InferenceEngine
    from condetr.inference.predictor import Predictor
    from condetr.inference.rows import Format
    from condetr.inference.shards.job import Done, Folder, Job, Shard
    from condetr.inference.sources import ImageSource
    from condetr.optimize.machine import FastPrecision

Engine = Literal["local", "ray"]
DEFAULT_BATCH = 8
DEFAULT_SHARD = 1000
BLANK = (480, 640, 3)
"""The image on which engines are timed."""


class Means(NamedTuple):
    """What does the work; results do not depend on it, but for rounding."""

    engine: Engine
    workers: int | None
    device: str | None


class ShardOutputs(NamedTuple):
    """What is written."""

    folder: Path
    format: "Format"
    min_score: float
    shard_size: int
    part: str
    """The part of the shards that this command does."""
    resume: bool
    overwrite: bool


def predict_shards(
    predictor: "Predictor",
    images: Sequence["ImageSource"],
    *,
    weights: Path,
    wanted: Wanted,
    outputs: ShardOutputs,
    means: Means,
    as_json: bool,
) -> None:
    """Look at images with a predictor that is not optimized, write shards of what is found, and say it."""
    from condetr.inference.rows import require_format
    from condetr.inference.shards.job import Folder, Part, shards_of

    require_format(outputs.format)
    if means.engine == "ray":
        from condetr.inference.shards.cluster import require_ray
        from condetr.interop.loading import find_source, require_weights

        require_ray()
        require_weights(find_source(weights))  # a graph cannot be sent to other machines
    part, sources = Part.parse(outputs.part), list(map(str, images))
    folder = Folder(outputs.folder, outputs.format)
    form: Form = ("torch", wanted.precision)
    if wanted.precision == "auto" and means.engine == "local":
        form = _fastest_form(predictor, folder, wanted=wanted, outputs=outputs, means=means)
    job = _job(sources, predictor, weights=weights, wanted=wanted, outputs=outputs, form=form)
    with folder.begun(job, resume=outputs.resume, overwrite=outputs.overwrite, part=part):
        mine = [number for number in range(job.num_shards) if part.has(number)]
        done = {each.number: each for each in map(folder.done, mine) if each is not None}
        left = [number for number in mine if number not in done]
        size = Size(images=sum(map(job.size_of, mine)), done=sum(map(job.size_of, done)))
        if done and not as_json:
            typer.echo(f"continuing: {counted(size.done, 'image')} of {size.images:,} were looked at before")
        if left:
            with _said_what_is_kept(folder, mine):
                shards = shards_of(sources, job, numbers=left)
                work = partial(_started, shards, folder, job, predictor=predictor, weights=weights, means=means)
                done |= {each.number: each for each in _shown(work, size)}
        everywhere = done if part.of == 1 else dict(enumerate(map(folder.done, range(job.num_shards))))
        complete = [each for _, each in sorted(everywhere.items()) if each is not None]
        if len(complete) == job.num_shards:
            folder.list_errors(complete)
    _say(folder, job, sorted(done.values()), num_complete=len(complete), as_json=as_json)
    if part.of > 1 and not as_json:
        typer.echo(f"part {outputs.part}: {len(complete):,} of all {job.num_shards:,} shards are complete")


class Size(NamedTuple):
    """How much there is to do."""

    images: int
    done: int
    """Of them, before."""


Form = tuple["InferenceEngine", "FastPrecision"]


def _fastest_form(
    predictor: "Predictor", folder: "Folder", *, wanted: Wanted, outputs: ShardOutputs, means: Means
) -> Form:
    """Return the engine and the number format in which all workers compute, so that shards do not depend on which.

    A prediction that is continued keeps its own.
    """
    import numpy as np
    import torch

    from condetr.cli.options import optimised
    from condetr.inference.fastest import Fastest
    from condetr.optimize.machine import usable_cores

    if outputs.resume and folder.manifest.is_file():
        begun = folder.begun_with()
        return begun.get("engine", "torch"), begun.get("precision", "auto")
    fast = optimised(predictor, "auto").detector
    if not isinstance(fast, Fastest):  # on a GPU, or a graph
        return "torch", "auto"
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, usable_cores() // _num_workers(means)))
    batch = predictor.make_batch([np.zeros(BLANK, np.uint8)] * (wanted.batch_size or DEFAULT_BATCH))
    engine, _, precision = fast.choose(batch).partition(" in ")
    torch.set_num_threads(threads)
    return cast("Form", (engine, precision))


def _job(
    sources: Sequence[str],
    predictor: "Predictor",
    *,
    weights: Path,
    wanted: Wanted,
    outputs: ShardOutputs,
    form: Form,
) -> "Job":
    from condetr.inference.shards.job import Job, digest_of
    from condetr.interop.loading import fingerprint

    return Job(
        weights=fingerprint(weights),
        images=len(sources),
        sources=digest_of(sources),
        format=outputs.format,
        min_score=outputs.min_score,
        limit=wanted.limit,
        classes=wanted.classes,
        tile=wanted.tile,
        overlap=wanted.overlap,
        batch_size=wanted.batch_size or DEFAULT_BATCH,
        shard_size=outputs.shard_size,
        engine=form[0],
        precision=form[1],
        categories=predictor.label_map.to_list(),
    )


@contextmanager
def _said_what_is_kept(folder: "Folder", numbers: Sequence[int]) -> "Iterator[None]":
    """Say after a failure how to continue."""
    from condetr.errors import RunError

    try:
        yield
    except RunError as error:
        kept = sum(folder.done(number) is not None for number in numbers)
        told = f"{kept:,} of {counted(len(numbers), 'shard')} are complete: continue with --resume"
        raise RunError(f"{error}; {told}") from None
    except KeyboardInterrupt:
        typer.echo("condetr: stopped; continue with --resume", err=True)
        raise


def _shown(work: "Callable[..., Generator[Done]]", size: Size) -> list["Done"]:
    """Work, and show how far it is."""
    with progress_bar() as progress:
        task = progress.add_task("predicting", total=size.images, completed=size.done)
        with closing(work(advance=partial(progress.advance, task))) as done:
            return list(done)


def _started(
    shards: "Iterator[Shard]",
    folder: "Folder",
    job: "Job",
    *,
    predictor: "Predictor",
    weights: Path,
    means: Means,
    advance: "Callable[[float], object]",
) -> "Generator[Done]":
    from condetr.inference.shards.local import run_here, run_in_processes

    if means.engine == "ray":
        from condetr.inference.shards.cluster import run_on_ray

        return run_on_ray(shards, predictor, job, folder, workers=means.workers, advance=advance)
    workers = min(_num_workers(means), job.num_shards)
    if workers == 1:
        return run_here(shards, predictor.optimize(job.precision, engine=job.engine), job, folder, advance=advance)
    make = partial(_make_predictor, weights=weights, form=(job.engine, job.precision), device=means.device)
    return run_in_processes(shards, make, job, folder, workers=workers, advance=advance)


def _num_workers(means: Means) -> int:
    from condetr.inference.shards.local import default_workers

    return means.workers or default_workers(means.device)


def _make_predictor(number: int, *, weights: Path, form: Form, device: str | None) -> "Predictor":
    """Make the predictor of a worker; workers share the GPUs out among themselves, unless one is named."""
    import torch

    from condetr.interop.loading import load
    from condetr.optimize.machine import keep_memory

    keep_memory()
    if device in (None, "cuda") and torch.cuda.is_available():
        device = f"cuda:{number % torch.cuda.device_count()}"
    engine, precision = form
    return load(weights, device=device).optimize(precision, engine=engine)


def _say(folder: "Folder", job: "Job", done: Sequence["Done"], *, num_complete: int, as_json: bool) -> None:
    from condetr.errors import InputError

    images, objects = sum(each.images for each in done), sum(each.objects for each in done)
    errors = [reason for each in done for _, reason in each.errors]
    listed = folder.errors if folder.errors.is_file() else None
    if errors and not images:
        raise InputError(f"no image could be read, of {len(errors):,}; the first: {errors[0]}")
    if errors:
        where = f", see {listed}" if listed is not None else ""
        typer.echo(f"condetr: {len(errors):,} of {counted(images + len(errors), 'image')} left out{where}:", err=True)
        for reason in errors[:SHOWN_WARNINGS]:
            typer.echo(f"  {reason}", err=True)
    if as_json:
        content = {"images": images, "objects": objects, "left_out": len(errors), "shards": str(folder.shards)}
        complete = num_complete == job.num_shards
        print_json({**content, "errors": None if listed is None else str(listed), "complete": complete})
        return
    told = f"{counted(images, 'image')}, {counted(objects, 'object')} with a score of {job.min_score:g} or more"
    typer.echo(f"{told}: {folder.shards}")
