"""Writing the attention explorer: page, style, script and data in one file that asks for no other."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

import condetr
from condetr.errors import InputError
from condetr.explain.choose import rank_like
from condetr.explain.explorer.data import bytes_of_a_detection, model_data
from condetr.explain.explorer.moving import SpatialLayer, capture_spatial_queries
from condetr.explain.measures import EVEN, LEAST_RATIO, LEAST_SHARE, REACH
from condetr.explain.render import COLORS, LEVELS
from condetr.explain.view import Depths, View, look_into_all
from condetr.inference.predictor import Predictor
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file, write_text

NUM_DETECTIONS = 30
ROOM = 24 * 2**20
"""How many detections of a model a page shows at most, and how many bytes the numbers of all of them may have."""

LARGEST_WH = (1280, 1280)
"""Larger images are scaled down, to keep the page light."""


class Model(NamedTuple):
    """A model on the page: what all of its layers do, and the queries to show."""

    name: str
    depths: Depths
    spatial_queries: list[SpatialLayer]
    queries: list[int]

    @property
    def last(self) -> View:
        """The view of the last layer, which has the detections."""
        return self.depths.views[-1]

    def shown(self) -> Detections:
        """Return the detections to show, in their order on the page."""
        ranks = [self.last.queries.index(query) for query in self.queries]
        all_ = self.last.detections
        return Detections(
            boxes_xyxy=all_.boxes_xyxy[ranks],
            scores=all_.scores[ranks],
            labels=all_.labels[ranks],
            names=tuple(all_.names[rank] for rank in ranks),
        )


def write_explorer(
    path: Path,
    predictor: Predictor,
    pixels: UInt8[np.ndarray, "H W 3"],
    *,
    model: str,
    image: str,
    beside: Mapping[str, Predictor] | None = None,
    queries: Sequence[int] = (),
    layer: int | None = None,
    threshold: float | None = None,
    room: int = ROOM,
) -> int:
    """Write a page on which one clicks a detection and sees where every head looks; return how many it shows.

    It shows these queries first and then, best first, all detections that score at least `threshold`, by default each
    model's own, up to 30, or fewer where `room` bytes would not hold them. It opens with the first of them in that
    layer, the last if none is named. Models `beside` show what they have in the same places, and their own detections.
    `model` and `image` are names for the title. Raises InputError if there is nothing to show or `path` cannot be
    written to.
    """
    require_page(path, overwrite=True)
    room //= 1 + len(beside or {})
    first = _look(model, predictor, pixels)
    first = _with_queries(first, first=queries, threshold=threshold, room=room)
    if not first.queries:
        least = predictor.threshold if threshold is None else threshold
        raise InputError(f"nothing in the image scores {least:g} or more; give a lower threshold, or queries")
    others = [_look(name, other, pixels) for name, other in (beside or {}).items()]
    others = [_with_queries(each, first=_like(first, each), threshold=threshold, room=room) for each in others]
    others = [_best_first(_or_best(each)) for each in others]
    data = _page_data([first, *others], pixels)
    html = _template().render(
        image=image,
        picture=_picture(pixels),
        data={**data, "first_layer": data["layers"] - 1 if layer is None else layer},
        version=condetr.__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        write_text(draft, html)
    return len(first.queries)


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


def _look(name: str, predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"]) -> Model:
    with capture_spatial_queries(predictor.detector) as spatial_queries:
        return Model(name, look_into_all(predictor, pixels), spatial_queries, [])


def _with_queries(model: Model, *, first: Sequence[int], threshold: float | None, room: int) -> Model:
    """Return the model with the queries to show: these first, and then all that find something, as many as fit."""
    is_found = model.last.detections.scores >= (model.last.threshold if threshold is None else threshold)
    found = [query for query, is_good in zip(model.last.queries, is_found, strict=True) if is_good]
    most = min(NUM_DETECTIONS, max(1, room // bytes_of_a_detection(model.depths)))
    return model._replace(queries=list(dict.fromkeys([*first, *found]))[:most])


def _or_best(model: Model) -> Model:
    """Return the model with its best detection to show, if there is none yet."""
    return model if model.queries else model._replace(queries=[model.last.queries[0]])


def _best_first(model: Model) -> Model:
    return model._replace(queries=sorted(model.queries, key=model.last.queries.index))


def _like(first: Model, other: Model) -> list[int]:
    """Return the other model's query for each that the first one shows, unless nothing overlaps."""
    wanted = first.shown()
    ranks = [
        rank_like(box_xyxy, name, other.last.detections)
        for box_xyxy, name in zip(wanted.boxes_xyxy, wanted.names, strict=True)
    ]
    return [other.last.queries[rank] for rank in ranks if rank is not None]


def _page_data(models: Sequence[Model], pixels: UInt8[np.ndarray, "H W 3"]) -> dict[str, Any]:
    """Return what the page knows, as plain data; each detection has the place of its like in each model."""
    height, width = pixels.shape[:2]
    found = [model.shown() for model in models]
    described = []
    for model, own in zip(models, found, strict=True):
        data = model_data(model.depths, model.queries, spatial_queries=model.spatial_queries)
        for detection, box_xyxy, name in zip(data["detections"], own.boxes_xyxy, own.names, strict=True):
            detection["matches"] = [rank_like(box_xyxy, name, other) for other in found]
        described.append({"name": model.name, **data})
    return {
        "image": {"height": height, "width": width},
        "layers": max(each["layers"] for each in described),
        "rules": {"reach": REACH, "even": EVEN, "least_share": LEAST_SHARE, "least_ratio": LEAST_RATIO},
        "colors": _colors(),
        "level_colors": LEVELS,
        "models": described,
    }


def _picture(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail(LARGEST_WH)
    picture.save(stream, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _colors() -> str:
    return base64.b64encode((COLORS(np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()).decode()
