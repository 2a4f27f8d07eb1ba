"""`condetr predict`: find objects in images and videos, as pictures, as data and as labels to correct."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from condetr.cli.options import AsJson, Device, Overwrite, Precision, Threshold, Weights, print_json
from condetr.words import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from condetr.inference.annotate import Annotated as AnnotatedVideo
    from condetr.inference.predictor import Predictor
    from condetr.inference.prelabels import Prelabels
    from condetr.inference.result import Result
    from condetr.inference.sources import ImageSource
    from condetr.labels import LabelMap
    from condetr.shapes import Detections

SHOWN_WARNINGS = 5

Look = Callable[..., "Result"]
"""Returns everything that is found in the pixels of an image, with any score."""


def predict(
    weights: Weights,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Images, folders with their subfolders, quoted patterns, web addresses, videos, camera; - reads a "
            "list of them from stdin.",
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
    pictures: Annotated[bool, typer.Option(help="Draw what is found.")] = True,
    tile: Annotated[
        int | None,
        typer.Option(min=32, help="Look at larger images in tiles of so many pixels, for small objects."),
    ] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.9, help="Part of a tile that the next one repeats.")] = 0.2,
    frames: Annotated[int | None, typer.Option(min=1, help="Maximum number of frames of a video.")] = None,
    device: Device = None,
    precision: Precision = "fp32",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find objects in images and videos.

    Writes OUT/pictures, with detections that score at least the threshold, and OUT/detections.json, a COCO file with
    every detection, its score, and the category ids of the data that the model was trained on. Of a video it writes
    OUT/videos/NAME.mp4 and, with a line for every frame, NAME.jsonl.
    """
    from condetr.data.images import warn_of_frames
    from condetr.errors import InputError
    from condetr.inference.prelabels import Prelabels, kinds_of
    from condetr.inference.sources import find_sources
    from condetr.interop.loading import load
    from condetr.optimize.machine import keep_memory
    from condetr.storage.atomic import require_free

    require_free(out, overwrite=overwrite)
    kinds = kinds_of(save or [])
    chosen = find_sources(sources, lines=sys.stdin if "-" in sources else ())
    if kinds and chosen.videos:
        raise InputError(f"--save is for images, and {chosen.videos[0]} is a video: save its frames as images first")
    _require_what_videos_need(chosen.videos)
    keep_memory()
    predictor = load(weights, device=device).optimize(precision, engine="auto" if precision == "auto" else "torch")
    least = predictor.threshold if threshold is None else threshold
    names = _class_names(classes, label_map=predictor.label_map)

    look = partial(predictor, threshold=0.0, limit=limit, classes=names, tile=tile, overlap=overlap)
    labels = Prelabels(out, kinds=kinds, label_map=predictor.label_map)
    drawn = out / "pictures" if pictures else None
    found, failures = _predict_images(look, chosen.images, pictures=drawn, labels=labels, threshold=least)
    videos, more_failures = _predict_videos(
        look, chosen.videos, out=out, predictor=predictor, threshold=least, pictures=pictures, frames=frames
    )
    failures += more_failures
    if not found and not videos:
        what = "image" if chosen.images else "video"
        raise InputError(f"no {what} could be read, of {len(failures):,}; the first: {failures[0]}")
    content = _coco(found, label_map=predictor.label_map)
    if found:
        labels.finish()
        _write(out / "detections.json", content)
    _say_what_was_left_out(failures, num_images=len(chosen.images), num_videos=len(chosen.videos))
    warn_of_frames([each.source for each in found if isinstance(each.source, Path)])
    if as_json:
        print_json({**content, **({"videos": [_plain(each) for each in videos]} if videos else {})})
        return
    _say_what_was_found(found, out=out, pictures=drawn, labels=labels, threshold=least)
    _say_what_videos_hold(videos, threshold=least)
    _say_why(threshold, predictor)


class _Found(NamedTuple):
    """An image and its detections."""

    source: "ImageSource"
    size_hw: tuple[int, int]
    detections: "Detections"


def _require_what_videos_need(videos: Sequence[str]) -> None:
    if videos:
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


def _predict_images(
    look: Look, images: Sequence["ImageSource"], *, pictures: Path | None, labels: "Prelabels", threshold: float
) -> tuple[list[_Found], list[str]]:
    """Draw and label each image; return the detections, and why images could not be read."""
    from condetr.errors import InputError
    from condetr.inference.pixels import read_source

    found, failures = [], []
    with _progress() as progress:
        task = progress.add_task("predicting", total=len(images), visible=bool(images))
        for source, stem in zip(images, _stems(images), strict=True):
            try:
                content, pixels = read_source(source)
            except InputError as error:
                failures.append(str(error))
                progress.advance(task)
                continue
            detections = look(pixels).alone()
            shown = detections.above(threshold)
            if pictures is not None:
                _draw(pixels, shown, path=pictures / f"{stem}.jpg")
            labels.add(content, file_name=f"{stem}{_suffix(source, content)}", pixels=pixels, detections=shown)
            found.append(_Found(source, pixels.shape[:2], detections))
            progress.advance(task)
    return found, failures


def _predict_videos(
    look: Look,
    videos: Sequence[str],
    *,
    out: Path,
    predictor: "Predictor",
    threshold: float,
    pictures: bool,
    frames: int | None,
) -> tuple[list["AnnotatedVideo"], list[str]]:
    """Annotate each video; return what was written, and why videos could not be read."""
    if not videos:
        return [], []
    from condetr.errors import InputError
    from condetr.inference.annotate import annotate_video

    written, failures = [], []
    with _progress() as progress:
        for video, stem in zip(videos, _stems(videos), strict=True):
            task = progress.add_task(stem, total=None)
            try:
                annotated = annotate_video(
                    video,
                    look,
                    folder=out / "videos",
                    stem=stem,
                    threshold=threshold,
                    label_map=predictor.label_map,
                    with_picture=pictures,
                    most_frames=frames,
                    begin=partial(_begin, progress, task),
                    advance=partial(progress.advance, task),
                )
            except InputError as error:
                failures.append(str(error))
            else:
                written.append(annotated)
    return written, failures


def _begin(progress: "Progress", task: "TaskID", total: int | None) -> None:
    progress.update(task, total=total)


@contextmanager
def _progress() -> Iterator["Progress"]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _stems(sources: Sequence["ImageSource"]) -> list[str]:
    """Return a file name without its ending for each source; where they repeat, they get a number."""
    from condetr.inference.sources import stem_of

    taken: set[str] = set()
    names = []
    for source in sources:
        first = stem = stem_of(source)
        number = 1
        while stem.lower() in taken:
            number += 1
            stem = f"{first}-{number}"
        taken.add(stem.lower())
        names.append(stem)
    return names


def _suffix(source: "ImageSource", content: Path | bytes) -> str:
    """Return the ending of an image's name; without one that says what it is, that of its format."""
    import io

    from PIL import Image

    from condetr.data.index import SUFFIXES
    from condetr.inference.download import file_name_of

    suffix = source.suffix if isinstance(source, Path) else Path(file_name_of(source)).suffix
    if suffix.lower() in SUFFIXES:
        return suffix
    with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as image:
        return f".{str(image.format).lower()}"


def _draw(pixels: Any, detections: "Detections", *, path: Path) -> None:  # noqa: ANN401 - numpy is not imported up here
    from PIL import Image

    from condetr.inference.drawing import draw_detections
    from condetr.storage.atomic import replaced_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        draw_detections(Image.fromarray(pixels), detections).save(draft, quality=92)


def _coco(found: Sequence[_Found], *, label_map: "LabelMap") -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": str(each.source), "height": each.size_hw[0], "width": each.size_hw[1]}
            for number, each in enumerate(found, start=1)
        ],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in label_map.categories],
        "annotations": _annotations(found, label_map=label_map),
    }


def _annotations(found: Sequence[_Found], *, label_map: "LabelMap") -> list[dict[str, Any]]:
    from condetr.metrics.coco import result_rows

    by_number = {number: each.detections for number, each in enumerate(found, start=1)}
    return [
        {"id": number, **row, "area": round(row["bbox"][2] * row["bbox"][3], 2), "iscrowd": 0}
        for number, row in enumerate(result_rows(by_number, label_map=label_map), start=1)
    ]


def _write(path: Path, content: dict[str, Any]) -> None:
    import json

    from condetr.storage.atomic import replaced_file, write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        write_text(draft, json.dumps(content, ensure_ascii=False))


def _plain(video: "AnnotatedVideo") -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in video._asdict().items()}


def _say_what_was_left_out(failures: Sequence[str], *, num_images: int, num_videos: int) -> None:
    if failures:
        counts = [(num_images, "image"), (num_videos, "video")]
        told = " and ".join(counted(count, what) for count, what in counts if count)
        typer.echo(f"condetr: {len(failures)} of {told} left out:", err=True)
        for failure in failures[:SHOWN_WARNINGS]:
            typer.echo(f"  {failure}", err=True)


def _say_what_was_found(
    found: Sequence[_Found], *, out: Path, pictures: Path | None, labels: "Prelabels", threshold: float
) -> None:
    if not found:
        return
    objects = sum(len(each.detections.above(threshold)) for each in found)
    told = f"{counted(len(found), 'image')}, {counted(objects, 'object')} with a score of {threshold:g} or more"
    typer.echo(told if pictures is None else f"{told}: {pictures}")
    some = [each for each in found if len(each.detections)]
    if objects == 0 and some:
        best = max(some, key=lambda each: float(each.detections.scores[0]))
        score, name = best.detections.scores[0], best.detections.names[0]
        typer.echo(f"nothing above {threshold:g}; the best score was {score:.3g}, for {name} in {best.source}")
    typer.echo(f"all detections: {out / 'detections.json'}")
    for place in labels.places:
        typer.echo(f"saved: {place}")


def _say_what_videos_hold(videos: Sequence["AnnotatedVideo"], *, threshold: float) -> None:
    for video in videos:
        objects = f"{counted(video.objects, 'object')} with a score of {threshold:g} or more"
        best = "" if video.objects else f" (the best score was {video.best_score:.3g})"
        place = video.picture or video.detections
        typer.echo(f"{video.video}: {counted(video.frames, 'frame')}, {objects}{best}: {place}")


def _say_why(threshold: float | None, predictor: "Predictor") -> None:
    """Say where the threshold comes from, unless it was given."""
    if threshold is None and predictor.own_threshold is None:
        typer.echo(f"threshold {predictor.threshold:g}, as these weights store none that was measured: see --threshold")
    elif threshold is None:
        typer.echo(
            f"threshold {predictor.threshold:g}, which had the best F1 in the model's validation: see --threshold"
        )
