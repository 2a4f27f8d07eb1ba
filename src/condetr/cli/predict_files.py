"""`condetr predict` without `--format`: pictures, videos, labels to correct and one file of detections."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from condetr.cli.options import print_json
from condetr.words import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from condetr.inference.annotate import Annotated as AnnotatedVideo
    from condetr.inference.look import Look
    from condetr.inference.pixels import Content
    from condetr.inference.predictor import Predictor
    from condetr.inference.prelabels import Kind, Prelabels
    from condetr.inference.result import Result
    from condetr.inference.rows import ImageRow
    from condetr.inference.sources import ImageSource, Sources
    from condetr.optimize.machine import FastPrecision
    from condetr.shapes import Detections

SHOWN_WARNINGS = 5

LookAtFrame = Callable[..., "Result"]
"""Returns everything that is found in the pixels of a frame, with any score."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is looked for, and how."""

    limit: int
    classes: list[str] | None
    tile: int | None
    overlap: float
    batch_size: int | None
    """None where nothing was asked for."""
    precision: "FastPrecision"


@dataclass(frozen=True)
class Outputs:
    """What is written."""

    folder: Path
    kinds: "Sequence[Kind]"
    has_pictures: bool
    threshold: float
    """Of pictures and labels."""
    min_score: float
    """Of the file of detections."""


def predict_files(
    predictor: "Predictor",
    chosen: "Sources",
    *,
    wanted: Wanted,
    outputs: Outputs,
    frames: int | None,
    as_json: bool,
) -> None:
    """Look at images and videos, write what is found, and say it."""
    from condetr.data.images import warn_of_frames
    from condetr.errors import InputError
    from condetr.inference.look import Look
    from condetr.inference.prelabels import Prelabels
    from condetr.inference.rows import coco_content, json_bytes
    from condetr.storage.atomic import replaced_file

    how: dict[str, Any] = {
        "limit": wanted.limit,
        "classes": wanted.classes,
        "tile": wanted.tile,
        "overlap": wanted.overlap,
    }
    out, least = outputs.folder, outputs.threshold
    labels = Prelabels(out, kinds=outputs.kinds, label_map=predictor.label_map)
    look = Look(predictor=predictor, batch_size=wanted.batch_size or 1, **how)
    found, failures = _predict_images(look, chosen.images, outputs=outputs, labels=labels)
    videos, more_failures = _predict_videos(
        partial(predictor, threshold=0.0, **how), chosen.videos, outputs=outputs, predictor=predictor, frames=frames
    )
    failures += more_failures
    if not found and not videos:
        what = "image" if chosen.images else "video"
        raise InputError(f"no {what} could be read, of {len(failures):,}; the first: {failures[0]}")
    content = coco_content(found, label_map=predictor.label_map, limit=wanted.limit)
    if found:
        labels.finish()
        out.mkdir(parents=True, exist_ok=True)
        with replaced_file(out / "detections.json") as draft:
            draft.write_bytes(json_bytes(content))
    _say_what_was_left_out(failures, num_images=len(chosen.images), num_videos=len(chosen.videos))
    warn_of_frames([each.source for each in found if isinstance(each.source, Path)])
    if as_json:
        print_json({**content, **({"videos": [_plain(each) for each in videos]} if videos else {})})
        return
    _say_what_was_found(found, outputs=outputs, labels=labels)
    _say_what_videos_hold(videos, threshold=least)


def _predict_images(
    look: "Look",
    images: Sequence["ImageSource"],
    *,
    outputs: Outputs,
    labels: "Prelabels",
) -> tuple[list["ImageRow"], list[str]]:
    """Draw and label each image; return the detections, and why images could not be read."""
    from condetr.inference.look import Unread
    from condetr.inference.rows import ImageRow

    found, unread = [], []
    stems = _stems(images)
    with progress_bar() as progress:
        task = progress.add_task("predicting", total=len(images), visible=bool(images))
        for each in look(images):
            progress.advance(task)
            if isinstance(each, Unread):
                unread.append(each)
                continue
            image, detections = each
            assert image.pixels is not None  # a Look keeps them unless told otherwise
            shown, stem = detections.above(outputs.threshold), stems[image.position]
            if outputs.has_pictures:
                _draw(image.pixels, shown, path=outputs.folder / "pictures" / f"{stem}.jpg")
            name = f"{stem}{_suffix(image.source, image.content)}"
            labels.add(image.content, file_name=name, pixels=image.pixels, detections=shown)
            found.append(ImageRow(image.position, image.source, image.size_hw, detections.above(outputs.min_score)))
    return sorted(found, key=lambda row: row.position), [each.reason for each in sorted(unread)]


def _predict_videos(
    look: LookAtFrame,
    videos: Sequence[str],
    *,
    outputs: Outputs,
    predictor: "Predictor",
    frames: int | None,
) -> tuple[list["AnnotatedVideo"], list[str]]:
    """Annotate each video; return what was written, and why videos could not be read."""
    if not videos:
        return [], []
    from condetr.errors import InputError
    from condetr.inference.annotate import annotate_video

    written, failures = [], []
    with progress_bar() as progress:
        for video, stem in zip(videos, _stems(videos), strict=True):
            task = progress.add_task(stem, total=None)
            try:
                annotated = annotate_video(
                    video,
                    look,
                    folder=outputs.folder / "videos",
                    stem=stem,
                    threshold=outputs.threshold,
                    label_map=predictor.label_map,
                    with_picture=outputs.has_pictures,
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
def progress_bar() -> Iterator["Progress"]:
    """Show progress on stderr for the length of a block."""
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


def _suffix(source: "ImageSource", content: "Content") -> str:
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


def _plain(video: "AnnotatedVideo") -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in video._asdict().items()}


def _say_what_was_left_out(failures: Sequence[str], *, num_images: int, num_videos: int) -> None:
    if failures:
        counts = [(num_images, "image"), (num_videos, "video")]
        told = " and ".join(counted(count, what) for count, what in counts if count)
        typer.echo(f"condetr: {len(failures)} of {told} left out:", err=True)
        for failure in failures[:SHOWN_WARNINGS]:
            typer.echo(f"  {failure}", err=True)


def _say_what_was_found(found: Sequence["ImageRow"], *, outputs: Outputs, labels: "Prelabels") -> None:
    if not found:
        return
    threshold = outputs.threshold
    objects = sum(len(each.detections.above(threshold)) for each in found)
    told = f"{counted(len(found), 'image')}, {counted(objects, 'object')} with a score of {threshold:g} or more"
    typer.echo(f"{told}: {outputs.folder / 'pictures'}" if outputs.has_pictures else told)
    some = [each for each in found if len(each.detections)]
    if objects == 0 and some:
        best = max(some, key=lambda each: float(each.detections.scores[0]))
        score, name = best.detections.scores[0], best.detections.names[0]
        typer.echo(f"nothing above {threshold:g}; the best score was {score:.3g}, for {name} in {best.source}")
    typer.echo(f"all detections: {outputs.folder / 'detections.json'}")
    for place in labels.places:
        typer.echo(f"saved: {place}")


def _say_what_videos_hold(videos: Sequence["AnnotatedVideo"], *, threshold: float) -> None:
    for video in videos:
        objects = f"{counted(video.objects, 'object')} with a score of {threshold:g} or more"
        best = "" if video.objects else f" (the best score was {video.best_score:.3g})"
        place = video.picture or video.detections
        typer.echo(f"{video.video}: {counted(video.frames, 'frame')}, {objects}{best}: {place}")
