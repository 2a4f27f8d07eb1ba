"""A new user's first minutes on a data set: every command, what it printed and how long it took, as a page.

    python -m benchmarks.first_minutes path/to/data --minutes 3 > docs/first-minutes.md

works in an empty folder, with the `condetr` command of this environment, and changes nothing of the data. The video is
made of the first images. With --notebook it also runs docs/first-five-minutes.ipynb, and keeps what its cells show.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from condetr.data.images import read_image

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first-five-minutes.ipynb"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
VIDEO_FRAMES, VIDEO_SIDE, FRAMES_PER_SECOND = 12, 480, 4


def main() -> None:
    """Write the page to stdout."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="a folder of labelled images")
    options.add_argument("--minutes", type=float, default=3, help="of the training")
    options.add_argument("--notebook", action="store_true", help="run the notebook, too, in place")
    chosen = options.parse_args()
    for text in page(chosen.data.resolve(), minutes=chosen.minutes):
        print(text, end="\n\n", flush=True)
    if chosen.notebook:
        run_notebook()


def page(data: Path, *, minutes: float) -> Iterator[str]:
    """Return the parts of the page, one by one, as the commands end."""
    name = data.name
    yield (
        f"# The first minutes on {name}\n\nEvery command that a new user types in an empty folder, and what it "
        f"printed. `python -m benchmarks.first_minutes` wrote this page; the training had {minutes:g} minutes."
    )
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / name).symlink_to(data, target_is_directory=True)
        images = _some_images(data)
        photo = _linked(images[0], here=here, data=data)
        _write_video(here / "clip.mp4", images)
        for title, command in steps(name, photo=photo, minutes=minutes).items():
            yield f"## {title}\n\n{transcript(command, here=here)}"


def steps(name: str, *, photo: str, minutes: float) -> dict[str, str]:
    """Return the commands by the title of their section."""
    run = f"runs/{name}"
    return {
        "Is the data sound?": f"condetr doctor {name}",
        "Weights to start from": "condetr weights mobilenetv2",
        "Train": f"condetr train --data {name} --minutes {minutes:g}",
        "What came out": f"ls {run} && python -m json.tool {run}/results.json | head -12",
        "A folder of images": f"mkdir new && cp {photo} new/ && condetr predict {run} new --out found",
        "A video": f"condetr predict {run} clip.mp4 --out found-video",
        "Why": f"condetr explain {run} {photo} --out why --html why.html",
        "Numbers": f"condetr evaluate {run} --data {name}",
        "For other programs": f"condetr convert {run} detector.onnx",
        "As a graph": f"condetr predict detector.onnx {photo} --out graph",
        "In Python": (
            f'python -c \'import condetr; found = condetr.load("{run}")("{photo}"); '
            "print(found.names[:5], found.scores[:5])'"
        ),
    }


def transcript(command: str, *, here: Path) -> str:
    """Run a command line in a folder; return it with what it printed, how it ended and its seconds."""
    began = time.perf_counter()
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=here,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed = ESCAPES.sub("", ended.stdout).rstrip()
    # Of a bar that is drawn again and again, only what it showed last.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in printed.splitlines()]
    code = f", exit code {ended.returncode}" if ended.returncode else ""
    said = "\n".join(["```text", f"$ {command}", *lines, "```"])
    return f"{said}\n\n{time.perf_counter() - began:.0f} s{code}"


def run_notebook() -> None:
    """Run every cell of the notebook in a temporary folder, and write it back with what the cells show."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1800, record_timing=False, resources={"metadata": {"path": folder}}).execute()
    nbformat.write(notebook, NOTEBOOK)


def _some_images(data: Path) -> list[Path]:
    """Return the first images of a folder."""
    images = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return images[:VIDEO_FRAMES]


def _linked(image: Path, *, here: Path, data: Path) -> str:
    return (Path(data.name) / image.resolve().relative_to(data)).as_posix()


def _write_video(path: Path, images: list[Path]) -> None:
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = VIDEO_SIDE
        stream.pix_fmt = "yuv420p"
        for image in images:
            pixels = read_image(image).permute(1, 2, 0).numpy()
            frame = np.asarray(Image.fromarray(pixels).resize((VIDEO_SIDE, VIDEO_SIDE)))
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())


if __name__ == "__main__":
    main()
