"""Endings of the names of image files, as far as this build of PIL reads them."""

from PIL import features


def _is_built_in(codec: str) -> bool:
    known = codec in features.modules or codec in features.codecs  # PIL warns when asked for what it does not know
    return known and bool(features.check(codec))


_SUFFIXES_OF_CODECS = {
    "webp": (".webp",),
    "avif": (".avif", ".avifs"),
    "jpg_2000": (".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c"),
}
LACKING = {
    suffix: codec for codec, suffixes in _SUFFIXES_OF_CODECS.items() if not _is_built_in(codec) for suffix in suffixes
}
"""File name endings that this build of PIL cannot read, and the codec that each would take."""

SUFFIXES = (
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff"})
    | frozenset({".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi"})
    | frozenset(suffix for suffixes in _SUFFIXES_OF_CODECS.values() for suffix in suffixes)
) - frozenset(LACKING)
"""File name endings, in lower case, by which folders are searched for images."""
