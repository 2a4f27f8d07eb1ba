"""What a program must know to use a graph besides the graph: texts by name, in the file of every format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

import condetr
from condetr.config import dump, from_mapping, settings
from condetr.data.transforms import EvalTransformConfig, Side
from condetr.errors import InputError
from condetr.labels import LabelMap


class About(NamedTuple):
    """How images are prepared for a graph, and what its numbers mean."""

    label_map: LabelMap
    transform: EvalTransformConfig
    score_function: str
    """From logits to scores."""
    size_hw: tuple[int, int] | None
    """The only height and width that the graph takes."""
    threshold: float | None = None
    """The score threshold with the best F1 in the model's validation, if it is known."""

    def to_texts(self) -> dict[str, str]:
        """Return the metadata of a file."""
        return {
            "condetr": condetr.__version__,
            "label_map": json.dumps(self.label_map.to_list(), ensure_ascii=False),
            "scores": self.score_function,
            "size_hw": json.dumps(self.size_hw),
            "threshold": json.dumps(self.threshold),
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
            labels, transform, size_hw, threshold = (
                json.loads(texts.get(name, "null")) for name in ("label_map", "transform", "size_hw", "threshold")
            )
        except ValueError as error:
            raise InputError(f"{path} holds metadata that cannot be read ({error}); write it again") from None
        try:
            label_map = LabelMap.from_list(labels)
        except InputError as error:
            raise InputError(f"{path} holds no usable label_map: {error}; write it again") from None
        plain = {"transform": transform, "size_hw": size_hw, "threshold": threshold}
        parts = from_mapping(_Preparation, plain, source=str(path))
        return About(label_map, parts.transform, texts["scores"], parts.size_hw, parts.threshold)


@settings
class _Preparation:
    transform: EvalTransformConfig
    size_hw: tuple[Side, Side] | None
    threshold: Annotated[float, Field(ge=0, le=1)] | None
