"""The attention explorer in a browser; skipped where there is no Playwright or no Chromium."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.explain.cells import CellsOfQuery
from condetr.explain.measures import watched
from condetr.explain.record import save_arrays
from condetr.explain.view import look
from tests.unit.explain.explorer_pages import PIXELS, predictor, read_data, write_page

pytest.importorskip("playwright.sync_api")

PHONES, DESKTOP = ({"width": 320, "height": 640}, {"width": 390, "height": 844}), {"width": 1280, "height": 900}
PICTURES = "Array.from(document.querySelectorAll('.heads canvas'), (canvas) => canvas.toDataURL())"
POINTS_OF = (
    "([place, layer]) => panes[0].headsOf(place, layer).map(({ points }) => ({ ...points, xy: [...points.xy],"
    " weights: [...points.weights], watches: watched(points.numbers, page.rules) }))"
)
CONTRASTS = """(selectors) => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  return Object.fromEntries(selectors.map((selector) => {
    const element = document.querySelector(selector);
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(light);
    return [selector, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }));
}"""
DRAWN = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    write_page(path, predictor())
    return path


@pytest.fixture(scope="module")
def points_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of a model that looks at points."""
    path = tmp_path_factory.mktemp("explorer") / "points.html"
    write_page(path, predictor(DeformableDetrConfig, box_refinement=True))
    return path


@pytest.fixture(scope="module")
def two_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of two models."""
    path = tmp_path_factory.mktemp("explorer") / "two.html"
    write_page(path, predictor(), beside={"b/run": predictor(DetrConfig)})
    return path


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:  # noqa: ANN401
    with opened(browser, page_file) as tab:
        yield tab


@contextmanager
def opened(browser: Any, path: Path, **options: object) -> Iterator[Any]:  # noqa: ANN401
    """Open a page in a tab; at the end, it must neither have complained nor have asked for anything else."""
    complaints, requests = [], []
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_function("document.getElementById('chosen').textContent !== ''")
    yield tab
    context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


def pictures(tab: Any) -> list[str]:  # noqa: ANN401
    tab.evaluate(DRAWN)
    drawn: list[str] = tab.evaluate(PICTURES)
    return drawn


def test_there_are_three_maps_of_every_head(page: Any) -> None:  # noqa: ANN401
    assert len(set(pictures(page))) == 2 * 3


@pytest.mark.parametrize("kind", [ConditionalDetrConfig, DetrConfig])
@pytest.mark.parametrize("layer", [0, 1])
def test_maps_and_numbers_are_those_of_explain(kind: Any, layer: int, browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    model = predictor(kind)
    data = write_page(tmp_path / "page.html", model)
    view = look(model, PIXELS, layer=layer)
    with opened(browser, tmp_path / "page.html") as tab:
        for place, detection in enumerate(data["detections"]):
            explanation = view.explain(view.queries.index(detection["query"]))
            seen = tab.evaluate(
                "([place, layer]) => { const { parts } = panes[0]; return panes[0].headsOf(place, layer).map((head) =>"
                " parts.map((name) => ({...head[name].numbers, map: Array.from(head[name].map),"
                " watches: watched(head[name].numbers, page.rules)}))); }",
                [place, layer],
            )
            assert isinstance(explanation.attention, CellsOfQuery)
            for head, parts in enumerate(explanation.numbers()):
                for part, (name, expected) in enumerate(parts.items()):
                    shown = seen[head][part]
                    whole = getattr(explanation.attention.maps, name)[head].ravel()
                    assert expected.evenness is not None
                    np.testing.assert_allclose(shown["map"], whole, atol=1e-5)
                    np.testing.assert_allclose(shown["centre_xy"], expected.centre_xy, rtol=1e-3, atol=1e-3)
                    np.testing.assert_allclose(
                        [*shown["at_sides"].values(), shown["in_box"], shown["entropy"], shown["evenness"]],
                        [*expected.at_sides.values(), expected.in_box, expected.entropy, expected.evenness],
                        atol=1e-4,
                    )
                    assert shown["watches"] == watched(expected)


def test_a_click_on_a_box_or_a_name_changes_the_maps(page: Any) -> None:  # noqa: ANN401
    first = pictures(page)
    page.locator(".box:not(.now)").last.dispatch_event("click")
    second = pictures(page)
    assert all(before != after for before, after in zip(first, second, strict=True))
    page.locator(".detections button").first.click()
    assert pictures(page) == first


def test_keys_choose_detection_and_layer(page: Any) -> None:  # noqa: ANN401
    first = pictures(page)
    page.keyboard.press("ArrowRight")
    assert pictures(page) != first
    assert "2 of 5" in page.inner_text("#place")
    page.keyboard.press("ArrowLeft")
    assert pictures(page) == first
    page.keyboard.press("ArrowDown")
    assert pictures(page) != first
    assert page.inner_text("#layer-number") == "0 of 0 to 1"
    assert page.is_visible(".mixed")
    page.keyboard.press("ArrowUp")
    assert pictures(page) == first


def test_the_slider_chooses_the_layer(page: Any) -> None:  # noqa: ANN401
    last = pictures(page)
    page.fill("#layer", "0")
    assert pictures(page) != last
    assert page.inner_text(".course .now button") == "0"
    page.locator(".course tbody tr").last.click()
    assert pictures(page) == last


def test_a_common_scale_dims_all_maps_but_the_brightest(page: Any) -> None:  # noqa: ANN401
    own = pictures(page)
    page.check("#common")
    assert sum(before != after for before, after in zip(own, pictures(page), strict=True)) >= 5
    page.uncheck("#common")
    assert pictures(page) == own


def test_the_pointer_tells_what_a_cell_has_in_the_three_maps(page: Any) -> None:  # noqa: ANN401
    page.locator("canvas").first.hover(position={"x": 2, "y": 2})
    told = page.locator(".heads .head").first.locator("figcaption span").all_inner_texts()
    shares = page.evaluate("panes[0].parts.map((name) => panes[0].headsOf(0, 1)[0][name].map[0])")
    np.testing.assert_allclose([float(text.rstrip("%")) / 100 for text in told], shares, rtol=0.06)
    page.mouse.move(1, 1)
    assert page.locator("figcaption span").first.inner_text() == ""


def test_a_reference_point_that_is_dragged_moves_the_spatial_maps_until_it_is_put_back(page: Any) -> None:  # noqa: ANN401
    before, handle = pictures(page), page.locator(".handle.now").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30)
    page.mouse.up()
    page.mouse.move(x, y)
    assert pictures(page)[0] != before[0]
    frame = page.locator(".overlay").bounding_box()
    at = [(x + 40 - frame["x"]) / frame["width"], (y + 30 - frame["y"]) / frame["height"]]
    np.testing.assert_allclose(page.evaluate("panes[0].point"), at, atol=1e-6)
    page.keyboard.press("Escape")
    assert pictures(page) == before
    assert not page.is_visible(".note.moved")


def test_a_point_moved_to_where_it_was_gives_the_stored_logits(page: Any) -> None:  # noqa: ANN401
    stored, computed = page.evaluate(
        "() => { const { looks, model } = panes[0]; return [false, true].map((isMoved) => [0, 1].map((layer) => {"
        " const there = looks.moved(0, layer, model.detections[0].references_xy[layer])[1];"
        " return Array.from(isMoved ? sumOfParts(there.rows, there.columns) : looks.spatialLogits(0, layer, 1)); })); }"
    )
    np.testing.assert_allclose(computed, stored, atol=1e-4)


def test_the_points_of_detr_cannot_be_moved(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    write_page(tmp_path / "page.html", predictor(DetrConfig))
    with opened(browser, tmp_path / "page.html") as tab:
        assert tab.locator(".loose").count() == 0
        assert not tab.is_visible("#movable")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", PHONES, ids=lambda phone: str(phone["width"]))
@pytest.mark.parametrize("kind", ["page_file", "points_file", "two_file"])
def test_a_phone_scrolls_down_only(
    kind: str,
    phone: dict[str, int],
    scheme: str,
    browser: Any,  # noqa: ANN401
    request: pytest.FixtureRequest,
) -> None:
    with opened(browser, request.getfixturevalue(kind), viewport=phone, color_scheme=scheme) as tab:
        pictures(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= phone["width"]
        tab.locator(".head button").first.click()
        pictures(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= phone["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page(scheme: str, browser: Any, two_file: Path) -> None:  # noqa: ANN401
    with opened(browser, two_file, color_scheme=scheme) as tab:
        ratios = tab.evaluate(
            CONTRASTS, ["#chosen", "#place", ".name", ".found", ".watches", ".numbers", "th", ".bits"]
        )
    assert min(ratios.values()) >= 4.5, ratios


# --- A model whose heads look at points ---


def test_points_and_numbers_are_those_of_explain(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    model = predictor(DeformableDetrConfig, box_refinement=True)
    data = write_page(tmp_path / "page.html", model)
    with opened(browser, tmp_path / "page.html") as tab:
        for layer in (0, 1):
            view = look(model, PIXELS, layer=layer)
            for place, detection in enumerate(data["detections"]):
                explanation = view.explain(view.queries.index(detection["query"]))
                save_arrays(tmp_path / "query.npz", explanation)
                seen = tab.evaluate(POINTS_OF, [place, layer])
                with np.load(tmp_path / "query.npz") as arrays:
                    expected_xy, expected_weights = arrays["points_xy"].reshape(2, -1), arrays["weights"].reshape(2, -1)
                np.testing.assert_allclose([head["xy"] for head in seen], expected_xy, atol=1e-5)
                np.testing.assert_allclose([head["weights"] for head in seen], expected_weights, atol=1e-5)
                for head, numbers, more in zip(
                    seen, explanation.places(), explanation.attention.of_heads(), strict=True
                ):
                    shown = head["numbers"]
                    np.testing.assert_allclose(
                        [*shown["centre_xy"], *shown["at_sides"].values(), shown["in_box"], shown["entropy"]],
                        [*numbers.centre_xy, *numbers.at_sides.values(), numbers.in_box, numbers.entropy],
                        rtol=1e-5, atol=1e-5,
                    )  # fmt: skip
                    np.testing.assert_allclose(
                        [*head["byLevel"], shown["in_image"]], [*more["by_level"], more["in_image"]], atol=1e-5
                    )
                    assert head["watches"] == watched(numbers)


def test_points_follow_the_detection_the_layer_and_the_common_scale(browser: Any, points_file: Path) -> None:  # noqa: ANN401
    with opened(browser, points_file) as tab:
        first = pictures(tab)
        assert len(set(first)) == 2
        tab.locator(".box:not(.now)").last.dispatch_event("click")
        assert all(before != after for before, after in zip(first, pictures(tab), strict=True))
        tab.locator(".detections button").first.click()
        assert pictures(tab) == first
        tab.fill("#layer", "0")
        assert pictures(tab) != first
        tab.fill("#layer", "1")
        tab.check("#common")
        assert sum(before != after for before, after in zip(first, pictures(tab), strict=True)) == 1
        assert tab.locator("#cells").count() == 0


def test_the_pointer_tells_the_weight_of_a_point(browser: Any, points_file: Path) -> None:  # noqa: ANN401
    with opened(browser, points_file) as tab:
        pictures(tab)
        place = tab.evaluate(
            "() => { const { xy, weights } = panes[0].shown[0].points, inside = (at) => [0, 1].every((axis) =>"
            " xy[2 * at + axis] > 0.05 && xy[2 * at + axis] < 0.95), at = [...weights.keys()].find(inside);"
            " return [xy[2 * at], xy[2 * at + 1]]; }"
        )
        canvas = tab.locator("canvas").first
        frame = canvas.bounding_box()
        canvas.hover(position={"x": place[0] * frame["width"], "y": place[1] * frame["height"]})
        assert re.fullmatch(r"level \d: [\d.]+%", tab.locator("figcaption span").first.inner_text())


# --- Two models ---


def test_a_click_chooses_the_same_object_in_the_other_model(browser: Any, two_file: Path) -> None:  # noqa: ANN401
    first, second = read_data(two_file), read_data(two_file, model=1)
    with opened(browser, two_file) as tab:
        for pane, (own, other) in enumerate([(first, second), (second, first)]):
            for place, detection in enumerate(own["detections"]):
                tab.locator(".model").nth(pane).locator(".detections button").nth(place).click()
                pictures(tab)
                chosen = tab.evaluate("panes.map((pane) => [pane.chosen.query, pane.isMatched])")
                match = detection["matches"][1 - pane]
                assert chosen[pane] == [detection["query"], True]
                assert chosen[1 - pane][1] == (match is not None)
                if match is not None:
                    assert chosen[1 - pane][0] == other["detections"][match]["query"]


def test_both_models_share_the_layer_and_the_common_scale(browser: Any, two_file: Path) -> None:  # noqa: ANN401
    with opened(browser, two_file) as tab:
        own = pictures(tab)
        assert len(own) == 2 * 3 * 2
        tab.fill("#layer", "0")
        lower = pictures(tab)
        assert all(before != after for before, after in zip(own, lower, strict=True))
        assert [text.partition("layer ")[2] for text in tab.locator(".found").all_inner_texts()] == ["0 of 0 to 1"] * 2
        tab.check("#common")
        assert sum(before == after for before, after in zip(lower, pictures(tab), strict=True)) <= 1
        brightest = tab.evaluate("commonScale().cells.cell")
        of_each = tab.evaluate("panes.map(({ looks, shown }) => looks.largest(shown).cell)")
        assert brightest == max(of_each)
        assert of_each[0] != of_each[1]


def test_the_maps_of_the_second_model_are_its_own(browser: Any, two_file: Path) -> None:  # noqa: ANN401
    view = look(predictor(DetrConfig), PIXELS)
    with opened(browser, two_file) as tab:
        for place, detection in enumerate(read_data(two_file, model=1)["detections"]):
            attention = view.explain(view.queries.index(detection["query"])).attention
            assert isinstance(attention, CellsOfQuery)
            shown = tab.evaluate("(place) => panes[1].headsOf(place, 1).map((head) => [...head.combined.map])", place)
            np.testing.assert_allclose(shown, attention.maps.combined.reshape(2, -1), atol=1e-5)


def test_a_model_without_that_object_says_so(browser: Any, two_file: Path) -> None:  # noqa: ANN401
    with opened(browser, two_file) as tab:
        assert not tab.is_visible(".alone")
        tab.evaluate("page.models[0].detections[1].matches[1] = null; chooseDetection(panes[0], 1)")
        pictures(tab)
        assert tab.locator(".model").nth(1).locator(".alone").is_visible()
        assert not tab.locator(".model").nth(0).locator(".alone").is_visible()


def test_points_stand_beside_maps(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    beside = {"points": predictor(DeformableDetrConfig, decoder_layers=1)}
    write_page(tmp_path / "page.html", predictor(), beside=beside)
    with opened(browser, tmp_path / "page.html") as tab:
        assert len(pictures(tab)) == 2 * 3 + 2
        tab.check("#common")
        assert sorted(tab.evaluate("Object.keys(commonScale())")) == ["cells", "points"]
        texts = tab.locator(".found").all_inner_texts()
        assert [text.partition("layer ")[2] for text in texts] == ["1 of 0 to 1", "0 of 0 to 0"]


# --- The keyboard ---


def focus(tab: Any) -> str:  # noqa: ANN401
    """Return what has the focus, as a screen reader names it."""
    name: str = tab.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
    return name


def test_tab_reaches_boxes_points_layers_and_heads(page: Any) -> None:  # noqa: ANN401
    pictures(page)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(focus(page))
    assert any(name.startswith("reference point") for name in reached)
    assert [name for name in reached if name.startswith("layer ")][:2] == [
        page.locator(".course button").nth(layer).get_attribute("aria-label") for layer in (0, 1)
    ]
    assert [name for name in reached if name.startswith("enlarge")][:2] == ["enlarge head 0", "enlarge head 1"]
    assert page.locator(".box.now").get_attribute("aria-label") in reached


def test_what_has_the_focus_is_visible(page: Any) -> None:  # noqa: ANN401
    pictures(page)
    for selector in (".course button", ".detections button", ".head button", "#layer"):
        page.keyboard.press("Tab")  # the last input was a key
        page.locator(selector).first.focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", selector
    page.locator(".box.now").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).stroke") == "rgb(255, 207, 51)"


def test_arrows_take_the_focus_from_box_to_box_and_enter_chooses(page: Any) -> None:  # noqa: ANN401
    pictures(page)
    page.locator(".box.now").focus()
    page.keyboard.press("ArrowRight")
    pictures(page)
    assert page.evaluate("document.activeElement.dataset.detection") == "1"
    assert page.evaluate("panes[0].detection") == 1
    page.locator(".box[data-detection='3']").focus()
    page.keyboard.press("Enter")
    pictures(page)
    assert page.evaluate("panes[0].detection") == 3
    assert page.locator(".box[aria-pressed=true]").get_attribute("data-detection") == "3"


def test_enter_chooses_a_layer_and_enlarges_a_head(page: Any) -> None:  # noqa: ANN401
    pictures(page)
    page.locator(".course button").first.focus()
    page.keyboard.press("Enter")
    pictures(page)
    assert page.inner_text("#layer-number") == "0 of 0 to 1"
    assert page.locator(".course button[aria-pressed=true]").inner_text() == "0"
    head = page.locator(".head button").first
    head.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-pressed") == "true"
    assert page.locator(".head.large").count() == 1


def test_arrows_move_the_reference_point_that_has_the_focus(page: Any) -> None:  # noqa: ANN401
    before = pictures(page)
    x, y = page.evaluate("panes[0].chosen.references_xy[1]")
    page.locator(".handle.loose").focus()
    page.keyboard.press("ArrowLeft" if x > 0.5 else "ArrowRight")
    assert pictures(page)[0] != before[0]
    assert page.evaluate("panes[0].point") == pytest.approx([x + (-0.02 if x > 0.5 else 0.02), y])
    assert page.evaluate("panes[0].detection") == 0
    page.keyboard.press("Escape")
    assert pictures(page) == before


def test_every_picture_has_a_name(browser: Any, two_file: Path) -> None:  # noqa: ANN401
    with opened(browser, two_file) as tab:
        pictures(tab)
        names = tab.evaluate("Array.from(document.querySelectorAll('canvas, .box'), (each) => each.ariaLabel)")
        assert all(names)
        drawn = tab.locator("canvas").first.get_attribute("aria-label")
        assert re.fullmatch(r"spatial of head 0, which watches: \w+", drawn)


def test_arrows_choose_in_the_model_that_has_the_focus(browser: Any, two_file: Path) -> None:  # noqa: ANN401
    with opened(browser, two_file) as tab:
        pictures(tab)
        before = tab.evaluate("panes[1].detection")
        tab.locator(".model").nth(1).locator(".box.now").focus()
        tab.keyboard.press("ArrowRight")
        pictures(tab)
        count = len(read_data(two_file, model=1)["detections"])
        assert tab.evaluate("panes[1].detection") == (before + 1) % count
        assert tab.evaluate("panes[1].boxes.indexOf(document.activeElement)") == (before + 1) % count
        assert f"of {count}" in tab.inner_text("#place")
