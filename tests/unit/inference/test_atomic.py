from contextlib import suppress
from pathlib import Path

import pytest

from condetr.errors import InputError
from condetr.inference.atomic import replaced_file, replaced_folder, require_free


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
