import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from condetr.errors import InputError, RunError
from condetr.storage import atomic
from condetr.storage.atomic import replaced_file, replaced_folder, require_free, tidy, write_text


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    with replaced_file(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    with suppress(RuntimeError), replaced_file(path) as draft:
        draft.write_text("half")
        raise RuntimeError

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_takes_no_more_is_named_and_the_old_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    with pytest.raises(RunError, match=r"cannot write .*a\.txt: .*; the previous content is unchanged"):  # noqa: PT012, SIM117
        with replaced_file(path) as draft:
            draft.write_text("half")
            raise OSError(28, os.strerror(28))

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_and_folders_are_replaced_where_folders_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse_what_windows_refuses(patch)
        with replaced_file(tmp_path / "a.txt") as draft:
            draft.write_text("new")
        with replaced_folder(tmp_path / "b") as draft:
            (draft / "c").mkdir()
            (draft / "c" / "d.txt").write_text("new")

    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b" / "c" / "d.txt").read_text() == "new"


def refuse_what_windows_refuses(patch: pytest.MonkeyPatch) -> None:
    """Let opening folders fail, and flushing what was opened for reading."""
    flags_of: dict[int, int] = {}

    def opened(path: Path, flags: int, **where: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied")
        descriptor = real_open(path, flags, **where)
        flags_of[descriptor] = flags
        return descriptor

    def fsync(descriptor: int) -> None:
        if not flags_of[descriptor] & os.O_RDWR:
            raise OSError(9, "Bad file descriptor")

    real_open = os.open
    patch.setattr(os, "open", opened)
    patch.setattr(os, "fsync", fsync)
    patch.setattr(atomic, "ON_WINDOWS", True)


def test_links_are_kept_and_what_they_lead_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch(mode=0o000)
    with replaced_folder(tmp_path / "a") as draft:
        (draft / "link").symlink_to(tmp_path / "theirs")
        (draft / "nowhere").symlink_to(tmp_path / "nothing")

    assert (tmp_path / "a" / "link").readlink() == tmp_path / "theirs"
    assert (tmp_path / "a" / "nowhere").is_symlink()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / ".a.txt.draft-7.txt").write_text("half")
    (tmp_path / ".best.draft-7").mkdir()

    tidy(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_whose_replacement_was_cut_off_gets_its_name_back(tmp_path: Path) -> None:
    (tmp_path / ".best.old-7").mkdir()
    (tmp_path / ".best.old-7" / "good").touch()

    tidy(tmp_path)

    assert (tmp_path / "best" / "good").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "stale").touch()

    with replaced_folder(folder) as draft:
        (draft / "fresh").touch()

    assert [path.name for path in folder.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_leaves_the_old_folder_and_no_draft(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "good").touch()

    with suppress(RuntimeError), replaced_folder(folder) as draft:
        (draft / "half").touch()
        raise RuntimeError

    assert [path.name for path in folder.iterdir()] == ["good"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_new_folder_gets_its_parents(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "run" / "best") as draft:
        (draft / "fresh").touch()

    assert (tmp_path / "run" / "best" / "fresh").is_file()


def test_a_folder_with_content_is_not_free_unless_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()

    require_free(tmp_path / "new", overwrite=False)
    require_free(tmp_path, overwrite=True)
    with pytest.raises(InputError, match=r"is not empty.*--overwrite"):
        require_free(tmp_path, overwrite=False)


def test_a_file_is_no_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()

    with pytest.raises(InputError, match="is a file"):
        require_free(tmp_path / "a.txt", overwrite=True)


def test_a_file_name_that_is_not_utf_8_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"\\k\xe4fer \xc3\xa4.jpg")
    write_text(tmp_path / "a.json", json.dumps(name, ensure_ascii=False))

    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == name


def test_a_name_with_no_room_for_a_draft_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / (250 * "x")

    with pytest.raises(RunError, match="File name too long; nothing was written there"), replaced_file(path) as draft:
        draft.write_text("new")
