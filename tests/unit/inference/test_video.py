import json
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.errors import InputError, InputWarning
from condetr.inference import video
from condetr.inference.annotate import annotate_video
from condetr.inference.sources import is_live
from condetr.inference.video import frames_of, opened, written
from condetr.labels import Category, LabelMap
from condetr.shapes import Detections
from tests.films import write_film

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


def look(pixels: np.ndarray) -> Detections:
    """Find the red corner, and with a low score something else."""
    is_red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    y, x = np.nonzero(is_red)
    box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    return Detections(
        boxes_xyxy=np.array([box, [0, 0, 9, 9]], np.float32),
        scores=np.array([0.9, 0.2], np.float32),
        labels=np.array([1, 0]),
        names=("nut", "bolt"),
    )


def test_frames_come_with_their_number_and_time(tmp_path: Path) -> None:
    frames = list(frames_of(write_film(tmp_path / "film.mp4")))

    assert [frame.number for frame in frames] == list(range(6))
    assert [frame.seconds for frame in frames] == pytest.approx([n * 1001 / 30000 for n in range(6)], abs=1e-3)
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}


@pytest.mark.parametrize(("turned", "red_at"), [(90, (-5, 5)), (180, (-5, -5)), (-90, (5, -5))])
def test_a_turned_video_is_seen_upright(tmp_path: Path, turned: int, red_at: tuple[int, int]) -> None:
    frame = next(frames_of(write_film(tmp_path / "phone.mp4", turned=turned)))

    assert frame.pixels.shape == ((48, 64, 3) if turned == 180 else (64, 48, 3))
    assert frame.pixels[red_at][0] > 200
    assert frame.pixels[red_at][1] < 60


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", frames=40)

    assert [frame.number for frame in islice(frames_of(tmp_path / "film.mp4"), 2)] == [0, 1]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(12), Fraction(50)])
def test_an_annotated_video_keeps_rate_and_length(tmp_path: Path, rate: Fraction) -> None:
    source = write_film(tmp_path / "film.mp4", rate=rate)

    done = annotate_video(str(source), look, folder=tmp_path / "out", stem="film", threshold=0.5, label_map=LABELS)

    assert done.picture is not None
    with opened(done.picture) as copy:
        assert float(copy.rate) == pytest.approx(float(rate), rel=1e-3)
        assert len(list(copy.frames())) == 6


def test_every_frame_has_a_line_with_what_passes_the_threshold(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mp4")

    done = annotate_video(
        str(source), look, folder=tmp_path / "out", stem="film", threshold=0.5, label_map=LABELS, with_picture=False
    )

    rows = [json.loads(line) for line in done.detections.read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(6))
    (found,) = rows[-1]["detections"]
    assert (found["name"], found["category_id"], found["score"]) == ("nut", 7, 0.9)
    assert found["box_xyxy"] == pytest.approx([0, 0, 32, 24], abs=3)
    assert (done.frames, done.objects) == (6, 6)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["film.jsonl"]


def test_where_nothing_passes_the_best_score_is_known(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mp4")

    done = annotate_video(
        str(source), look, folder=tmp_path, stem="out", threshold=0.95, label_map=LABELS, most_frames=2
    )

    assert (done.frames, done.objects) == (2, 0)
    assert done.best_score == pytest.approx(0.9)


def stopped_after_two(pixels: np.ndarray) -> Detections:
    if pixels[-1, -1, 0] > 30:
        raise KeyboardInterrupt
    return look(pixels)


def test_ctrl_c_leaves_nothing_of_a_file(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mp4")

    with pytest.raises(KeyboardInterrupt):
        annotate_video(
            str(source), stopped_after_two, folder=tmp_path / "out", stem="film", threshold=0.5, label_map=LABELS
        )

    assert list((tmp_path / "out").iterdir()) == []


def test_ctrl_c_ends_a_camera_and_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_film(tmp_path / "film.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(video, "_place", lambda _: (str(source), None, {}))
        done = annotate_video(
            "camera", stopped_after_two, folder=tmp_path / "out", stem="camera", threshold=0.5, label_map=LABELS
        )

    assert done.frames == len(done.detections.read_text().splitlines()) == 2
    assert done.picture is not None
    assert len(list(frames_of(done.picture))) == 2


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("camera", True), ("camera:1", True), ("rtsp://host/a", True), ("cameras", False), ("film.mp4", False)],
)
def test_cameras_and_streams_are_known_by_name(name: str, is_one: bool) -> None:  # noqa: FBT001 - a table
    assert is_live(name) is is_one


@pytest.mark.parametrize(
    ("platform", "place"),
    [("linux", ("/dev/video1", "v4l2")), ("darwin", ("1", "avfoundation")), ("win32", ("video=1", "dshow"))],
)
def test_a_camera_is_opened_as_the_system_names_it(
    platform: str, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)

    assert video._place("camera:1")[:2] == place


def test_an_odd_size_is_made_even(tmp_path: Path) -> None:
    with written(tmp_path / "odd.mp4", rate=Fraction(10)) as writer:
        for number in range(3):
            writer.write(Image.new("RGB", (33, 21), "red"), seconds=number / 10)

    assert next(frames_of(tmp_path / "odd.mp4")).pixels.shape == (20, 32, 3)


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "film.mp4").write_bytes(content)

    with pytest.raises(InputError, match=r"film\.mp4 cannot be opened as a video: "):
        next(frames_of(tmp_path / "film.mp4"))


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())

    with pytest.raises(InputError, match="holds no video, only audio"):
        next(frames_of(tmp_path / "song.mp4"))


def test_a_cut_off_video_gives_what_is_left(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.avi", frames=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    assert 0 < len(list(frames_of(path))) < 40


def test_a_video_that_breaks_ends_there_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    with opened(write_film(tmp_path / "film.mp4")) as film:
        inner = film._container.decode(film._stream)

        def breaking() -> object:
            yield from islice(inner, 2)
            raise av.error.InvalidDataError(1, "bad data")

        monkeypatch.setattr(film, "_container", type("Broken", (), {"decode": lambda _, __: breaking()})())
        with pytest.warns(InputWarning, match=r"film\.mp4 is damaged after 2 frames, where it ends here: bad data"):
            assert len(list(film.frames())) == 2
