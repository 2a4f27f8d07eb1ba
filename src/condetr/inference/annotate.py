"""What is found in a video: an annotated video and a line of JSON for every frame, written while it is read."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from condetr.inference.drawing import draw_detections
from condetr.inference.rows import plain_detections
from condetr.inference.sources import is_live
from condetr.inference.video import Frame, Video, opened, written
from condetr.labels import LabelMap
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file

Look = Callable[[UInt8[np.ndarray, "H W 3"]], Detections]
"""Returns everything that is found in a frame, with any score."""


class Annotated(NamedTuple):
    """What was written about a video."""

    video: str
    frames: int
    objects: int
    """How many were found in all frames together, from the threshold on."""
    best_score: float
    """Of all detections, the threshold aside; 0 if there is none."""
    detections: Path
    """A line of JSON for every frame."""
    picture: Path | None
    """The annotated video, if it was asked for."""


def annotate_video(
    video: str,
    look: Look,
    *,
    folder: Path,
    stem: str,
    threshold: float,
    label_map: LabelMap,
    with_picture: bool = True,
    most_frames: int | None = None,
    begin: Callable[[int | None], object] = lambda _: None,
    advance: Callable[[], object] = lambda: None,
) -> Annotated:
    """Look at every frame of a video, up to `most_frames`, and write what is found as `folder/stem.jsonl` and `.mp4`.

    Only what scores at least `threshold` is written.
    Ctrl-C ends a camera or a stream, of which everything so far is written; of a file nothing is then. `begin` is
    called with the number of frames, None if it is not known, and `advance` after each. Raises InputError if the video
    cannot be read.
    """
    lines, picture = folder / f"{stem}.jsonl", folder / f"{stem}.mp4" if with_picture else None
    frames, objects, best = 0, 0, 0.0
    with ExitStack() as stack:
        reader: Video = stack.enter_context(opened(video))
        begin(_fewer(reader.num_frames, most_frames))
        folder.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(stack.enter_context(replaced_file(lines)).open("w", encoding="utf-8"))
        writer = None if picture is None else stack.enter_context(written(picture, rate=reader.rate))
        try:
            for frame in islice(reader.frames(), most_frames):
                everything = look(frame.pixels)
                found, best = everything.above(threshold), max([best, *everything.scores[:1].tolist()])
                if writer is not None:
                    writer.write(draw_detections(Image.fromarray(frame.pixels), found), seconds=frame.seconds)
                file.write(json.dumps(frame_row(frame, found, label_map=label_map), ensure_ascii=False) + "\n")
                frames, objects = frames + 1, objects + len(found)
                advance()
        except KeyboardInterrupt:
            if not is_live(video) or not frames:
                raise
    return Annotated(video, frames, objects, best, lines, picture)


def frame_row(frame: Frame, found: Detections, *, label_map: LabelMap) -> dict[str, Any]:
    """Return the detections in a frame as plain data, boxes in pixels."""
    return {
        "frame": frame.number,
        "seconds": round(frame.seconds, 4),
        "detections": plain_detections(found, label_map=label_map),
    }


def _fewer(known: int | None, most: int | None) -> int | None:
    given = [count for count in (known, most) if count is not None]
    return min(given, default=None)
