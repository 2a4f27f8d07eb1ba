"""The notebook of the documentation runs from its first cell to its last."""

import json
import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

DOCS = Path(__file__).parents[2] / "docs"
SHORTER = {
    "minutes=minutes": 'epochs=1, batch_size=4, settings=["data.workers=0", "loggers=[]"]',
    "num_images=1000, val_images=100": "num_images=8, val_images=4",
    'found = predictor("shapes/images/val_000000.jpg")': (
        'predictor.own_threshold = 0.0\nfound = predictor("shapes/images/val_000000.jpg")'
    ),
}
"""What is written otherwise, so that the training takes a moment and so little of it is enough to go on."""


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "here", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    notebook = nbformat.read(DOCS / "first-five-minutes.ipynb", as_version=4)
    for cell in notebook.cells:
        for long, short in SHORTER.items():
            cell.source = cell.source.replace(long, short)
    assert all(any(short in cell.source for cell in notebook.cells) for short in SHORTER.values())

    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("text/html" in each or "image/png" in each for each in shown) == 2, "the detections and the heads"
    assert (tmp_path / "run" / "report.html").is_file()
