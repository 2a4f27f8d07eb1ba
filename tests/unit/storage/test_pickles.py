"""Files of torch.save are read; zip files that are larger unpacked are not, however they hide it."""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condetr.storage.pickles import load_pickle

CONTENT = {"model": {"weight": torch.arange(300.0)}, "epoch": 3}
DIRECTORY_ENTRY = b"PK\1\2"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(CONTENT, tmp_path / "saved.pth")
    return tmp_path / "saved.pth"


def pack(source: Path, target: Path, *, compressed: str = "") -> Path:
    """Copy a zip file with one of its entries compressed."""
    with ZipFile(source) as archive, ZipFile(target, "w") as copy:
        for entry in archive.infolist():
            kind = ZIP_DEFLATED if entry.filename == compressed else ZIP_STORED
            copy.writestr(entry.filename, archive.read(entry), compress_type=kind)
    return target


@pytest.mark.parametrize("is_zip", [True, False])
@given(shapes=st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=5))
def test_what_torch_saved_comes_back(
    shapes: list[list[int]], tmp_path_factory: pytest.TempPathFactory, *, is_zip: bool
) -> None:
    path = tmp_path_factory.mktemp("saved") / "a.pth"
    tensors = [torch.randn(shape) for shape in shapes]
    torch.save(tensors, path, _use_new_zipfile_serialization=is_zip)
    torch.testing.assert_close(load_pickle(path), tensors, rtol=0, atol=0)


def test_an_archive_that_another_program_packed_without_compression_is_read(saved: Path, tmp_path: Path) -> None:
    torch.testing.assert_close(load_pickle(pack(saved, tmp_path / "packed.pth")), CONTENT)


@pytest.mark.parametrize("entry", ["data.pkl", "data/0", "version"])
def test_a_compressed_entry_is_refused(entry: str, saved: Path, tmp_path: Path) -> None:
    packed = pack(saved, tmp_path / "packed.pth", compressed=f"saved/{entry}")
    with pytest.raises(UnpicklingError, match=r"it is compressed, which torch\.save never does"):
        load_pickle(packed)


def test_entries_that_share_their_bytes_are_refused(saved: Path) -> None:
    with ZipFile(saved, "a") as archive:
        archive.writestr("saved/more", b"much")
        archive.filelist += [archive.getinfo("saved/data/0")] * 100
    with pytest.raises(UnpicklingError, match=r"bytes would become 12\d,\d{3}\)"):
        load_pickle(saved)


def before_end(content: bytes, *, end: bytes) -> bytes:
    """Put an innocent copy of the table of contents between it and what closes the file."""
    start, stop = content.index(DIRECTORY_ENTRY), content.rindex(end)
    table = content[start:stop]
    return content[:stop] + table.replace(b"\x08\0", b"\0\0") + content[stop:]


@pytest.mark.parametrize(
    "hide",
    [
        lambda content: before_end(content, end=b"PK\5\6"),
        lambda content: content + b"PK\5\6",
        lambda content: content[:-2] + b"\1\0!",
    ],
)
def test_a_second_table_of_contents_hides_nothing(hide: Callable[[bytes], bytes], saved: Path, tmp_path: Path) -> None:
    packed = pack(saved, tmp_path / "packed.pth", compressed="saved/data.pkl")
    packed.write_bytes(hide(packed.read_bytes()))
    with pytest.raises(BadZipFile):
        load_pickle(packed)


@pytest.mark.parametrize("end", [b"PK\6\6", b"PK\5\6"])
def test_torchs_own_files_with_a_second_table_of_contents_are_refused(end: bytes, saved: Path) -> None:
    saved.write_bytes(before_end(saved.read_bytes(), end=end))
    with pytest.raises(BadZipFile, match="its table of contents is not where the end of the file says"):
        load_pickle(saved)
