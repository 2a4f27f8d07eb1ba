import json
from pathlib import Path
from typing import Any

import pytest

from condetr.data.index import index_folder
from condetr.data.tools.registry import TOOLS, tool_file
from tests.unit.data.conftest import write_text
from tests.unit.data.tools.conftest import write_images

COCO = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
FOREIGN = {
    "package.json": {"name": "shapes", "version": "1.0.0", "dependencies": {"regions": "1"}},
    "config.json": {"model_type": "detr", "id2label": {"0": "cat"}, "label2id": {"cat": 0}, "size": {"height": 8}},
    "instances.json": COCO,
    "captions.json": [{"image": "1.png", "caption": "a cat", "label": "cat"}],
    "conversations.json": [{"id": "1", "image": "1.png", "conversations": [{"from": "human", "value": "?"}]}],
    "detections.json": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
    "points.json": {"filename": "1.png", "keypoints": [[1, 2]], "size": 3, "tags": []},
    "texts.json": [{"id": 1, "data": {"text": "a"}, "annotations": [{"result": [{"type": "choices"}]}]}],
    "answers.json": {"regions": [{"id": 1, "phrase": "a cat"}], "objects": ["cat"]},
}
TEXTS = {
    "1.txt": "0 0.5 0.5 0.2 0.2\n",
    "pose/1.txt": "0 0.5 0.5 0.2 0.2 0.1 0.2 2 0.3 0.4 2 0.5 0.6 2 0.7\n",
    "calib/1.txt": "P0: 7.2e+02 0 6.1e+02 0 0 7.2e+02 1.7e+02 0 0 0 1 0\n",
    "notes.txt": "cats and dogs\n",
    "1.xml": "<annotation><object/></annotation>",
    "picture.xml": "<svg><image/></svg>",
    "annotations.xml": "<annotations><note/></annotations>",
    "boxes.csv": "filename,class,xmin,ymin,xmax,ymax\n1.png,cat,1,2,3,4\n",
}


@pytest.mark.parametrize("name", [*FOREIGN, *TEXTS])
def test_files_of_others_are_left_alone(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, "1.png")
    file = write_text(tmp_path / name, TEXTS[name] if name in TEXTS else json.dumps(FOREIGN[name]))

    assert [find(index_folder(tmp_path)) for find in TOOLS] == [None] * len(TOOLS)
    assert tool_file(file) is None


@pytest.mark.parametrize("content", ["", "{", "[" * 10_000, "null", "3", '"shapes"', "<annotations", "\x00\x01"])
@pytest.mark.parametrize("suffix", ["json", "xml", "csv", "txt"])
def test_what_is_no_file_of_theirs_is_left_alone(tmp_path: Path, content: str, suffix: str) -> None:
    write_images(tmp_path, "1.png")
    write_text(tmp_path / f"1.{suffix}", content)

    assert [find(index_folder(tmp_path)) for find in TOOLS] == [None] * len(TOOLS)


def test_of_many_files_few_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        write_text(tmp_path / f"{number}.json", "{}")
    index, opened, really_open = index_folder(tmp_path), [], Path.open

    def counting(path: Path, *arguments: Any, **others: Any) -> Any:  # noqa: ANN401
        opened.append(path)
        return really_open(path, *arguments, **others)

    monkeypatch.setattr(Path, "open", counting)
    assert [find(index) for find in TOOLS] == [None] * len(TOOLS)

    assert 0 < len(opened) < 100
