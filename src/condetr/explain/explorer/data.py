"""What the page of the attention explorer knows: logits small enough for a file, and how exact they still are."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt16

from condetr.explain.explorer.moving import SpatialLayer
from condetr.explain.measures import EVEN, LEAST_RATIO, LEAST_SHARE, REACH
from condetr.explain.view import Depths, Explanation
from condetr.layers.positions import TEMPERATURE

NUM_DETECTIONS = 30
ROOM = 24 * 2**20
"""How many detections a page shows at most, and how many bytes their logits may have."""

RESIDUE = 1e-5
"""How far a row part plus a column part may be from the spatial logits, as a part of the largest of them."""

LEVELS = 2**16 - 1


class Sides(NamedTuple):
    """Logits as a row part plus a column part."""

    rows: Float[np.ndarray, "*maps h"]
    columns: Float[np.ndarray, "*maps w"]

    @property
    def logits(self) -> Float[np.ndarray, "*maps h w"]:
        """The sum."""
        logits: np.ndarray = self.rows[..., :, None] + self.columns[..., None, :]
        return logits


class Codes(NamedTuple):
    """Logits in 65,536 even steps from the lowest to the highest of each map."""

    codes: UInt16[np.ndarray, "*maps h w"]
    low: Float[np.ndarray, "*maps"]
    step: Float[np.ndarray, "*maps"]

    @property
    def logits(self) -> Float[np.ndarray, "*maps h w"]:
        """The nearest step; half a step off at most."""
        logits: np.ndarray = self.low[..., None, None] + self.step[..., None, None] * self.codes
        return logits


def page_data(
    depths: Depths, queries: Sequence[int], *, spatial_queries: Sequence[SpatialLayer] = ()
) -> dict[str, Any]:
    """Return, as plain data, what every layer does for the first of the queries, as many as fit.

    Content logits are in 16-bit steps. Spatial logits are the 32-bit numbers that they are: a row part and a column
    part where they are such a sum, which those of sine embeddings are, or else the whole maps. With the layers'
    spatial queries, the page can compute the spatial logits for other reference points.
    """
    queries = queries[: min(NUM_DETECTIONS, max(1, ROOM // _bytes_of_a_detection(depths)))]
    explanations = [[view.explain(view.queries.index(query)) for view in depths.views] for query in queries]
    spatial = [np.stack([layer.spatial_logits for layer in layers]) for layers in explanations]
    content = [np.stack([layer.content_logits for layer in layers]) for layers in explanations]
    sides, codes = [split(each) for each in spatial], [quantise(each) for each in content]
    residue = max(_largest(sum_.logits - whole) for sum_, whole in zip(sides, spatial, strict=True))
    is_sum = residue <= RESIDUE * max(1.0, *map(_largest, spatial))
    first, (height, width) = depths.views[0], depths.views[0].map_size_hw
    return {
        "image": {"height": first.pixels.shape[0], "width": first.pixels.shape[1]},
        "cells": {"height": height, "width": width},
        "layers": len(depths.views),
        "heads": spatial[0].shape[1],
        "rules": {"reach": REACH, "even": EVEN, "least_share": LEAST_SHARE, "least_ratio": LEAST_RATIO},
        "moving": {
            "temperature": TEMPERATURE,
            "layers": [_projection(layer, depths.views[0].map_size_hw) for layer in spatial_queries] if is_sum else [],
        },
        "mixed_layers": [view.layer for view in depths.views if view.is_mixed],
        "precision": {
            "spatial": {
                "form": "row part + column part, float32" if is_sum else "whole maps, float32",
                "largest_error": residue if is_sum else 0.0,
            },
            "content": {
                "form": "16-bit steps of each map",
                "largest_error": max(_largest(each.logits - whole) for each, whole in zip(codes, content, strict=True)),
            },
        },
        "detections": [
            {
                **_describe(layers[-1]),
                "transformation": _text(np.array([layer.transformation[query] for layer in spatial_queries]), "<f4"),
                "guesses": [
                    {"name": guess.name, "score": guess.score, "box_xyxy": guess.box_xyxy.tolist()}
                    for guess in depths.guesses(query)
                ],
                "spatial": {"rows": _text(sum_.rows, "<f4"), "columns": _text(sum_.columns, "<f4")}
                if is_sum
                else {"whole": _text(whole, "<f4")},
                "content": {
                    "codes": _text(code.codes, "<u2"),
                    "low": _text(code.low, "<f4"),
                    "step": _text(code.step, "<f4"),
                },
            }
            for query, layers, whole, sum_, code in zip(queries, explanations, spatial, sides, codes, strict=True)
        ],
    }


def split(logits: Float[np.ndarray, "*maps h w"]) -> Sides:
    """Return the row part and the column part that are nearest to the logits."""
    exact = logits.astype(np.float64)
    rows = exact.mean(axis=-1)
    columns = (exact - rows[..., None]).mean(axis=-2)
    return Sides(rows.astype(np.float32), columns.astype(np.float32))


def quantise(logits: Float[np.ndarray, "*maps h w"]) -> Codes:
    """Return the nearest of even steps between the lowest and the highest logit of each map."""
    low = logits.min(axis=(-2, -1))
    step = ((logits.max(axis=(-2, -1)) - low) / LEVELS).astype(np.float32)
    steps = (logits - low[..., None, None]) / np.maximum(step, np.finfo(np.float32).tiny)[..., None, None]
    return Codes(np.rint(steps).clip(0, LEVELS).astype(np.uint16), low, step)


def _projection(layer: SpatialLayer, map_size_hw: tuple[int, int]) -> dict[str, str]:
    """Return what spatial queries are made with, and the keys of positions as a row part and a column part."""
    by_channel = np.moveaxis(layer.keys.reshape(*map_size_hw, -1), -1, 0)
    rows, columns = split(by_channel)
    numbers = {"weight": layer.weight, "bias": layer.bias, "rows": rows.T, "columns": columns.T}
    return {name: _text(each, "<f4") for name, each in numbers.items()}


def _describe(explanation: Explanation) -> dict[str, Any]:
    reference_xy = explanation.reference_xy
    return {
        "query": explanation.query,
        "name": explanation.name,
        "score": explanation.score,
        "box_xyxy": explanation.box_xyxy.tolist(),
        "reference_xy": None if reference_xy is None else reference_xy.tolist(),
    }


def _bytes_of_a_detection(depths: Depths) -> int:
    num_heads, cells = depths.views[0].logits.content.shape[1], int(np.prod(depths.views[0].map_size_hw))
    # 2 for the content, and 4 for the spatial logits in case they are no sum.
    return len(depths.views) * num_heads * cells * 6


def _largest(numbers: Float[np.ndarray, "*maps h w"]) -> float:
    return float(np.abs(numbers).max())


def _text(numbers: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode()
