"""The attention explorer in a browser; skipped where there is no Playwright or no Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.explain.cells import CellsOfQuery
from condetr.explain.measures import watched
from condetr.explain.view import look
from tests.unit.explain.explorer_pages import PIXELS, predictor, write_page

playwright: Any = pytest.importorskip("playwright.sync_api")

PHONE, DESKTOP = {"width": 320, "height": 640}, {"width": 1280, "height": 900}
PICTURES = "Array.from(document.querySelectorAll('.heads canvas'), (canvas) => canvas.toDataURL())"
DRAWN = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        try:
            opened = tools.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {error}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    write_page(path, predictor())
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
def test_a_phone_scrolls_down_only(scheme: str, browser: Any, page_file: Path) -> None:  # noqa: ANN401
    with opened(browser, page_file, viewport=PHONE, color_scheme=scheme) as tab:
        pictures(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        tab.locator(".head button").first.click()
        pictures(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
