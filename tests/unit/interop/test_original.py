import tokenize
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from condetr import interop
from condetr.detectors.detr import DetrConfig
from condetr.detectors.published import Checkpoint, Unseen
from condetr.detectors.registry import PUBLISHED
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.official import write_official
from condetr.interop.original import read_blank, to_original
from condetr.interop.transformers_folder import write_transformers
from tests.tiny import TINY

ROOM = Path(interop.__file__).parent

DETECTORS = {kind.__name__ for kind in PUBLISHED} | {kind().kind for kind in PUBLISHED}


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_no_module_names_a_detector(path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        words = {token.string.strip("\"'") for token in tokenize.generate_tokens(lines.readline)}

    assert not words & (DETECTORS | {"sigmoid", "softmax"})


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_rows_that_are_no_class_are_those_of_a_blank_detector(scores: str) -> None:
    config = DetrConfig(**TINY | {"backbone": DetrConfig().backbone}, scores=scores)  # type: ignore[arg-type]
    with torch.device("meta"):
        state = config.build(num_classes=7, pretrained=False).state_dict()
    plain = replace(config, scores="softmax")

    blank = read_blank(Checkpoint(to_original(state, config), Unseen(num_heads=2), "test"))

    assert blank.config == plain
    assert blank.num_class_rows == (7 if scores == "softmax" else 6)


class FurtherConfig(DetrConfig):
    """Settings of one more detector."""


def test_a_further_published_detector_is_named_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, FurtherConfig, replace(PUBLISHED[DetrConfig], title="Further DETR"))

    with pytest.raises(InputError, match=r"nor Deformable DETR nor Further DETR \(it begins with 'a'\)"):
        read_blank(Checkpoint({"a": torch.zeros(1)}, Unseen(), "test"))


@pytest.mark.parametrize("write", [write_official, write_transformers])
def test_a_detector_that_nobody_published_stays_here(
    write: Callable[[Path, LoadedModel], None], model: LoadedModel, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"does not write detr for (the official code|transformers), only in its own format"
    ):
        write(tmp_path, model._replace(detector_config=FurtherConfig()))

    assert list(tmp_path.iterdir()) == []


def test_what_only_the_official_code_has_is_not_written_for_transformers(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(model.detector_config)
    monkeypatch.setitem(PUBLISHED, kind, replace(PUBLISHED[kind], transformers=None))

    write_official(tmp_path / "yes.pth", model)

    with pytest.raises(InputError, match="transformers has no conditional_detr"):
        write_transformers(tmp_path, model)
