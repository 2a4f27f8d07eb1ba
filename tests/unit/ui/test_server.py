"""The user interface's server; skipped where there is no FastAPI, or nothing to speak to it with."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from tests.unit.explain.explorer_pages import PIXELS, predictor

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

MARKED = {"x-condetr": "1"}
MODELS = {"maps": predictor(ConditionalDetrConfig), "points": predictor(DeformableDetrConfig)}


def picture(pixels: np.ndarray = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the server may write into."""
    (tmp_path / "server").mkdir()
    return tmp_path / "server"


@pytest.fixture
def client(folder: Path) -> Iterator[Any]:
    from starlette.testclient import TestClient

    from condetr.ui.server import make_server

    server = make_server(MODELS, folder=folder, hosts=["testserver"])
    with TestClient(server, raise_server_exceptions=False) as client:
        yield client


def upload(client: Any, content: bytes, *, name: str = "bolts.png") -> Any:  # noqa: ANN401
    return client.post("/images", params={"name": name}, content=content, headers=MARKED)


def test_an_uploaded_image_is_answered_with_what_every_model_finds(
    client: Any,  # noqa: ANN401
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from condetr.ui import server

    monkeypatch.setattr(server, "LOWEST", 0.0)  # these models are not trained
    answer = upload(client, picture())
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content["name"], content["height"], content["width"]) == ("bolts.png", 40, 64)
    for name, model in MODELS.items():
        expected = model.predict(PIXELS, threshold=0.0)
        assert len(expected) == len(content["found"][name]) == 5  # queries
        np.testing.assert_allclose([each["score"] for each in content["found"][name]], expected.scores, rtol=1e-5)
        np.testing.assert_allclose(
            [each["box_xyxy"] for each in content["found"][name]], expected.boxes_xyxy, rtol=1e-4
        )
    assert list(folder.iterdir()) == []


def test_the_explorer_shows_all_models_that_are_named(client: Any, folder: Path) -> None:  # noqa: ANN401
    key = upload(client, picture()).json()["id"]
    answer = client.get(f"/images/{key}/explorer", params={"model": ["points", "maps"], "threshold": "0"})
    assert answer.status_code == 200, answer.text
    assert "points beside maps" in answer.text
    assert "bolts.png" in answer.text
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "bolts.png"), (b"no image", "bolts.png"), (picture()[:-30], "bolts.png")],
)
def test_what_is_no_image_is_refused_in_a_sentence(content: bytes, sentence: str, client: Any, folder: Path) -> None:  # noqa: ANN401
    answer = upload(client, content)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert str(folder) not in answer.text
    assert list(folder.iterdir()) == []


def test_files_and_images_that_are_too_large_are_refused(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    from condetr.ui import server

    monkeypatch.setattr(server, "MOST_PIXELS", 40 * 64 - 1)
    answer = upload(client, picture())
    assert (answer.status_code, answer.json()["error"][:27]) == (400, "bolts.png has 2,560 pixels:")
    monkeypatch.setattr(server, "MOST_BYTES", 100)
    assert upload(client, picture()).status_code == 413


def test_only_the_last_images_are_kept(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    from condetr.ui import server

    monkeypatch.setattr(server, "MOST_IMAGES", 1)
    first, second = (upload(client, picture()).json()["id"] for _ in range(2))
    asked = {"model": "maps", "threshold": "0"}
    gone = client.get(f"/images/{first}/explorer", params=asked)
    assert (gone.status_code, "this image is gone" in gone.text) == (400, True)
    assert client.get(f"/images/{second}/explorer", params=asked).status_code == 200


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"model": "others"}, "there is no model others"),
        ({}, "name a model to explain"),
        ({"model": "maps", "threshold": "nan"}, "a threshold is a number from 0 to 1"),
        ({"model": "maps", "threshold": "1"}, "nothing in the image scores 1 or more"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_a_sentence(asked: dict[str, str], sentence: str, client: Any) -> None:  # noqa: ANN401
    key = upload(client, picture()).json()["id"]
    answer = client.get(f"/images/{key}/explorer", params=asked)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_other_sites_and_other_names_of_the_host_get_nothing(client: Any) -> None:  # noqa: ANN401
    assert client.post("/images", content=picture()).status_code == 400
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/").status_code == 200


def test_a_mistake_of_ours_shows_no_traceback(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    from condetr.ui import server

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(server, "_found", broken)
    answer = upload(client, picture())
    assert answer.status_code == 500
    assert answer.json() == {"error": "something went wrong; the terminal in which condetr runs says what"}


def test_names_are_text_not_markup(client: Any) -> None:  # noqa: ANN401
    assert upload(client, picture(), name="<b>/../a.png").json()["name"] == "_b__.._a.png"


def test_the_curves_of_a_run_grow_with_it(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from condetr.ui.server import make_server

    (tmp_path / "run").mkdir()
    server = make_server({}, folder=tmp_path, hosts=["testserver"], runs={"mine": tmp_path / "run"})
    with TestClient(server) as client:
        assert client.get("/runs").json() == [{"name": "mine", "is_complete": False, "epoch": [], "loss": [], "AP": []}]
        (tmp_path / "run" / "metrics.csv").write_text("epoch,loss,AP\n1,3.5,\n2,2.5,0.25\n")
        (grown,) = client.get("/runs").json()
        assert (grown["epoch"], grown["loss"], grown["AP"]) == ([1, 2], [3.5, 2.5], [None, 0.25])
        (tmp_path / "run" / "results.json").write_text("{}")
        (tmp_path / "run" / "metrics.csv").write_text("epoch,loss,AP\nnonsense\n")
        (damaged,) = client.get("/runs").json()
        assert (damaged["is_complete"], damaged["epoch"]) == (True, [])
        assert client.get("/").status_code == 200
