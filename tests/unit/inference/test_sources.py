import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, features

from condetr.errors import InputError, InputWarning
from condetr.inference.sources import find_images, find_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/er/c.jpeg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gives_its_images_and_those_of_its_subfolders_in_order(folder: Path) -> None:
    found = find_images([str(folder)])

    assert [path.relative_to(folder).as_posix() for path in found] == ["a.PNG", "b.jpg", "deep/er/c.jpeg"]


def test_a_folder_gives_the_images_of_linked_folders_and_goes_round_no_circle(folder: Path) -> None:
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "deep" / "er" / "d.jpg").touch()
    (folder / "more").mkdir()
    (folder / "more" / "link").symlink_to(folder / "deep" / "er")

    found = find_images([str(folder / "more")])

    assert [path.relative_to(folder).as_posix() for path in found] == ["more/link/c.jpeg", "more/link/d.jpg"]
    assert len(find_images([str(folder)])) == 4


@pytest.mark.parametrize("source", ["", "*.jpg"])
def test_a_link_that_leads_nowhere_is_not_passed_over(folder: Path, source: str) -> None:
    (folder / "gone.jpg").symlink_to(folder / "nothing")
    (folder / "folder.jpg").mkdir()

    found = find_images([str(folder / source)])

    assert folder / "gone.jpg" in found
    assert folder / "folder.jpg" not in found


@pytest.mark.parametrize("hidden", ["._b.jpg", ".ipynb_checkpoints/b-checkpoint.jpg"])
def test_a_folder_gives_no_hidden_images(folder: Path, hidden: str) -> None:
    (folder / hidden).parent.mkdir(exist_ok=True)
    (folder / hidden).touch()

    assert len(find_images([str(folder)])) == 3


def test_a_pattern_gives_the_images_that_match(folder: Path) -> None:
    assert find_images([f"{folder}/**/*.jp*g"]) == [folder / "b.jpg", folder / "deep" / "er" / "c.jpeg"]


def test_a_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert find_images([str(folder / "notes.txt")]) == [folder / "notes.txt"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder: Path) -> None:
    (folder / "scan[1].jpg").touch()

    assert find_images([str(folder / "scan[1].jpg")]) == [folder / "scan[1].jpg"]


def test_an_image_that_is_named_twice_comes_once(folder: Path) -> None:
    assert find_images([str(folder / "b.jpg"), f"{folder}/*.jpg"]) == [folder / "b.jpg"]


@pytest.mark.parametrize(("source", "complaint"), [("empty", "holds no image"), ("*.bmp", "neither an image file")])
def test_a_source_without_images_is_refused(folder: Path, source: str, complaint: str) -> None:
    (folder / "empty").mkdir()

    with pytest.raises(InputError, match=complaint):
        find_images([str(folder), str(folder / source)])


def test_a_jpeg_that_ends_in_jfif_is_found(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "saved by a browser.jfif")

    assert find_images([str(tmp_path)]) == [tmp_path / "saved by a browser.jfif"]


@pytest.mark.parametrize("name", ["a.jpe", "a.mpo", "a.apng", "a.tga", "a.qoi", "a.dib", "a.pbm", "a.pnm"])
def test_what_pil_reads_without_a_codec_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    assert find_images([str(tmp_path)]) == [tmp_path / name]


@pytest.mark.parametrize(("name", "codec"), [("a.AVIF", "avif"), ("a.jp2", "jpg_2000"), ("a.j2k", "jpg_2000")])
def test_what_takes_a_codec_is_found_where_pil_has_it(tmp_path: Path, name: str, codec: str) -> None:
    if not features.check(codec):
        pytest.skip(f"this build of Pillow lacks {codec}")
    Image.new("RGB", (16, 16), "red").save(tmp_path / name)

    assert find_images([str(tmp_path)]) == [tmp_path / name]


@pytest.mark.parametrize("source", ["", "*"])
def test_what_is_left_out_of_a_folder_is_named(folder: Path, source: str) -> None:
    for name in ("v.mp4", "phone.heic", "scan.dcm", "IM0001", "labels.json"):
        (folder / name).touch()

    with pytest.warns(
        InputWarning, match=r"4 files that cannot be read as images \(IM0001, phone.heic, scan.dcm, ...\)"
    ):
        found = find_images([str(folder / source)])

    assert folder / "b.jpg" in found


def test_a_folder_without_images_is_refused_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").touch()

    with pytest.raises(InputError, match=r"holds no image .* but 1 file that cannot be read as images \(v.mp4\); give"):
        find_images([str(tmp_path)])


def test_videos_are_named_themselves_or_by_a_pattern(folder: Path) -> None:
    for name in ("v.mp4", "w.MOV"):
        (folder / name).touch()

    assert find_sources([str(folder / "v.mp4"), "camera:1"]) == ((), (str(folder / "v.mp4"), "camera:1"))
    assert find_sources([f"{folder}/*.[mM]*"]).videos == (str(folder / "v.mp4"), str(folder / "w.MOV"))


def test_images_and_videos_may_be_given_together(folder: Path) -> None:
    (folder / "v.mp4").touch()

    found = find_sources([str(folder / "b.jpg"), str(folder / "v.mp4"), str(folder / "b.jpg")])

    assert found == ((folder / "b.jpg",), (str(folder / "v.mp4"),))


def test_a_file_named_like_a_camera_is_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camera").touch()

    assert find_sources(["camera"]) == ((Path("camera"),), ())


def test_a_dash_stands_for_lines(folder: Path) -> None:
    found = find_sources(["-"], lines=[f"{folder / 'b.jpg'}\n", "\n", f"  {folder}/deep \n"])

    assert [path.name for path in found.images if isinstance(path, Path)] == ["b.jpg", "c.jpeg"]


def test_a_dash_without_lines_is_refused() -> None:
    with pytest.raises(InputError, match="- stands for sources on stdin"):
        find_sources(["-"], lines=["\n"])


@pytest.mark.parametrize("find", [find_images, find_sources])
@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_source_is_not_the_current_folder(source: str, find: Callable[[list[str]], object]) -> None:
    with pytest.raises(InputError, match="a source is empty"):
        find([source])


def test_a_folder_of_videos_alone_says_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").touch()

    with pytest.raises(InputError, match="or the names of videos"):
        find_sources([str(tmp_path)])


def test_a_file_lists_sources_a_line_each(folder: Path) -> None:
    listed = folder / "list.txt"
    listed.write_text(f"{folder / 'b.jpg'}\n\n{folder / 'deep'}\n{folder / 'b.jpg'}\n{folder / 'gone.jpg'}\n")

    found = find_sources([f"@{listed}"]).images

    assert found == (folder / "b.jpg", folder / "deep/er/c.jpeg", folder / "gone.jpg")


def test_a_folder_of_a_list_that_is_not_there_is_left_out_with_a_sentence(folder: Path) -> None:
    listed = folder / "list.txt"
    listed.write_text(f"{folder / 'nowhere'}\n{folder / 'b.jpg'}\n")

    with pytest.warns(InputWarning, match="left out: .*nowhere is neither an image file nor a folder"):
        assert find_sources([f"@{listed}"]).images == (folder / "b.jpg",)


def test_a_list_of_nothing_that_is_there_is_refused(folder: Path) -> None:
    with pytest.warns(InputWarning), pytest.raises(InputError, match="nowhere is neither"):
        find_sources(["-"], lines=[str(folder / "nowhere")])


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_list_is_refused(folder: Path, content: str) -> None:
    (folder / "list.txt").write_text(content)

    with pytest.raises(InputError, match="a line each, but there is none"):
        find_sources([f"@{folder / 'list.txt'}"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_in_a_folder_that_cannot_be_read_is_left_out_with_a_sentence(folder: Path) -> None:
    (folder / "deep").chmod(0)

    with pytest.warns(InputWarning, match="left out: cannot read the folder .*deep: Permission denied"):
        assert find_sources([str(folder)]).images == (folder / "a.PNG", folder / "b.jpg")
    (folder / "deep").chmod(0o700)
