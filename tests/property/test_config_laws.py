import tempfile
from pathlib import Path
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from condetr.config import dump, from_mapping, load, override, settings, to_yaml


@settings
class RoundConfig:
    kind: Literal["round"] = "round"
    radius: float = 1.0


@settings
class SquareConfig:
    kind: Literal["square"] = "square"
    sides: tuple[int, ...] = ()


@settings
class ShapeConfig:
    name: str = ""
    weight: float = 1.0
    count: int = 0
    filled: bool = False
    labels: tuple[str, ...] = ()
    shape: RoundConfig | SquareConfig = RoundConfig()
    inner: RoundConfig | SquareConfig | None = None


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# YAML holds every character but those of a broken encoding and most control characters.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("\t\n"), max_size=12)
WORDS = TEXTS | st.sampled_from(
    ["no", "null", "~", "1e-4", "0x10", "true", "- a", "a: b", "#", "'", "[1]", "2020-01-01"]
)
SHAPES = st.builds(RoundConfig, radius=FLOATS) | st.builds(SquareConfig, sides=st.lists(st.integers()).map(tuple))
CONFIGS = st.builds(
    ShapeConfig,
    name=WORDS,
    weight=FLOATS,
    count=st.integers(),
    filled=st.booleans(),
    labels=st.lists(WORDS, max_size=3).map(tuple),
    shape=SHAPES,
    inner=st.none() | SHAPES,
)


@given(CONFIGS)
def test_plain_data_gives_the_settings_back(config: ShapeConfig) -> None:
    assert from_mapping(ShapeConfig, dump(config), source="test") == config


@given(CONFIGS)
def test_a_yaml_file_gives_the_settings_back(config: ShapeConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(to_yaml(config).encode())
        assert load(ShapeConfig, path) == config


@given(config=CONFIGS, weight=FLOATS, sides=st.lists(st.integers(), max_size=3))
def test_an_override_changes_only_what_it_names(config: ShapeConfig, weight: float, sides: list[int]) -> None:
    changed = override(config, [f"weight={weight!r}", "shape.kind=square", f"shape.sides={sides}"])
    assert changed.weight == weight
    assert changed.shape == SquareConfig(sides=tuple(sides))
    assert dump(changed) == dump(config) | {"weight": weight, "shape": dump(changed.shape)}
