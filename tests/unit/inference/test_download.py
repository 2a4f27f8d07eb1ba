import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from condetr.errors import InputError
from condetr.inference import download as web
from condetr.inference.download import download, file_name_of
from condetr.inference.model_folder import LoadedModel
from condetr.inference.pixels import read_pixels
from condetr.inference.predictor import Predictor
from condetr.inference.sources import find_sources, stem_of
from condetr.storage.remote import is_url


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (48, 32), "red").save(stream, format="PNG")
    return stream.getvalue()


class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        kind = self.path.strip("/").partition("/")[0]
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/").replace("file=", "file://"))
            self.end_headers()
        elif kind == "gone":
            self.send_error(404)
        else:
            content = {"a.png": png(), "page": b"<html>", "large": b"0" * 5000}[kind]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_image_from_the_web_is_read(site: str) -> None:
    assert read_pixels(f"{site}/a.png").shape == (3, 32, 48)


def test_a_redirect_is_followed(site: str) -> None:
    assert download(f"{site}/to/{site}/a.png") == png()


def test_a_result_of_the_web_is_shown_without_another_download(site: str, tiny: LoadedModel) -> None:
    predictor = Predictor(tiny.detector, transform=tiny.transform, label_map=tiny.label_map)
    result = predictor(f"{site}/a.png")
    asked = Handler.asked

    assert np.array(result.draw()).shape[2] == 3
    assert Handler.asked == asked


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("gone", "cannot be downloaded: 404 Not Found; check the address"),
        ("page", "cannot be read as an image: its content is no image format known here"),
        ("to/file=/etc/hostname", "cannot be downloaded: 302 Found - Redirection to url 'file:///etc/hostname' is not"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(site: str, path: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_pixels(f"{site}/{path}")


def test_a_circle_of_redirects_is_left(site: str) -> None:
    with pytest.raises(InputError, match="cannot be downloaded: "):
        download(f"{site}/to/" + f"{site}/to/" * 8 + f"{site}/a.png")


def test_what_is_too_large_is_not_read_on(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_BYTES", 4000)
    monkeypatch.setattr(web, "_CHUNK", 1000)

    with pytest.raises(InputError, match="is larger than 0 MiB: download it, and give the file"):
        download(f"{site}/large")


def test_what_takes_too_long_is_left(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SECONDS_IN_ALL", -1)

    with pytest.raises(InputError, match="took longer than"):
        download(f"{site}/large")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.png", "http://", "https://[", "http://no such host/a.png"])
def test_an_address_without_an_answer_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"cannot be downloaded: .+; check the address and the connection"):
        download(url)


def test_names_come_from_the_path_of_an_address() -> None:
    assert file_name_of("https://host/a/b%20c.jpg?size=large") == "b c.jpg"
    assert file_name_of("https://host/") == "image"
    assert stem_of("https://host/a/b%20c.jpg?size=large") == "b_c"
    assert is_url("HTTPS://host/a.jpg")
    assert not is_url("https.jpg")


def test_addresses_are_images_or_by_their_ending_videos() -> None:
    urls = ["https://host/a.jpg", "https://host/picture?id=3", "https://host/film.MP4"]

    assert find_sources(urls) == (tuple(urls[:2]), (urls[2],))
