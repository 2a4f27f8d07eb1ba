"""Videos and cameras, frame by frame, and annotated videos, with PyAV; memory does not grow with the length."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from condetr.errors import InputError, InputWarning
from condetr.storage.atomic import replaced_file

if TYPE_CHECKING:
    import av
    import av.container

USUAL_RATE = Fraction(25)
"""Frames a second of a video that does not say it."""
SECONDS_OF_SILENCE = 20
_TICKS = 90_000  # of a second, to which times of frames are rounded
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}


class Frame(NamedTuple):
    """A frame of a video."""

    number: int
    """From 0."""
    seconds: float
    """Since the first frame."""
    pixels: UInt8[np.ndarray, "H W 3"]
    """RGB, upright."""


class Video:
    """An open video."""

    def __init__(self, name: str, container: "av.container.InputContainer") -> None:
        self.name = name
        self._container = container
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE

    @property
    def num_frames(self) -> int | None:
        """How many frames there are, about; None where the video does not say it, as cameras."""
        if self._stream.frames:
            return self._stream.frames
        if self._container.duration:
            return round(self._container.duration / 1_000_000 * self.rate)
        return None

    def frames(self) -> Iterator[Frame]:
        """Yield the frames; where the video is damaged, warn and end there."""
        start, number = None, 0
        decoded = self._container.decode(self._stream)
        while (frame := self._next(decoded, number=number)) is not None:
            seconds = float(number / self.rate) if frame.time is None else frame.time
            start = seconds if start is None else start
            yield Frame(number, max(seconds - start, 0.0), _upright(frame))
            number += 1

    def _next(self, decoded: "Iterator[av.VideoFrame]", *, number: int) -> "av.VideoFrame | None":
        import av

        try:
            return next(decoded, None)
        except (av.FFmpegError, OSError) as error:
            if number == 0:
                raise InputError(f"{self.name} cannot be read as a video: {_reason(error)}; convert it") from None
            sentence = f"{self.name} is damaged after {number:,} frames, where it ends here: {_reason(error)}"
            warnings.warn(sentence, InputWarning, stacklevel=3)
            return None


@contextmanager
def opened(video: Path | str) -> Iterator[Video]:
    """Open a video file, an address, a stream or a camera such as `camera` or `camera:1`.

    Raises InputError if it cannot be read, or if PyAV is not installed.
    """
    require_av()
    import av

    name = str(video)
    place, kind, options = _place(name)
    try:
        container = av.open(place, format=kind, options=options, timeout=SECONDS_OF_SILENCE)
    except (av.FFmpegError, OSError, ValueError) as error:
        what = "camera" if kind else "video"
        raise InputError(f"{name} cannot be opened as a {what}: {_reason(error)}; check it") from None
    with container:
        if not container.streams.video:
            raise InputError(f"{name} holds no video, only {', '.join(s.type for s in container.streams) or 'nothing'}")
        yield Video(name, container)


def frames_of(video: Path | str) -> Iterator[Frame]:
    """Yield the frames of a video file, an address, a stream or a camera; raises InputError as `opened` does."""
    with opened(video) as reader:
        yield from reader.frames()


class VideoWriter:
    """Writes pictures of one size as a video; its size is made even, as H.264 asks for."""

    def __init__(self, container: "av.container.OutputContainer", *, rate: Fraction) -> None:
        self._container = container
        self._rate = rate
        self._stream: av.VideoStream | None = None
        self._last = -1

    def write(self, picture: Image.Image, *, seconds: float) -> None:
        """Add a picture that is shown from that time on; times rise."""
        import av

        if self._stream is None:
            self._stream = self._add_stream(picture)
        size_wh = (self._stream.width, self._stream.height)
        fitting = picture if picture.size == size_wh else picture.resize(size_wh)
        frame = av.VideoFrame.from_ndarray(np.array(fitting.convert("RGB")), format="rgb24")
        self._last = max(round(seconds * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())

    def _add_stream(self, picture: Image.Image) -> "av.VideoStream":
        import av

        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=self._rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = (max(side - side % 2, 2) for side in picture.size)
        stream.pix_fmt = "yuv420p"  # what browsers show
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.options = {"crf": "20"} if codec == "libx264" else {"qscale": "3"}
        return stream


@contextmanager
def written(path: Path, *, rate: Fraction) -> Iterator[VideoWriter]:
    """Write a video of so many frames a second; it appears when the block ends without an error."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft, av.open(str(draft), "w", format="mp4") as container:
        writer = VideoWriter(container, rate=rate)
        yield writer
        writer.end()


def require_av() -> None:
    """Raise InputError if PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        raise InputError("videos and cameras need PyAV: pip install av") from None


def _place(name: str) -> tuple[str, str | None, dict[str, str]]:
    """Return what PyAV opens, in which format, with which options."""
    is_camera = (name.lower() == "camera" or name.lower().startswith("camera:")) and not Path(name).is_file()
    if not is_camera:
        return name, None, {}
    if sys.platform not in _CAMERAS:
        raise InputError(f"cameras are not known on {sys.platform}: give a video file or a stream")
    kind, pattern = _CAMERAS[sys.platform]
    return pattern.format(name.partition(":")[2] or "0"), kind, {}


def _upright(frame: "av.VideoFrame") -> UInt8[np.ndarray, "H W 3"]:
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90) % 4))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
