"""Detectors that look at points: where the points lie, as numbers, arrays, pictures, and on the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.explain.capture import capture_sampling
from condetr.explain.choose import choose
from condetr.explain.measures import SIDES, measure, measure_points, watched
from condetr.explain.points import PointsOfQuery
from condetr.explain.record import describe, save_arrays
from condetr.explain.render import draw_heads, draw_models
from condetr.explain.view import look, look_into_all
from tests.tiny import TINY
from tests.unit.explain.explorer_pages import PIXELS, numbers, predictor, write_page

BOX = np.array([0.25, 0.25, 0.75, 0.75], np.float32)
ON = {"left": (0.25, 0.5), "top": (0.5, 0.25), "right": (0.75, 0.5), "bottom": (0.5, 0.75)}
ALIKE = np.full(4, 0.25, np.float32)

cells = st.tuples(st.integers(0, 15), st.integers(0, 15))


def all_at(xy: tuple[float, float]) -> np.ndarray:
    return np.tile(np.array(xy, np.float32), (4, 1))


@pytest.mark.parametrize("side", SIDES)
def test_points_on_a_side_are_found_there_however_even_their_weights(side: Any) -> None:  # noqa: ANN401
    found = measure_points(all_at(ON[side]), ALIKE, box_xyxy=BOX)
    assert watched(found) == side
    assert found.at_sides[side] == pytest.approx(1)
    assert found.entropy == pytest.approx(2)
    assert "evenness" not in found.to_dict()


def test_points_in_the_middle_and_outside_the_image_are_told_apart() -> None:
    middle, outside = (measure_points(all_at(xy), ALIKE, box_xyxy=BOX) for xy in ((0.5, 0.5), (-0.5, 0.5)))
    assert (watched(middle), watched(outside)) == ("inside", "elsewhere")
    assert outside.centre_xy == pytest.approx((-1.5, 0.5))


@given(st.lists(cells, min_size=1, max_size=6, unique=True))
def test_points_in_the_middle_of_cells_are_measured_like_the_map_of_these_cells(places: list[tuple[int, int]]) -> None:
    box_xyxy = np.array([4, 4, 12, 12], np.float32) / 16  # on borders of cells, and so are the bands of 2 cells
    weights = np.arange(1, len(places) + 1, dtype=np.float32)
    attention = np.zeros((16, 16), np.float32)
    attention[tuple(np.array(places).T)] = weights / weights.sum()
    points_xy = (np.array(places, np.float32)[:, ::-1] + 0.5) / 16
    points, cells = (
        measure_points(points_xy, weights / weights.sum(), box_xyxy=box_xyxy),
        measure(attention, box_xyxy=box_xyxy),
    )
    assert points.at_sides == pytest.approx(cells.at_sides, abs=1e-5)
    assert points.in_box == pytest.approx(cells.in_box, abs=1e-5)
    assert points.centre_xy == pytest.approx(cells.centre_xy, abs=1e-4)
    assert points.entropy == pytest.approx(cells.entropy, abs=1e-4)


@torch.no_grad()
def test_padding_does_not_change_where_points_lie_in_the_image() -> None:
    detector = DeformableDetrConfig(**TINY).build(num_classes=2).eval()
    images, is_padding = torch.randn(1, 3, 32, 32), torch.zeros(1, 32, 64, dtype=torch.bool)
    is_padding[..., 32:] = True
    with capture_sampling(detector, layers=[0]) as seen:
        detector(torch.cat([images, torch.zeros_like(images)], dim=-1), is_padding)
    middle_xy = seen[0].points_xy.mean((2, 3, 4))  # heads look into opposite directions
    torch.testing.assert_close(middle_xy, seen[0].reference_xy)


def test_what_is_written_is_what_the_decoder_samples(tmp_path: Path) -> None:
    model = predictor(DeformableDetrConfig)
    view = look(model, PIXELS, layer=0)
    explanation = view.explain(0)
    save_arrays(tmp_path / "query.npz", explanation)
    described = describe(view, explanation)
    with np.load(tmp_path / "query.npz") as arrays:
        assert arrays["points_xy"].shape == (2, 4, 4, 2)
        np.testing.assert_allclose(arrays["weights"].sum((1, 2)), 1, rtol=1e-5)
        np.testing.assert_allclose([head["by_level"] for head in described["heads"]], arrays["weights"].sum(2))
        is_in = ((arrays["points_xy"] >= 0) & (arrays["points_xy"] <= 1)).all(-1)
        expected = (arrays["weights"] * is_in).sum((1, 2))
    np.testing.assert_allclose([head["in_image"] for head in described["heads"]], expected)
    assert (described["levels"], described["points_in_a_level"]) == (4, 4)


def test_the_second_layer_of_a_refining_detector_looks_around_the_boxes_of_the_first() -> None:
    depths = look_into_all(predictor(DeformableDetrConfig, box_refinement=True), PIXELS)
    query = depths.views[1].queries[0]
    x0, y0, x1, y1 = depths.guesses(query)[0].box_xyxy
    reference_xy = depths.views[1].attention.reference_xy
    assert reference_xy is not None
    np.testing.assert_allclose(reference_xy[query], [(x0 + x1) / 2, (y0 + y1) / 2], atol=1e-5)


def test_proposals_are_no_guesses_of_a_layer() -> None:
    depths = look_into_all(predictor(DeformableDetrConfig, box_refinement=True, two_stage=True), PIXELS)
    assert len(depths.guesses(depths.views[-1].queries[0])) == len(depths.views) == 2


def test_a_picture_has_a_row_for_all_points_and_one_for_each_level() -> None:
    ((shown,),) = choose({"mine": look(predictor(DeformableDetrConfig), PIXELS)}, threshold=0.0)
    figure = draw_heads(shown)
    panels = figure.axes
    assert len(panels) == 2 * (1 + 4)
    drawn = [len(panel.collections[0].get_offsets()) for panel in panels]  # type: ignore[arg-type]
    assert drawn == [16] * 2 + [4] * 8


def test_the_heaviest_point_is_the_largest_and_lies_on_top() -> None:
    ((shown,),) = choose({"mine": look(predictor(DeformableDetrConfig), PIXELS)}, threshold=0.0)
    (points,) = draw_heads(shown).axes[0].collections
    attention = shown.explanation.attention
    assert isinstance(attention, PointsOfQuery)
    heaviest = attention.points_xy[0].reshape(-1, 2)[attention.weights[0].argmax()]
    sizes = points.get_sizes()  # type: ignore[attr-defined]
    assert sizes.argmax() == len(sizes) - 1
    np.testing.assert_allclose(np.asarray(points.get_offsets())[-1], heaviest, rtol=1e-5)


def test_points_are_drawn_beside_maps() -> None:
    models = {"maps": predictor(ConditionalDetrConfig), "points": predictor(DeformableDetrConfig)}
    (chosen,) = choose({name: look(model, PIXELS) for name, model in models.items()}, threshold=0.0)
    panels = draw_models(chosen).axes
    assert [len(panel.collections) for panel in panels] == [0, 0, 1, 1]  # two heads each, and therefore two sides


@pytest.mark.parametrize("layer", [0, 1])
def test_the_page_holds_the_points_that_explain_writes(layer: int, tmp_path: Path) -> None:
    model = predictor(DeformableDetrConfig, box_refinement=True)
    data = write_page(tmp_path / "page.html", model)
    view = look(model, PIXELS, layer=layer)
    assert (data["looks_at"], data["levels"], data["points"], len(data["detections"])) == ("points", 4, 4, 5)
    for detection in data["detections"]:
        save_arrays(tmp_path / "query.npz", view.explain(view.queries.index(detection["query"])))
        with np.load(tmp_path / "query.npz") as expected:
            points_xy = numbers(detection["points_xy"]).reshape(2, 2, 4, 4, 2)[layer]
            np.testing.assert_array_equal(points_xy, expected["points_xy"])
            np.testing.assert_array_equal(numbers(detection["weights"]).reshape(2, 2, 4, 4)[layer], expected["weights"])
            np.testing.assert_allclose(detection["references_xy"][layer], expected["reference_xy"])
