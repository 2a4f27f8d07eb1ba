from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condetr.errors import InputError
from condetr.inference.shards.job import Done, Folder, Job, Part, digest_of, shards_of

JOB = Job(
    weights="w",
    images=7,
    sources="s",
    format="jsonl",
    min_score=0.5,
    limit=100,
    classes=None,
    tile=None,
    overlap=0.2,
    batch_size=8,
    shard_size=3,
    engine="torch",
    precision="fp32",
    categories=[],
)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 6))
def test_parts_hold_every_image_once_and_in_order(images: int, shard_size: int, parts: int) -> None:
    job = replace(JOB, images=images, shard_size=shard_size)
    sources = [f"{number}.jpg" for number in range(images)]
    numbers = [
        [number for number in range(job.num_shards) if Part(part, parts).has(number)] for part in range(1, parts + 1)
    ]

    shards = sorted(shard for each in numbers for shard in shards_of(sources, job, numbers=each))

    assert [source for shard in shards for source in shard.sources] == sources
    assert [sources.index(shard.sources[0]) for shard in shards] == [shard.first for shard in shards]
    assert [len(shard.sources) for shard in shards] == [job.size_of(shard.number) for shard in shards]


@given(st.lists(st.text(), max_size=5), st.lists(st.text(), max_size=5))
def test_two_lists_have_one_digest_only_if_they_are_equal(one: list[str], other: list[str]) -> None:
    names = [[name.replace("\0", "") for name in each] for each in (one, other)]

    assert (digest_of(names[0]) == digest_of(names[1])) == (names[0] == names[1])


def test_a_part_is_done_by_one_command_at_a_time(tmp_path: Path) -> None:
    first, second = Folder(tmp_path / "out", "jsonl"), Folder(tmp_path / "out", "jsonl")

    with first.begun(JOB, resume=False, overwrite=False, part=Part(1, 2)):
        with (
            pytest.raises(InputError, match="another prediction is writing to"),
            second.begun(JOB, resume=True, overwrite=False, part=Part(1, 2)),
        ):
            pass
        with second.begun(JOB, resume=True, overwrite=False, part=Part(2, 2)):
            pass
    with second.begun(JOB, resume=True, overwrite=False, part=Part(1, 2)):
        pass


def test_beginning_anew_waits_for_nobody_and_deletes_nothing_of_a_command_that_runs(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out", "jsonl")

    with folder.begun(JOB, resume=False, overwrite=False, part=Part()):
        folder.put(Done(0, 3, 0, 4, []), b"rows")
        with (
            pytest.raises(InputError, match="another prediction"),
            Folder(tmp_path / "out", "jsonl").begun(JOB, resume=False, overwrite=True, part=Part()),
        ):
            pass

        assert folder.done(0) == Done(0, 3, 0, 4, [])


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"3", b'{"number": 0}'])
def test_a_damaged_note_means_that_a_shard_is_to_do(tmp_path: Path, note: bytes) -> None:
    folder = Folder(tmp_path / "out", "jsonl")

    with folder.begun(JOB, resume=False, overwrite=False, part=Part()):
        folder.put(Done(0, 3, 0, 4, []), b"rows")
        (folder.notes / "000000.json").write_bytes(note)

        assert folder.done(0) is None
