"""Look at many images: read ahead in threads, and run those of one size together."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from condetr.data.batch import collate_images
from condetr.errors import InputError
from condetr.inference.pixels import Content, read_source
from condetr.inference.predictor import Predictor
from condetr.inference.sources import ImageSource
from condetr.inference.tiles import DEFAULT_OVERLAP
from condetr.shapes import Detections

A = TypeVar("A")
B = TypeVar("B")

_WAITING_BATCHES = 4
"""How many batches of images may wait for others of their size."""


class Unread(NamedTuple):
    """An image that could not be read."""

    position: int
    """Among the images, from 0."""
    source: ImageSource
    reason: str


class Read(NamedTuple):
    """An image, ready to be looked at."""

    position: int
    source: ImageSource
    content: Content
    size_hw: tuple[int, int]
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """None where nobody asked for them."""
    resized: UInt8[Tensor, "3 H W"]


class Seen(NamedTuple):
    """An image and everything that is found in it."""

    image: Read
    detections: Detections


@dataclass(frozen=True, kw_only=True)
class Look:
    """How images are looked at."""

    predictor: Predictor
    limit: int = 100
    """The most detections of an image."""
    classes: Sequence[str] | None = None
    tile: int | None = None
    overlap: float = DEFAULT_OVERLAP
    batch_size: int = 1
    """The most images, or tiles of an image, that run together. Only those of one size do: none is padded."""
    readers: int = 0
    """Threads that read images ahead; with 0 each is read when it is needed."""
    keeps_pixels: bool = True
    """Whether images stay in memory until they have been looked at, as their pictures are wanted."""

    def __call__(self, sources: Iterable[ImageSource]) -> Iterator[Seen | Unread]:
        """Yield each image once; in batches not in their order, but in one that depends on them alone."""
        read = partial(_read_or_not, look=self)
        opened = _ahead(read, enumerate(sources), threads=self.readers)
        most = 1 if self.tile is not None else self.batch_size  # the tiles of an image are a batch by themselves
        for group in _of_one_kind(opened, kind=_size_if_read, most=most):
            if isinstance(group[0], Unread):
                yield from (each for each in group if isinstance(each, Unread))
            else:
                images = [each for each in group if isinstance(each, Read)]
                yield from map(Seen, images, self._found(images))

    def read(self, position: int, source: ImageSource) -> Read:
        """Read an image and resize it for the detector; raises InputError if it cannot be read."""
        content, pixels = read_source(source)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return Read(
            position=position,
            source=source,
            content=content if self.keeps_pixels else b"",
            size_hw=pixels.shape[:2],
            pixels=pixels if self.keeps_pixels else None,
            resized=image if self.tile is not None else self.predictor.resized(image),
        )

    def _found(self, images: Sequence[Read]) -> list[Detections]:
        if self.tile is not None:
            look = partial(self.predictor, threshold=0.0, limit=self.limit, classes=self.classes)
            cut = partial(look, tile=self.tile, overlap=self.overlap, batch_size=self.batch_size)
            return [cut(each.resized).alone() for each in images]
        batch = collate_images([each.resized for each in images], original_sizes_hw=[each.size_hw for each in images])
        labels = None if self.classes is None else self.predictor.label_map.labels_of(self.classes)
        return self.predictor.predict_batch(batch, limit=self.limit, labels=labels)


def _read_or_not(numbered: tuple[int, ImageSource], *, look: Look) -> Read | Unread:
    try:
        return look.read(*numbered)
    except InputError as error:
        return Unread(*numbered, str(error))


def _size_if_read(image: Read | Unread) -> Hashable:
    return None if isinstance(image, Unread) else tuple(image.resized.shape)


def _ahead(work: Callable[[A], B], items: Iterable[A], *, threads: int) -> Iterator[B]:
    """Yield `work` of each item in their order, begun ahead in threads, at most two for each."""
    if threads == 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        begun: deque[Future[B]] = deque()
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == 2 * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _of_one_kind(items: Iterable[A], *, kind: Callable[[A], Hashable], most: int) -> Iterator[list[A]]:
    """Yield items of one kind together, at most `most` at once; what has waited longest goes when too many wait."""
    waiting: dict[Hashable, list[A]] = defaultdict(list)
    for item in items:
        group = waiting[kind(item)]
        group.append(item)
        if len(group) == most:
            yield waiting.pop(kind(item))
        elif sum(map(len, waiting.values())) > _WAITING_BATCHES * most:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()
