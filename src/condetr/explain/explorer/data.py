"""What the attention explorer's page knows: where heads look, small enough for a file, and how exact it still is."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float

from condetr.explain.cells import CellAttention, CellsOfQuery
from condetr.explain.explorer.moving import SpatialLayer
from condetr.explain.points import PointsOfQuery
from condetr.explain.view import Depths, Explanation
from condetr.layers.positions import TEMPERATURE

RESIDUE = 1e-5
"""How far a row part plus a column part may be from the spatial logits to be held instead of them and, as a part of the
largest of them, to be what they are made of."""


class Sides(NamedTuple):
    """Logits as a row part plus a column part."""

    rows: Float[np.ndarray, "*maps h"]
    columns: Float[np.ndarray, "*maps w"]

    @property
    def logits(self) -> Float[np.ndarray, "*maps h w"]:
        """The sum."""
        logits: np.ndarray = self.rows[..., :, None] + self.columns[..., None, :]
        return logits


def model_data(
    depths: Depths, queries: Sequence[int], *, spatial_queries: Sequence[SpatialLayer] = ()
) -> dict[str, Any]:
    """Return, as plain data, where every layer looks for the queries.

    All are 32-bit numbers. Spatial logits are a row part and a column part where these add up to them, which those of
    sine embeddings do up to rounding, otherwise whole maps. With the layers' spatial queries, the page can compute the
    spatial logits for other reference points.
    """
    explanations = [[view.explain(view.queries.index(query)) for view in depths.views] for query in queries]
    if isinstance(explanations[0][0].attention, PointsOfQuery):
        looks, held = _points(explanations)
    else:
        looks, held = _cells(depths, explanations, spatial_queries=spatial_queries)
    return {
        "layers": len(depths.views),
        "heads": len(explanations[0][0].places()),
        **looks,
        "detections": [
            {
                **_describe(layers),
                "guesses": [
                    {"name": guess.name, "score": guess.score, "box_xyxy": guess.box_xyxy.tolist()}
                    for guess in depths.guesses(layers[-1].query)
                ],
                **each,
            }
            for layers, each in zip(explanations, held, strict=True)
        ],
    }


def bytes_of_a_detection(depths: Depths) -> int:
    """Return how large the numbers of a detection are at most."""
    attention, num_layers = depths.views[0].attention, len(depths.views)
    if not isinstance(attention, CellAttention):
        return num_layers * int(np.prod(attention.sampled.weights.shape[2:])) * 3 * 4
    # 4 for the content, and 4 for the spatial logits in case they are no sum.
    return num_layers * int(attention.logits.content[0, :, 0].numel()) * 8


def split(logits: Float[np.ndarray, "*maps h w"]) -> Sides:
    """Return the row part and the column part that are nearest to the logits."""
    exact = logits.astype(np.float64)
    rows = exact.mean(axis=-1)
    columns = (exact - rows[..., None]).mean(axis=-2)
    return Sides(rows.astype(np.float32), columns.astype(np.float32))


Looks = tuple[dict[str, Any], list[dict[str, Any]]]
"""What is to be known of a model's attention, and of each of its detections."""


def _points(explanations: Sequence[Sequence[Explanation]]) -> Looks:
    held = []
    for layers in explanations:
        points = [cast(PointsOfQuery, each.attention) for each in layers]
        together = {name: np.stack([getattr(each, name) for each in points]) for name in PointsOfQuery._fields}
        held.append({name: _text(numbers, "<f4") for name, numbers in together.items()})
    levels, points_in_a_level = points[0].weights.shape[1:]
    return {"looks_at": "points", "levels": levels, "points": points_in_a_level, "mixed_layers": []}, held


def _cells(
    depths: Depths, explanations: Sequence[Sequence[Explanation]], *, spatial_queries: Sequence[SpatialLayer]
) -> Looks:
    of_layers = [cast(CellAttention, view.attention) for view in depths.views]
    cells = [[cast(CellsOfQuery, each.attention) for each in layers] for layers in explanations]
    spatial = [np.stack([each.spatial_logits for each in layers]) for layers in cells]
    content = [np.stack([each.content_logits for each in layers]) for layers in cells]
    sides = [split(each) for each in spatial]
    residue = max(_largest(sum_.logits - whole) for sum_, whole in zip(sides, spatial, strict=True))
    is_sum, is_made_of_sums = residue <= RESIDUE, residue <= RESIDUE * max(1.0, *map(_largest, spatial))
    height, width = of_layers[0].map_size_hw
    held = [
        {
            "transformation": _text(np.array([layer.transformation[query] for layer in spatial_queries]), "<f4"),
            "spatial": {"rows": _text(sum_.rows, "<f4"), "columns": _text(sum_.columns, "<f4")}
            if is_sum
            else {"whole": _text(whole, "<f4")},
            "content": _text(whole_content, "<f4"),
        }
        for query, whole, sum_, whole_content in zip(
            [layers[0].query for layers in explanations], spatial, sides, content, strict=True
        )
    ]
    looks = {
        "looks_at": "cells",
        "cells": {"height": height, "width": width},
        "moving": {
            "temperature": TEMPERATURE,
            "layers": [_projection(layer, (height, width)) for layer in spatial_queries] if is_made_of_sums else [],
        },
        "mixed_layers": [layer for layer, attention in enumerate(of_layers) if attention.is_mixed],
        "spatial_form": "row part + column part" if is_sum else "whole maps",
        "spatial_error": residue if is_sum else 0.0,
    }
    return looks, held


def _projection(layer: SpatialLayer, map_size_hw: tuple[int, int]) -> dict[str, str]:
    """Return what spatial queries are made with, and the keys of positions as a row part and a column part."""
    by_channel = np.moveaxis(layer.keys.reshape(*map_size_hw, -1), -1, 0)
    rows, columns = split(by_channel)
    numbers = {"weight": layer.weight, "bias": layer.bias, "rows": rows.T, "columns": columns.T}
    return {name: _text(each, "<f4") for name, each in numbers.items()}


def _describe(layers: Sequence[Explanation]) -> dict[str, Any]:
    """Return a detection; its reference point may be another one in each layer."""
    last = layers[-1]
    return {
        "query": last.query,
        "name": last.name,
        "score": last.score,
        "box_xyxy": last.box_xyxy.tolist(),
        "references_xy": [None if each.reference_xy is None else each.reference_xy.tolist() for each in layers],
    }


def _largest(numbers: Float[np.ndarray, "*maps h w"]) -> float:
    return float(np.abs(numbers).max())


def _text(numbers: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode()
