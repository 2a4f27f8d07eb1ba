"""The server of the user interface: images come in, detections and explorer pages go out."""

import math
import re
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import jinja2
import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jaxtyping import UInt8
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

import condetr
from condetr.data.images import read_headers, read_image
from condetr.errors import InputError
from condetr.explain.explorer.page import write_explorer
from condetr.inference.predictor import Predictor
from condetr.runs.contents import read_history
from condetr.runs.folder import RunFolder

MOST_BYTES, MOST_PIXELS, MOST_IMAGES = 20 * 2**20, 25_000_000, 8
"""Limits of an uploaded file, of an image, and of how many images are kept; the oldest makes room for a new one."""

LOWEST = 0.05
"""The score down to which detections are sent; the page's slider chooses among them."""

CURVES = ("epoch", "loss", "AP")

MARK = "x-condetr"
"""A header that the page sends. Other sites' pages cannot, so that they cannot make a browser upload anything."""


class Shown(NamedTuple):
    """An image that was uploaded."""

    name: str
    pixels: UInt8[np.ndarray, "H W 3"]


class Desk:
    """The models, and the images that were uploaded; it writes into its folder alone."""

    def __init__(self, models: Mapping[str, Predictor], *, folder: Path) -> None:
        self.models = models
        self.folder = folder
        self.images: OrderedDict[str, Shown] = OrderedDict()
        self.lock = Lock()
        """One image at a time: models are not to compete for the processor."""

    def take(self, content: bytes, *, name: str) -> dict[str, Any]:
        """Keep an image and return what every model finds in it; raises InputError if it is none, or too large."""
        key = uuid.uuid4().hex
        path = self.folder / key
        with self.lock:
            path.write_bytes(content)
            try:
                pixels = _read(path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), name)) from None
            finally:
                path.unlink()
            self.images[key] = Shown(name, pixels)
            while len(self.images) > MOST_IMAGES:
                self.images.popitem(last=False)
            found = {model: _found(predictor, pixels) for model, predictor in self.models.items()}
        return {"id": key, "name": name, "height": pixels.shape[0], "width": pixels.shape[1], "found": found}

    def explore(self, key: str, *, models: Sequence[str], threshold: float) -> str:
        """Return the explorer page of an image; raises InputError if it is gone, or there is nothing to show."""
        unknown = [name for name in models if name not in self.models]
        if not models or unknown:
            raise InputError(f"there is no model {unknown[0]}" if unknown else "name a model to explain")
        page = self.folder / f"{uuid.uuid4().hex}.html"
        with self.lock:
            shown = self.images.get(key)
            if shown is None:
                raise InputError(f"this image is gone, for only the last {MOST_IMAGES} are kept: choose it again")
            first, *others = models
            write_explorer(
                page,
                self.models[first],
                shown.pixels,
                model=first,
                image=shown.name,
                beside={name: self.models[name] for name in others},
                threshold=threshold,
            )
        html = page.read_text(encoding="utf-8")
        page.unlink()
        return html


def make_server(
    models: Mapping[str, Predictor], *, folder: Path, hosts: Sequence[str], runs: Mapping[str, Path] | None = None
) -> FastAPI:
    """Return the server of some models, which answers to these host names and writes into a folder alone.

    It shows the curves of `runs`, by the names of their folders, as they grow.
    """
    desk = Desk(models, folder=folder)
    page = _page(models)

    def curves() -> JSONResponse:
        return JSONResponse([_curves(name, run) for name, run in (runs or {}).items()])

    def index() -> HTMLResponse:
        return HTMLResponse(page)

    async def upload(request: Request) -> JSONResponse:
        if MARK not in request.headers:
            raise InputError("images are uploaded by the page alone")
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > MOST_BYTES:
                return _sentence(f"the file has more than {MOST_BYTES // 2**20} MiB: choose a smaller one", status=413)
        name = re.sub(r"[^\w. -]", "_", request.query_params.get("name", ""))[:100] or "image"
        return JSONResponse(await run_in_threadpool(desk.take, bytes(content), name=name))

    async def explore(request: Request) -> HTMLResponse:
        asked, key = request.query_params, str(request.path_params["key"])
        threshold = _share(asked.get("threshold", "0.5"))
        html = await run_in_threadpool(desk.explore, key, models=asked.getlist("model"), threshold=threshold)
        return HTMLResponse(html)

    server = FastAPI(title="condetr", docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    server.add_api_route("/", index, methods=["GET"])
    server.add_api_route("/runs", curves, methods=["GET"], response_model=None)
    server.add_api_route("/images", upload, methods=["POST"], response_model=None)
    server.add_api_route("/images/{key}/explorer", explore, methods=["GET"], response_model=None)
    server.add_exception_handler(InputError, _say_what_is_wrong)
    server.add_exception_handler(Exception, _hide_what_went_wrong)
    return server


def _read(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    (header,) = read_headers([path])
    if isinstance(header, InputError):
        raise header
    height, width = header.size_hw
    if height * width > MOST_PIXELS:
        raise InputError(f"{path} has {height * width:,} pixels: choose an image of at most {MOST_PIXELS:,}")
    pixels: np.ndarray = read_image(path).permute(1, 2, 0).numpy()
    return pixels


def _found(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"]) -> list[dict[str, Any]]:
    found = predictor.predict(pixels, threshold=LOWEST)
    return [
        {"name": name, "score": score, "box_xyxy": box_xyxy}
        for name, score, box_xyxy in zip(found.names, found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True)
    ]


def _curves(name: str, run: Path) -> dict[str, Any]:
    """Return the epochs, losses and average precisions of a run so far; None where an epoch has none."""
    try:
        history = read_history(RunFolder(run)) or {}
    except InputError:  # it is being replaced, or gone
        history = {}
    columns = {column: history.get(column, []) for column in CURVES}
    return {
        "name": name,
        "is_complete": RunFolder(run).results.is_file(),
        **{column: [None if math.isnan(value) else value for value in values] for column, values in columns.items()},
    }


def _share(text: str) -> float:
    if not re.fullmatch(r"[01](\.\d{0,9})?", text) or float(text) > 1:
        raise InputError("a threshold is a number from 0 to 1")
    return float(text)


def _sentence(sentence: str, *, status: int) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=status)


def _say_what_is_wrong(_: Request, error: Exception) -> Response:
    return _sentence(str(error), status=400)


def _hide_what_went_wrong(_: Request, __: Exception) -> Response:
    # The server raises the error again and logs it in the terminal.
    return _sentence("something went wrong; the terminal in which condetr runs says what", status=500)


def _page(models: Mapping[str, Predictor]) -> str:
    names = {name: predictor.detector.looks_at is not None for name, predictor in models.items()}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = resources.files("condetr.ui").joinpath("ui.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        models=names,
        lowest=LOWEST,
        threshold=max(LOWEST, min((predictor.threshold for predictor in models.values()), default=LOWEST)),
        mark=MARK,
        version=condetr.__version__,
    )
