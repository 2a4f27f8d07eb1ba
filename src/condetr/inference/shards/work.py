"""Look at the images of a shard, and write what is found."""

from collections.abc import Callable
from pathlib import Path

from condetr.inference.look import Look, Unread
from condetr.inference.predictor import Predictor
from condetr.inference.rows import ImageRow, encoded
from condetr.inference.shards.job import Done, Folder, Job, Shard
from condetr.inference.sources import ImageSource
from condetr.storage.remote import is_remote

READERS = 4
"""Threads of a process that read images ahead, while its detector computes."""


class Worker:
    """A detector that does shards, one after the other; its memory does not grow with their number."""

    def __init__(self, predictor: Predictor, job: Job, folder: Folder) -> None:
        self.job = job
        self.folder = folder
        self.label_map = predictor.label_map
        self.look = Look(
            predictor=predictor,
            limit=job.limit,
            classes=job.classes,
            tile=job.tile,
            overlap=job.overlap,
            batch_size=job.batch_size,
            readers=READERS,
            keeps_pixels=False,
        )

    def do(self, shard: Shard, *, advance: Callable[[], object] = lambda: None) -> Done:
        """Do a shard; `advance` is called after each image. Raises RunError if the disk is full.

        Batches never reach over the end of a shard, so that its content depends on its own images alone.
        """
        rows: list[ImageRow] = []
        unread: list[Unread] = []
        for each in self.look(map(_file_or_address, shard.sources)):
            advance()
            if isinstance(each, Unread):
                unread.append(each)
            else:
                image, found = each
                found = found.above(self.job.min_score)
                rows.append(ImageRow(shard.first + image.position, image.source, image.size_hw, found))
        rows.sort(key=lambda row: row.position)
        content = encoded(rows, self.job.format, label_map=self.label_map, limit=self.job.limit)
        done = Done(
            number=shard.number,
            images=len(rows),
            objects=sum(len(row.detections) for row in rows),
            bytes=len(content),
            errors=[[str(each.source), each.reason] for each in sorted(unread)],
        )
        self.folder.put(done, content)
        return done


def _file_or_address(source: str) -> ImageSource:
    return source if is_remote(source) else Path(source)
