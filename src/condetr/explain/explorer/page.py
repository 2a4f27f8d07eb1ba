"""Writing the attention explorer: page, style, script and data in one file that asks for no other."""

import base64
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

import condetr
from condetr.errors import InputError
from condetr.explain.explorer.data import page_data
from condetr.explain.explorer.moving import capture_spatial_queries
from condetr.explain.render import COLORS
from condetr.explain.view import View, look_into_all
from condetr.inference.predictor import Predictor
from condetr.storage.atomic import replaced_file, write_text

LARGEST_WH = (1280, 1280)
"""Larger images are scaled down, to keep the page light."""


def write_explorer(
    path: Path,
    predictor: Predictor,
    pixels: UInt8[np.ndarray, "H W 3"],
    *,
    model: str,
    image: str,
    queries: Sequence[int] = (),
    layer: int | None = None,
    threshold: float | None = None,
) -> int:
    """Write a page on which one clicks a detection and sees every head's attention; return how many it shows.

    It shows these queries first and then, best first, all detections that score at least `threshold`, by default the
    predictor's own, up to 30, or fewer where 24 MiB would not hold them. It opens with the first of them in that layer,
    the last if none is named.
    `model` and `image` are names for the title. Raises InputError if there is nothing to show or `path` cannot be
    written to.
    """
    require_page(path, overwrite=True)
    threshold = predictor.threshold if threshold is None else threshold
    with capture_spatial_queries(predictor.detector) as spatial_queries:
        depths = look_into_all(predictor, pixels)
    shown = _queries(depths.views[-1], first=queries, threshold=threshold)
    if not shown:
        raise InputError(f"nothing in the image scores {threshold:g} or more; give a lower threshold, or queries")
    data = page_data(depths, shown, spatial_queries=spatial_queries)
    html = _template().render(
        model=model,
        image=image,
        picture=_picture(pixels),
        data={**data, "first_layer": len(depths.views) - 1 if layer is None else layer, "colors": _colors()},
        version=condetr.__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        write_text(draft, html)
    return len(data["detections"])


def require_page(path: Path, *, overwrite: bool) -> None:
    """Raise InputError if no page can be written to `path`, or if there is a file that is not to be overwritten."""
    try:
        file = next((part for part in path.parents if part.exists() and not part.is_dir()), None)
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}; name another page") from None
    if file is not None:
        raise InputError(f"{file} is a file, but {path} needs it to be a folder; name another page")
    if is_folder:
        raise InputError(f"{path} is a folder; name a file in it, such as {path / 'page.html'}")
    if is_there and not overwrite:
        raise InputError(f"{path} is there already; name another page, or say --overwrite")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals["source"] = lambda name: Markup(_source(name))
    return environment.from_string(_source("explorer.html.j2"))


def _source(name: str) -> str:
    return resources.files("condetr.explain.explorer").joinpath(name).read_text(encoding="utf-8")


def _queries(view: View, *, first: Sequence[int], threshold: float) -> list[int]:
    is_found = view.detections.scores >= threshold
    found = [query for query, is_good in zip(view.queries, is_found, strict=True) if is_good]
    return list(dict.fromkeys([*first, *found]))


def _picture(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail(LARGEST_WH)
    picture.save(stream, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _colors() -> str:
    return base64.b64encode((COLORS(np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()).decode()
