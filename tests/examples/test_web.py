"""The page with onnxruntime-web finds what condetr finds; skipped without Playwright, Chromium or onnxruntime-web.

ONNXRUNTIME_WEB names the unpacked package, unless npm has put it beside the page.
"""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.examples.conftest import CASES, EXAMPLES, LOWEST, MakeCase, Row, require_same

pytest.importorskip("playwright.sync_api")
LIBRARY = Path(os.environ.get("ONNXRUNTIME_WEB", EXAMPLES / "web/node_modules/onnxruntime-web"))
pytestmark = pytest.mark.skipif(not LIBRARY.is_dir(), reason="onnxruntime-web is not installed")


class Quiet(SimpleHTTPRequestHandler):
    """A plain server of files that prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve the page, and what else is in the folder of the test."""
    shutil.copy(EXAMPLES / "web" / "index.html", tmp_path)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "onnxruntime-web").symlink_to(LIBRARY.absolute())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:  # noqa: ANN401
    """Return a new tab; at the end, it must not have failed."""
    errors: list[str] = []
    tab = browser.new_page()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    tab.close()
    assert errors == []


def wait_for(tab: Any, text: str) -> None:  # noqa: ANN401
    tab.wait_for_function("text => document.getElementById('status').textContent.includes(text)", arg=text)


@pytest.mark.parametrize("name", CASES)
def test_the_page_finds_what_condetr_finds(
    name: str,
    site: str,
    tab: Any,  # noqa: ANN401
    make_case: MakeCase,
) -> None:
    graph, photo = make_case(name)
    tab.goto(site)
    wait_for(tab, "2 classes: bolt, écrou à œil")

    tab.set_input_files("#file", photo)
    wait_for(tab, " ms")
    tab.fill("#threshold", str(LOWEST))

    rows = [row_of(line) for line in tab.locator("#found li").all_inner_texts()]
    require_same(rows, graph=graph, photo=photo)


def test_the_page_says_what_is_wrong(site: str, tab: Any, make_case: MakeCase) -> None:  # noqa: ANN401
    graph, _ = make_case("own_size")
    tab.goto(f"{site}?graph=other.onnx")
    wait_for(tab, "other.onnx is not in this folder: run condetr convert RUN other.onnx --detections")
    tab.goto(f"{site}?graph=photo.png")
    wait_for(tab, "photo.png cannot be read")
    tab.goto(site)
    wait_for(tab, "2 classes")
    tab.set_input_files("#file", graph)
    wait_for(tab, "detector.onnx is no image that this browser reads")


def row_of(line: str) -> Row:
    """Read a line of the list under the picture."""
    what, sides = line.split(", ")
    name, score = what.rsplit(" ", maxsplit=1)
    return Row(float(score), tuple(map(float, sides.split())), name)
