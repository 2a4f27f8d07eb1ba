"""The user interface in a browser; skipped where there is no FastAPI, no Playwright or no Chromium."""

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from tests.unit.explain.explorer_pages import PIXELS, predictor

pytest.importorskip("fastapi")
uvicorn: Any = pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that has not ended its first epoch."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Iterator[str]:
    """Serve two models and the curves of a run on a free port."""
    from condetr.ui import server as ui

    models = {"maps": predictor(ConditionalDetrConfig), "points": predictor(DeformableDetrConfig)}
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as place:
        patch.setattr(ui, "LOWEST", 0.0)  # these models are not trained
        app = ui.make_server(models, folder=tmp_path_factory.mktemp("ui"), hosts=["127.0.0.1"], runs={"mine": run})
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        yield f"http://127.0.0.1:{place.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:  # noqa: ANN401
    """Open the page on a phone; at the end, it must neither have complained nor have asked for anything else."""
    complaints, requests = [], []
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(address)
    yield tab
    context.close()
    assert [text for text in complaints if "400 (Bad Request)" not in text] == []
    assert [url for url in requests if not url.startswith((address, "data:", f"blob:{address}"))] == []


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "bolts.png"
    Image.fromarray(PIXELS).save(path)
    return path


def test_an_image_gets_boxes_a_slider_and_the_explorer(tab: Any, image: Path) -> None:  # noqa: ANN401
    assert not tab.is_visible("#explore")
    tab.set_input_files("#file", image)
    tab.wait_for_selector("figure")
    tab.fill("#threshold", "0")
    assert tab.locator("figcaption").all_inner_texts() == ["maps: 5 found", "points: 5 found"]
    assert tab.locator("rect").count() == 10
    best = tab.evaluate("Math.max(...Object.values(image.found).flat().map(({ score }) => score))")
    tab.fill("#threshold", f"{best - 0.005:.2f}")
    assert tab.locator("rect").count() < 10
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390

    tab.fill("#threshold", "0")
    tab.click("#explore")
    page = tab.frame_locator("#explorer")
    page.locator(".model").nth(1).locator(".detections button").nth(2).click()
    assert page.locator(".model").nth(1).locator("[aria-pressed=true].box").get_attribute("data-detection") == "2"
    assert page.locator("canvas").count() == 2 * 3 + 2


def test_what_is_no_image_is_said_on_the_page(tab: Any, tmp_path: Path) -> None:  # noqa: ANN401
    (tmp_path / "text.png").write_text("no image")
    tab.set_input_files("#file", tmp_path / "text.png")
    tab.wait_for_selector("#said.wrong")
    assert "text.png" in tab.inner_text("#said")
    assert str(tmp_path) not in tab.inner_text("#said")


def test_the_curves_of_a_run_grow_on_the_page(tab: Any, run: Path) -> None:  # noqa: ANN401
    assert tab.locator("#runs figure").count() == 0
    (run / "metrics.csv").write_text("epoch,loss,AP\n1,4.0,\n2,2.0,0.25\n")
    tab.wait_for_selector("#runs figure", timeout=20_000)
    assert tab.locator("#runs figcaption").inner_text() == "mine: epoch 2, not complete"
    assert tab.locator("#runs span").all_inner_texts() == ["AP 0.250, at most 0.250", "loss 2.000, at most 4.000"]
    (run / "metrics.csv").write_text("epoch,loss,AP\n1,4.0,\n2,2.0,0.25\n3,1.0,0.5\n")
    tab.wait_for_selector("#runs figcaption:has-text('epoch 3')", timeout=20_000)
    assert tab.locator("#runs polyline").last.get_attribute("points").count(",") == 3
