import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.errors import InputError
from condetr.explain.cells import CellAttention
from condetr.explain.choose import most_like
from condetr.explain.explorer import page as explorer_page
from condetr.explain.explorer.data import model_data, split
from condetr.explain.explorer.moving import capture_spatial_queries
from condetr.explain.explorer.page import require_page, write_explorer
from condetr.explain.record import save_arrays
from condetr.explain.view import look, look_into_all
from condetr.inference.predictor import Predictor
from condetr.layers.positions import point_embedding
from tests.unit.explain.explorer_pages import CELLS_HW, PIXELS, numbers, predictor, read_data, write_page

HEADS, LAYERS = 2, 2


def stored_logits(data: dict[str, Any], detection: int, *, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the spatial and the content logits of every head, as the page computes them."""
    (height, width), each = CELLS_HW, data["detections"][detection]
    rows = numbers(each["spatial"]["rows"]).reshape(LAYERS, HEADS, height, 1)
    columns = numbers(each["spatial"]["columns"]).reshape(LAYERS, HEADS, 1, width)
    content = numbers(each["content"]).reshape(LAYERS, HEADS, height, width)
    return (rows + columns)[layer], content[layer]


@pytest.mark.parametrize("kind", [ConditionalDetrConfig, DetrConfig])
@pytest.mark.parametrize("layer", [0, 1])
def test_the_page_holds_the_logits_that_explain_writes(kind: Any, layer: int, tmp_path: Path) -> None:  # noqa: ANN401
    model = predictor(kind)
    data = write_page(tmp_path / "page.html", model)
    view = look(model, PIXELS, layer=layer)
    assert len(data["detections"]) == 5
    for place, detection in enumerate(data["detections"]):
        save_arrays(tmp_path / "maps.npz", view.explain(view.queries.index(detection["query"])))
        spatial, content = stored_logits(data, place, layer=layer)
        with np.load(tmp_path / "maps.npz") as expected:
            np.testing.assert_allclose(spatial, expected["spatial_logits"], atol=1e-5)
            np.testing.assert_array_equal(content, expected["content_logits"])
            np.testing.assert_allclose(detection["box_xyxy"], expected["box_xyxy"])
        assert data["spatial_error"] < 1e-5


@torch.inference_mode()
def test_spatial_logits_that_are_no_sum_of_rows_and_columns_are_kept_whole() -> None:
    depths = look_into_all(predictor(), PIXELS)
    spatial = []
    for view in depths.views:
        assert isinstance(view.attention, CellAttention)
        spatial.append(view.attention.logits.spatial.copy_(torch.randn_like(view.attention.logits.spatial)))
    data = model_data(depths, [3])
    assert (data["spatial_form"], data["spatial_error"]) == ("whole maps", 0.0)
    whole = numbers(data["detections"][0]["spatial"]["whole"]).reshape(LAYERS, HEADS, *CELLS_HW)
    np.testing.assert_array_equal(whole[1], spatial[1][0, :, 3].view(HEADS, *CELLS_HW))


@torch.inference_mode()
def test_sums_that_rounding_puts_off_are_kept_whole_and_can_still_be_moved() -> None:
    model = predictor()
    with capture_spatial_queries(model.detector) as spatial_queries:
        depths = look_into_all(model, PIXELS)
    for view in depths.views:
        assert isinstance(view.attention, CellAttention)
        view.attention.logits.spatial.mul_(100).add_(2e-5 * torch.rand_like(view.attention.logits.spatial))
    data = model_data(depths, [3], spatial_queries=spatial_queries)
    assert data["spatial_form"] == "whole maps"
    assert len(data["moving"]["layers"]) == LAYERS


@given(arrays(np.float32, (3, 1), elements=st.floats(-9, 9, width=32)), arrays(np.float32, (1, 4), elements=st.just(2)))
def test_a_sum_is_split_into_its_parts(rows: np.ndarray, columns: np.ndarray) -> None:
    np.testing.assert_allclose(split(rows + columns).logits, rows + columns, atol=1e-5)


def test_each_layer_tells_its_box_and_the_last_one_that_of_the_detection(tmp_path: Path) -> None:
    data = write_page(tmp_path / "page.html", predictor())
    for detection in data["detections"]:
        assert len(detection["guesses"]) == LAYERS
        np.testing.assert_allclose(detection["guesses"][-1]["box_xyxy"], detection["box_xyxy"])
        assert detection["guesses"][0]["box_xyxy"] != detection["box_xyxy"]


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{}, {"transformation": "scalar"}, {"spatial_query": "I"}, {"spatial_query": "P"}])
@pytest.mark.parametrize("layer", [0, 1])
def test_moving_a_reference_point_gives_the_logits_that_the_layer_would_compute(
    changes: dict[str, Any], layer: int, tmp_path: Path
) -> None:
    model, query, xy = predictor(**changes), 4, torch.tensor([0.2, 0.7])
    data = write_page(tmp_path / "page.html", model, queries=[query])
    expected = spatial_logits_at(model, xy, layer=layer)[:, query]

    projection = {name: numbers(text) for name, text in data["moving"]["layers"][layer].items()}
    factor = numbers(data["detections"][0]["transformation"]).reshape(LAYERS, 16)[layer]
    p_q = projection["weight"].reshape(16, 16) @ (factor * point_embedding(xy, dim=16).numpy()) + projection["bias"]
    rows, columns = (
        np.einsum("pmd,md->mp", projection[name].reshape(-1, HEADS, 8), p_q.reshape(HEADS, 8)) / 4
        for name in ("rows", "columns")
    )
    np.testing.assert_allclose(rows[:, :, None] + columns[:, None], expected, atol=1e-4)


def spatial_logits_at(model: Predictor, xy: torch.Tensor, *, layer: int) -> np.ndarray:
    """Return a layer's spatial logits with the reference points of that layer alone at a place."""
    calls: list[int] = []

    def move(_: object, arguments: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401 - a hook of torch
        calls.append(len(calls))
        here = point_embedding(xy, dim=16).expand_as(options["p_s"])
        return arguments, {**options, "p_s": here} if calls[-1] == layer else options

    decoder: Any = model.detector.decoder
    handle = decoder.spatial_query.register_forward_pre_hook(move, with_kwargs=True)
    view = look(model, PIXELS, layer=layer)
    handle.remove()
    assert isinstance(view.attention, CellAttention)
    return view.attention.logits.spatial[0].view(HEADS, -1, *CELLS_HW).numpy()


@pytest.mark.parametrize("changes", [{"transformation": "full"}, {"spatial_query": "T"}, {"spatial_query": "C"}])
def test_where_a_point_cannot_be_moved_by_factors_the_page_does_not_offer_it(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    assert write_page(tmp_path / "page.html", predictor(**changes))["moving"]["layers"] == []


def test_the_queries_asked_for_come_first_and_then_the_best(tmp_path: Path) -> None:
    model = predictor()
    best = [query for query in dict.fromkeys(look(model, PIXELS).queries) if query != 2]
    data = write_page(tmp_path / "page.html", model, queries=[2])
    assert [detection["query"] for detection in data["detections"]] == [2, *best]
    data = write_page(tmp_path / "page.html", model, queries=[2], threshold=1.0)
    assert [detection["query"] for detection in data["detections"]] == [2]


def test_as_many_detections_are_shown_as_fit(tmp_path: Path) -> None:
    room = 3 * LAYERS * HEADS * 160 * 8
    assert len(write_page(tmp_path / "page.html", predictor(), room=room)["detections"]) == 3


def test_nothing_to_show_is_an_error_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing in the image scores 1 or more"):
        write_explorer(tmp_path / "page.html", predictor(), PIXELS, model="a", image="b", threshold=1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_page_needs_no_other_file_and_names_cannot_break_it(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", predictor(), image="<i>&.png", model="\udce4</title>")
    text = (tmp_path / "page.html").read_text()
    assert all(place.startswith("data:") for place in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<i>|</script><b>", text) == []
    assert "default-src 'none'" in text
    assert {detection["name"] for detection in read_data(tmp_path / "page.html")["detections"]} <= {
        "bolt",
        "</script><b>&",
    }


def test_a_place_where_no_page_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a folder; name a file in it"):
        require_page(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="file is a file, but"):
        require_page(tmp_path / "file" / "page.html", overwrite=True)
    with pytest.raises(InputError, match="is there already; name another page, or say --overwrite"):
        require_page(tmp_path / "file", overwrite=False)
    with pytest.raises(InputError, match="File name too long"):
        require_page(tmp_path / ("x" * 300), overwrite=False)
    require_page(tmp_path / "new" / "page.html", overwrite=False)


def test_models_beside_show_what_the_first_one_shows(tmp_path: Path) -> None:
    first, other = predictor(), predictor(DetrConfig, num_queries=9)
    write_page(tmp_path / "page.html", first, beside={"b": other}, threshold=1.0, queries=range(5))
    own, beside = (read_data(tmp_path / "page.html", model=model) for model in (0, 1))
    assert [model["name"] for model in own["models"]] == ["a/run", "b"]
    assert [detection["query"] for detection in own["detections"]] == [0, 1, 2, 3, 4]
    views = [look(model, PIXELS) for model in (first, other)]
    matched = [detection for detection in own["detections"] if detection["matches"][1] is not None]
    for detection in matched:
        expected = most_like(views[0].explain(views[0].queries.index(detection["query"])), views[1])
        assert beside["detections"][detection["matches"][1]]["query"] == expected.query
    assert 1 <= len(beside["detections"]) <= len(matched)


def test_a_model_beside_that_has_nothing_there_shows_its_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer_page, "rank_like", lambda *_: None)
    write_page(tmp_path / "page.html", predictor(), beside={"b": predictor(DetrConfig)}, threshold=1.0, queries=[3])
    assert read_data(tmp_path / "page.html")["detections"][0]["matches"] == [None, None]
    (beside,) = read_data(tmp_path / "page.html", model=1)["detections"]
    assert beside["query"] == look(predictor(DetrConfig), PIXELS).queries[0]


def test_two_models_share_the_room(tmp_path: Path) -> None:
    room = 2 * 2 * LAYERS * HEADS * 160 * 8
    write_page(tmp_path / "page.html", predictor(), beside={"b": predictor(DetrConfig)}, room=room)
    shown = [len(read_data(tmp_path / "page.html", model=model)["detections"]) for model in (0, 1)]
    assert shown == [2, 2]
