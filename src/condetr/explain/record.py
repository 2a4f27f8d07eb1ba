"""Explanations on disk: a figure, the maps or points as arrays, the numbers as plain data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from condetr.explain.choose import Shown
from condetr.explain.render import draw_heads, draw_models
from condetr.explain.view import Explanation, View
from condetr.storage.atomic import replaced_file


def write(folder: Path, shown: Sequence[Shown]) -> dict[str, Any]:
    """Write figures and arrays of one detection in every model; return their description for a JSON file.

    The first model's files are named after its query; with several models there is also one figure of all of them.
    """
    stem = f"query-{shown[0].explanation.query}"
    stems = [stem, *(f"{stem}-beside-{number}" for number in range(1, len(shown)))]
    described = [_write_one(folder, each_stem, each) for each_stem, each in zip(stems, shown, strict=True)]
    if len(shown) == 1:
        return described[0]
    with replaced_file(folder / f"{stem}-models.png") as draft:
        draw_models(shown).savefig(draft)
    return {**described[0], "models_picture": f"{stem}-models.png", "beside": described[1:]}


def describe(view: View, explanation: Explanation) -> dict[str, Any]:
    """Return a detection and the numbers of every head as plain data; boxes and points in pixels."""
    height, width = view.pixels.shape[:2]
    size = np.array([width, height], np.float32)
    reference_xy = explanation.reference_xy
    return {
        "query": explanation.query,
        "name": explanation.name,
        "score": explanation.score,
        "box_xyxy": (explanation.box_xyxy * np.tile(size, 2)).tolist(),
        "reference_xy": None if reference_xy is None else (reference_xy * size).tolist(),
        "layer": view.layer,
        "layers": view.num_layers,
        **view.attention.facts(),
        "heads": [
            {**{part: each.to_dict() for part, each in parts.items()}, **more}
            for parts, more in zip(explanation.numbers(), explanation.attention.of_heads(), strict=True)
        ],
    }


def _write_one(folder: Path, stem: str, shown: Shown) -> dict[str, Any]:
    with replaced_file(folder / f"{stem}.png") as draft:
        draw_heads(shown).savefig(draft)
    save_arrays(folder / f"{stem}.npz", shown.explanation)
    files = {"model": shown.model, "picture": f"{stem}.png", "maps": f"{stem}.npz"}
    return {**files, **describe(shown.view, shown.explanation)}


def save_arrays(path: Path, explanation: Explanation) -> None:
    """Write where a detection's query looks as an npz file, with its box and reference point.

    Arrays are maps and logits (head, height, width), or points (head, level, point, xy) and their weights. Points and
    box are relative to the image; a reference point that there is not is left out.
    """
    arrays = {**explanation.attention.arrays(), "box_xyxy": explanation.box_xyxy}
    if explanation.reference_xy is not None:
        arrays["reference_xy"] = explanation.reference_xy
    with replaced_file(path) as draft, draft.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
