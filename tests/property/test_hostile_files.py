"""Any bytes are either read or refused with InputError, by every reader of files that others wrote."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.errors import InputError
from tests.property.hostile_targets import TARGETS, seeds


def read(target: str, content: bytes) -> None:
    with TemporaryDirectory() as folder, suppress(InputError):
        TARGETS[target](content, Path(folder))


@pytest.mark.parametrize("target", TARGETS)
def test_sound_bytes_are_read(target: str, tmp_path: Path) -> None:
    TARGETS[target](seeds(target)[0], tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=15)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(target: str, data: st.DataObject) -> None:
    sound = data.draw(st.sampled_from(seeds(target)))
    start = data.draw(st.integers(0, len(sound)))
    end = data.draw(st.integers(start, min(len(sound), start + 40)))
    read(target, sound[:start] + data.draw(st.binary(max_size=40)) + sound[end:])


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=10)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(target: str, content: bytes) -> None:
    read(target, content)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=10)
@given(data=st.data())
def test_cut_files_are_read_or_refused(target: str, data: st.DataObject) -> None:
    sound = data.draw(st.sampled_from(seeds(target)))
    read(target, sound[: data.draw(st.integers(0, len(sound)))])
