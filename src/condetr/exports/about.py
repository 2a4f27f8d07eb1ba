"""What a program must know to use a graph besides the graph: texts by name, in the file of every format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import condetr
from condetr.config import dump, from_mapping, settings
from condetr.data.transforms import EvalTransformConfig
from condetr.errors import InputError
from condetr.labels import LabelMap


class About(NamedTuple):
    """How images are prepared for a graph, and what its numbers mean."""

    label_map: LabelMap
    transform: EvalTransformConfig
    score_function: str
    """From logits to scores."""

    def to_texts(self) -> dict[str, str]:
        """Return the metadata of a file."""
        return {
            "condetr": condetr.__version__,
            "label_map": json.dumps(self.label_map.to_list(), ensure_ascii=False),
            "scores": self.score_function,
            "transform": json.dumps(dump(self.transform)),
        }

    @staticmethod
    def of_texts(texts: Mapping[str, str], *, path: Path) -> "About":
        """Read the metadata of a file; raises InputError if it is that of another program, or damaged."""
        missing = sorted({"label_map", "scores", "transform"} - texts.keys())
        if missing:
            raise InputError(
                f"{path} is no graph that condetr wrote: it does not say {', '.join(missing)}; write one with "
                f"condetr convert RUN {path.name}"
            )
        try:
            labels, transform = (json.loads(texts[name]) for name in ("label_map", "transform"))
        except ValueError as error:
            raise InputError(f"{path} holds metadata that cannot be read ({error}); write it again") from None
        try:
            label_map = LabelMap.from_list(labels)
        except InputError as error:
            raise InputError(f"{path} holds no usable label_map: {error}; write it again") from None
        return About(label_map, _transform(transform, source=str(path)), texts["scores"])


@settings
class _Preparation:
    transform: EvalTransformConfig


def _transform(plain: Any, *, source: str) -> EvalTransformConfig:  # noqa: ANN401 - any content of a file
    return from_mapping(_Preparation, {"transform": plain}, source=source).transform
