"""`condetr predict`: find objects in images, as pictures and as data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from condetr.cli.options import AsJson, Device, Overwrite, Precision, Threshold, Weights, print_json
from condetr.words import counted

if TYPE_CHECKING:
    from condetr.inference.predictor import Predictor
    from condetr.labels import LabelMap
    from condetr.shapes import Detections

SHOWN_WARNINGS = 5


def predict(
    weights: Weights,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Image files, folders with their subfolders, or patterns.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    threshold: Threshold = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of detections in an image.")] = 100,
    device: Device = None,
    precision: Precision = "fp32",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find objects in images.

    Writes OUT/pictures, with detections that score at least the threshold, and OUT/detections.json, a COCO file with
    every detection, its score, and the category ids of the data that the model was trained on.
    """
    from condetr.data.images import warn_of_frames
    from condetr.errors import InputError
    from condetr.inference.sources import find_images
    from condetr.interop.loading import load
    from condetr.optimize.machine import keep_memory
    from condetr.storage.atomic import require_free

    require_free(out, overwrite=overwrite)
    paths = find_images(sources)
    keep_memory()
    predictor = load(weights, device=device).optimize(precision)
    least = predictor.threshold if threshold is None else threshold
    found, failures = _predict_all(predictor, paths, pictures=out / "pictures", threshold=least, limit=limit)
    if not found:
        raise InputError(f"no image could be read, of {len(paths):,}; the first: {failures[0]}")
    content = _coco(found, label_map=predictor.label_map)
    _write(out / "detections.json", content)
    _say_what_was_left_out(failures, num_images=len(paths))
    warn_of_frames([each.path for each in found])
    if as_json:
        print_json(content)
    else:
        _say_what_was_found(found, out=out, threshold=least)
        if threshold is None:
            typer.echo(_reason(predictor))


class _Found(NamedTuple):
    """An image and its detections."""

    path: Path
    size_hw: tuple[int, int]
    detections: "Detections"


def _predict_all(
    predictor: "Predictor", paths: Sequence[Path], *, pictures: Path, threshold: float, limit: int
) -> tuple[list[_Found], list[str]]:
    """Draw a picture of each image; return the detections, and why images could not be read."""
    from rich.console import Console
    from rich.progress import Progress

    from condetr.data.images import read_image
    from condetr.errors import InputError

    found, failures = [], []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for path, name in progress.track(
            list(zip(paths, _picture_names(paths), strict=True)), description="predicting"
        ):
            try:
                pixels = read_image(path).permute(1, 2, 0).numpy()
            except InputError as error:
                failures.append(str(error))
                continue
            detections = predictor.predict(pixels, threshold=0.0, limit=limit)
            _draw(pixels, detections.above(threshold), path=pictures / name)
            found.append(_Found(path, pixels.shape[:2], detections))
    return found, failures


def _picture_names(paths: Sequence[Path]) -> list[str]:
    """Return a file name for the picture of each image; images of the same name in different folders get a number."""
    taken: set[str] = set()
    names = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.lower() in taken:
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.lower())
        names.append(f"{stem}.jpg")
    return names


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
            {"id": number, "file_name": str(each.path), "height": each.size_hw[0], "width": each.size_hw[1]}
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

    with replaced_file(path) as draft:
        write_text(draft, json.dumps(content, ensure_ascii=False))


def _say_what_was_left_out(failures: Sequence[str], *, num_images: int) -> None:
    if failures:
        typer.echo(f"condetr: {len(failures)} of {counted(num_images, 'image')} left out:", err=True)
        for failure in failures[:SHOWN_WARNINGS]:
            typer.echo(f"  {failure}", err=True)


def _reason(predictor: "Predictor") -> str:
    """Say where the threshold comes from."""
    if predictor.own_threshold is None:
        return f"threshold {predictor.threshold:g}, as these weights store none that was measured: see --threshold"
    return f"threshold {predictor.threshold:g}, which had the best F1 in the model's validation: see --threshold"


def _say_what_was_found(found: Sequence[_Found], *, out: Path, threshold: float) -> None:
    objects = sum(len(each.detections.above(threshold)) for each in found)
    told = f"{counted(len(found), 'image')}, {counted(objects, 'object')} with a score of {threshold:g} or more"
    best = max(
        (each for each in found if len(each.detections)), key=lambda each: each.detections.scores[0], default=None
    )
    if objects == 0 and best is not None:
        least, first = best.detections.scores[0], best.detections.names[0]
        told += f"; the best score was {least:.2g}, for {first} in {best.path}"
    typer.echo(f"{told}: {out / 'pictures'}")
    typer.echo(f"all detections: {out / 'detections.json'}")
