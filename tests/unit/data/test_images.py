import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, features

from condetr.data.images import ImageHeader, read_headers, read_image, to_rgb, warn_of_frames
from condetr.data.index import LACKING, SUFFIXES
from condetr.errors import InputError, InputWarning

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def save(path: Path, **options: Any) -> Path:  # noqa: ANN401
    Image.fromarray(PIXELS).save(path, **options)
    return path


def save_turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return save(path, exif=exif)


def cut(path: Path, *, keep: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def test_lossless_pixels_arrive_unchanged(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png"))

    torch.testing.assert_close(image, torch.from_numpy(PIXELS).permute(2, 0, 1))


def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path: Path) -> None:
    path = save_turned(tmp_path / "a.png")

    assert read_image(path).shape == (3, 64, 48)
    assert read_headers([path]) == [ImageHeader(size_hw=(64, 48), is_turned=True)]


FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("a.jpg", {}),
    "png": ("a.png", {}),
    "webp": ("a.webp", {"lossless": True}),
    "tiff": ("a.tif", {}),
    "compressed tiff": ("a.tif", {"compression": "tiff_lzw"}),
}


def save_as(kind: str, folder: Path, *, orientation: int) -> Path:
    name, options = FORMATS[kind]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    folder.mkdir(exist_ok=True)
    return save(folder / name, **options, exif=exif)


def upright(stored: np.ndarray, *, orientation: int) -> np.ndarray:
    """Turn rows and columns as the table of the EXIF standard says where row 0 and column 0 are."""
    if orientation >= 5:
        stored = stored.transpose(1, 0, 2)
    mirrored_rows, mirrored_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return stored[:: -1 if mirrored_rows else 1, :: -1 if mirrored_columns else 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_header_and_pixels_agree_on_every_orientation_in_every_format(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    stored = read_image(save_as(kind, tmp_path / "stored", orientation=1)).permute(1, 2, 0).numpy()
    path = save_as(kind, tmp_path / "turned", orientation=orientation)

    pixels = read_image(path).permute(1, 2, 0).numpy()

    np.testing.assert_array_equal(pixels, upright(stored, orientation=orientation))
    assert read_headers([path]) == [ImageHeader(size_hw=pixels.shape[:2], is_turned=orientation >= 5)]


@pytest.mark.parametrize("kind", FORMATS)
def test_an_opened_and_a_loaded_image_are_turned_once(tmp_path: Path, kind: str) -> None:
    path = save_as(kind, tmp_path, orientation=6)
    for is_loaded in (False, True):
        with Image.open(path) as image:
            if is_loaded:
                image.load()
            np.testing.assert_array_equal(np.array(to_rgb(image)), read_image(path).permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_broken_exif_data_are_passed_over_by_header_and_pixels(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, exif=b"Exif\0\0no EXIF data")

    assert read_headers([path]) == [ImageHeader(size_hw=(48, 64), is_turned=False)]
    assert read_image(path).shape == (3, 48, 64)


def test_exif_data_that_cannot_be_written_again_do_not_hide_the_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = 72.0
    fraction, text = b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02"
    path = save(tmp_path / "a.png", exif=exif.tobytes().replace(fraction, text))

    assert read_headers([path]) == [ImageHeader(size_hw=(64, 48), is_turned=True)]
    assert read_image(path).shape == (3, 64, 48)


def test_sixteen_bit_grey_is_scaled_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 256 * 100, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")

    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 100, 255]]


def test_sixteen_bit_grey_is_turned_as_its_exif_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.array([[0, 256 * 100, 65535]], dtype=np.uint16)).save(tmp_path / "a.png", exif=exif)

    assert read_image(tmp_path / "a.png")[0].tolist() == [[0], [100], [255]]
    assert read_headers([tmp_path / "a.png"]) == [ImageHeader(size_hw=(3, 1), is_turned=True, is_16_bit=True)]


def test_colours_of_sixteen_bits_are_scaled_and_known_by_the_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + np.array([0, 256 * 100, 65535], dtype=">u2").tobytes())
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in chunks)
    )

    assert read_image(tmp_path / "a.png").flatten().tolist() == [0, 100, 255]
    assert read_headers([tmp_path / "a.png"]) == [ImageHeader(size_hw=(1, 1), is_turned=False, is_16_bit=True)]


def test_floating_point_pixels_are_refused_by_header_and_when_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)).save(tmp_path / "a.tiff")

    assert "floating-point pixels" in str(read_headers([tmp_path / "a.tiff"])[0])
    with pytest.raises(InputError, match=r"a\.tiff has floating-point pixels"):
        read_image(tmp_path / "a.tiff")


def test_integers_of_no_known_range_are_refused_by_header_and_when_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[20, 120, 250]], dtype=np.int32)).save(tmp_path / "a.tiff")

    assert "32-bit integer pixels" in str(read_headers([tmp_path / "a.tiff"])[0])
    with pytest.raises(InputError, match=r"a\.tiff has signed or 32-bit integer pixels, .* convert it to 8 bits"):
        read_image(tmp_path / "a.tiff")


def test_an_array_of_32_bits_is_refused_as_an_image_in_memory() -> None:
    with pytest.raises(InputError, match="32-bit integer pixels"):
        to_rgb(Image.fromarray(np.array([[20, 120, 250]], dtype=np.int32)))


def test_twelve_bits_are_scaled_where_the_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + np.array([0, 2048, 4095], dtype=">u2").tobytes())

    assert read_image(tmp_path / "a.pgm")[0].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "a.tiff")

    pixels = np.asarray(to_rgb(Image.open(tmp_path / "a.tiff")))
    np.testing.assert_array_equal(pixels, read_image(tmp_path / "a.tiff").permute(1, 2, 0))
    np.testing.assert_allclose(pixels.mean(), PIXELS.mean(), atol=8)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_keep_their_colour(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (90, 90, 90, 0)).convert(mode)
    image.save(tmp_path / "a.png", transparency=bytes(256) if mode == "P" else None)

    np.testing.assert_allclose(read_image(tmp_path / "a.png"), 90, atol=12)  # a palette has coarse colours
    assert to_rgb(Image.open(tmp_path / "a.png")).mode == "RGB"


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.webp", "a.png"])
def test_of_several_frames_the_first_is_read(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    first.save(tmp_path / name, save_all=True, append_images=[second])

    assert read_image(tmp_path / name)[:, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert read_headers([tmp_path / name])[0] == ImageHeader((48, 64), is_turned=False, has_more_frames=True)
    with pytest.warns(InputWarning, match=f"1 image with several pages or frames, of which only the first .*{name}"):
        warn_of_frames([save(tmp_path / "one.png"), tmp_path / name])


def test_the_second_picture_of_a_phone_is_no_page(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])

    assert read_headers([tmp_path / "a.jpg"]) == [ImageHeader((48, 64), is_turned=False)]
    warn_of_frames([tmp_path / "a.jpg"])


@pytest.mark.parametrize("suffix", sorted(SUFFIXES & Image.registered_extensions().keys()))
def test_every_ending_can_be_read(tmp_path: Path, suffix: str) -> None:
    if Image.registered_extensions()[suffix] not in Image.SAVE:
        pytest.skip(f"PIL does not write {suffix}")
    path = save(tmp_path / f"a{suffix}")

    assert read_headers([path]) == [ImageHeader((48, 64), is_turned=False)]
    assert read_image(path).shape == (3, 48, 64)


def test_a_codec_that_is_not_built_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LACKING, ".avif", "avif")
    (tmp_path / "a.avif").write_bytes(b"as good as unknown")

    with pytest.raises(
        InputError, match=r"a\.avif cannot be read as an image: this build of Pillow lacks avif; install"
    ):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_image_is_found_by_its_header_and_when_read(tmp_path: Path, name: str) -> None:
    path = cut(save(tmp_path / name))

    (header,) = read_headers([path])
    assert isinstance(header, InputError)
    assert name in str(header)
    with pytest.raises(InputError, match=name):
        read_image(path)


@pytest.mark.parametrize("tail", [10, 200_000])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_bytes_behind_the_end_of_an_image_are_tolerated(tmp_path: Path, name: str, tail: int) -> None:
    path = save(tmp_path / name)
    path.write_bytes(path.read_bytes() + b"x" * tail)

    assert read_headers([path]) == [ImageHeader(size_hw=(48, 64), is_turned=False)]


def test_the_end_mark_of_an_embedded_thumbnail_is_not_the_end_of_the_image(tmp_path: Path) -> None:
    path = cut(save(tmp_path / "a.jpg", comment=b"thumbnail \xff\xd9"))

    assert isinstance(read_headers([path])[0], InputError)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)

    assert isinstance(read_headers([path])[0], InputError)
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        read_image(path)


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow lacks avif")
def test_damaged_avif_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.avif")
    content = bytearray(path.read_bytes())
    pixels = content.index(b"mdat") + 4
    content[pixels : pixels + 36] = bytes(36)
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"a\.avif cannot be read as an image"):
        read_image(path)


def test_a_damaged_second_frame_does_not_hide_the_first(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=100)
    content = bytearray((tmp_path / "a.gif").read_bytes())
    content[content.rindex(b"\x21\xf9") + 2] = 1  # a block of one byte where four belong
    (tmp_path / "a.gif").write_bytes(content)

    assert read_headers([tmp_path / "a.gif"]) == [ImageHeader((48, 64), is_turned=False, has_more_frames=True)]


def test_a_missing_image_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("limit", [100, 2000])
def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)

    assert "pixels" in str(read_headers([path])[0])
    with pytest.raises(InputError, match="pixels"):
        read_image(path)
