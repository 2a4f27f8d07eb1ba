"""Sizes that a detection transformer can have; settings beyond them are refused before anything is built."""

from typing import Annotated

from pydantic import Field

from condetr.errors import InputError

Queries = Annotated[int, Field(ge=1, le=10_000)]
Width = Annotated[int, Field(ge=1, le=8192)]
Heads = Annotated[int, Field(ge=1, le=128)]
EncoderLayers = Annotated[int, Field(ge=0, le=64)]
DecoderLayers = Annotated[int, Field(ge=1, le=64)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Groups = Annotated[int, Field(ge=1, le=64)]


def require_divisible(dim: int, *, num_heads: int) -> None:
    """Raise InputError if the channels cannot be shared by the heads, or by sine and cosine of x and y."""
    if dim % num_heads or dim % 4:
        raise InputError(f"detector.dim must be a multiple of 4 and of detector.num_heads, got {dim} and {num_heads}")
