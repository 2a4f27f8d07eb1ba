"""`condetr predict`: find objects in images and videos, as pictures, as data and as labels to correct."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from condetr.cli.options import AsJson, Device, Overwrite, Precision, Threshold, Weights, optimised
from condetr.cli.predict_files import Outputs, Wanted, predict_files
from condetr.cli.predict_shards import DEFAULT_BATCH, DEFAULT_SHARD, Engine, Means, ShardOutputs, predict_shards

if TYPE_CHECKING:
    from condetr.inference.predictor import Predictor
    from condetr.labels import LabelMap


def predict(  # noqa: PLR0913 - its options
    weights: Weights,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Images, folders with their subfolders, quoted patterns, addresses on the web or in object storage, "
            "videos, camera; - reads a list of them from stdin, @FILE one from a file.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    threshold: Threshold = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of detections in an image.")] = 100,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="NAME,...", help="Only these classes; may be repeated.")
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND,...", help="Also save crops, or labels to correct as yolo, coco, voc or csv."),
    ] = None,
    pictures: Annotated[
        bool | None, typer.Option("--pictures/--no-pictures", help="Draw what is found; not with --format.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=32, help="Look at larger images in tiles of so many pixels, for small objects."),
    ] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.9, help="Part of a tile that the next one repeats.")] = 0.2,
    frames: Annotated[int | None, typer.Option(min=1, help="Maximum number of frames of a video.")] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Leave lower detections out of files; by default none, with --format those below the threshold.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help=f"Images of one size that run together: 1, with --format {DEFAULT_BATCH}."),
    ] = None,
    device: Device = None,
    precision: Precision = "fp32",
    kind: Annotated[
        Literal["parquet", "jsonl", "coco"] | None,
        typer.Option("--format", help="For many images: write OUT/shards as it goes, to continue with --resume."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --format: continue in OUT if it was begun.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --format: processes; by default one for each GPU or core.")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="With --format: ray spreads the work over the machines of a Ray cluster.")
    ] = "local",
    part: Annotated[
        str, typer.Option(metavar="I/N", help="With --format: do the I-th of N parts, as a task of a SLURM array.")
    ] = "1/1",
    shard_size: Annotated[
        int | None, typer.Option(min=1, help=f"With --format: images of a shard, by default {DEFAULT_SHARD:,}.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find objects in images and videos.

    Writes OUT/pictures, with detections that score at least the threshold, and OUT/detections.json, a COCO file with
    every detection, its score, and the category ids of the data that the model was trained on. Of a video it writes
    OUT/videos/NAME.mp4 and, with a line for every frame, NAME.jsonl. With --format it writes OUT/shards instead.
    """
    from condetr.errors import InputError
    from condetr.inference.prelabels import kinds_of
    from condetr.inference.sources import find_sources
    from condetr.interop.loading import load
    from condetr.optimize.machine import keep_memory

    kinds = kinds_of(save or [])
    if kind is None:
        needs = {"--resume": resume, "--workers": workers, "--shard-size": shard_size}
        _require_free(out, overwrite=overwrite, given={**needs, "--engine": engine != "local", "--part": part != "1/1"})
    elif kinds or pictures:
        raise InputError("--format writes data alone: leave --save and --pictures out, or leave --format out")
    chosen = find_sources(sources, lines=sys.stdin if "-" in sources else ())
    _require_use_of_videos(chosen.videos, options={"--save": kinds, "--format": kind})
    keep_memory()
    predictor = load(weights, device="cpu" if engine == "ray" else device)
    least = predictor.threshold if threshold is None else threshold
    names = _class_names(classes, label_map=predictor.label_map)
    wanted = Wanted(limit=limit, classes=names, tile=tile, overlap=overlap, batch_size=batch_size, precision=precision)
    if kind is None:
        outputs = Outputs(
            out, kinds=kinds, has_pictures=pictures is not False, threshold=least, min_score=min_score or 0.0
        )
        fast = optimised(predictor, precision)
        predict_files(fast, chosen, wanted=wanted, outputs=outputs, frames=frames, as_json=as_json)
    else:
        shards = ShardOutputs(
            folder=out,
            format=kind,
            min_score=least if min_score is None else min_score,
            shard_size=shard_size or DEFAULT_SHARD,
            part=part,
            resume=resume,
            overwrite=overwrite,
        )
        means = Means(engine, workers, device)
        predict_shards(
            predictor, chosen.images, weights=weights, wanted=wanted, outputs=shards, means=means, as_json=as_json
        )
    if not as_json and (kind is None or min_score is None):
        _say_why(threshold, predictor)


def _require_free(out: Path, *, overwrite: bool, given: Mapping[str, object]) -> None:
    """Raise InputError if an option is given that means nothing without --format, or if the folder is not free."""
    from condetr.errors import InputError
    from condetr.storage.atomic import require_free

    option = next((option for option, value in given.items() if value), None)
    if option is not None:
        raise InputError(f"{option} is for many images: choose how they are written, such as --format jsonl")
    require_free(out, overwrite=overwrite)


def _require_use_of_videos(videos: Sequence[str], *, options: Mapping[str, object]) -> None:
    """Raise InputError if there are videos and an option that is for images, or no PyAV."""
    from condetr.errors import InputError

    if not videos:
        return
    option = next((option for option, value in options.items() if value), None)
    if option is not None:
        raise InputError(f"{option} is for images, and {videos[0]} is a video: save its frames as images first")
    from condetr.inference.video import require_av

    require_av()


def _class_names(given: Sequence[str] | None, *, label_map: "LabelMap") -> list[str] | None:
    """Return the classes that are named, several separated by commas; a whole name may hold commas itself."""
    if given is None:
        return None
    names = [
        name
        for each in given
        for name in ([each] if each in label_map.names else map(str.strip, each.split(",")))
        if name
    ]
    label_map.labels_of(names)
    return names


def _say_why(threshold: float | None, predictor: "Predictor") -> None:
    """Say where the threshold comes from, unless it was given."""
    if threshold is None and predictor.own_threshold is None:
        typer.echo(f"threshold {predictor.threshold:g}, as these weights store none that was measured: see --threshold")
    elif threshold is None:
        typer.echo(
            f"threshold {predictor.threshold:g}, which had the best F1 in the model's validation: see --threshold"
        )
