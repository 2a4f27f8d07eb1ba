"""Pages of the attention explorer beside the report: of the images that the best model does best and worst on."""

from collections.abc import Mapping, Sequence

from condetr.data.dataset import ImageRecord
from condetr.data.images import read_image
from condetr.errors import InputError
from condetr.explain.explorer.page import write_explorer
from condetr.inference.predictor import Predictor
from condetr.runs.folder import RunFolder
from condetr.shapes import Detections

PAGES = 2
ROOM = 4 * 2**20
"""How many pages there are of a kind, and how many bytes the numbers of each may have."""


def write_pages(
    run: RunFolder,
    predictor: Predictor,
    records: Mapping[str, Sequence[ImageRecord]],
    detections: Mapping[int, Detections],
    *,
    threshold: float,
) -> dict[int, str]:
    """Write a page for the first images of each kind and return where it lies, relative to the run, by image id.

    Where nothing scores at least `threshold`, the page shows what scores highest. Images without any detection, or that
    cannot be read, are skipped. Pages of an earlier report are replaced. There are none of a model that cannot be
    explained.
    """
    for old in (page for kind in records for page in run.explorer.glob(f"{kind}-*.html")):
        old.unlink()
    if predictor.detector.looks_at is None:
        return {}
    found: dict[int, str] = {}
    for kind, images in records.items():
        some = [record for record in images if len(detections.get(record.image_id, ()))]
        for number, record in enumerate(some[:PAGES], start=1):
            page = run.explorer / f"{kind}-{number}.html"
            # Detections may have been made in batches, whose padding changes scores a little.
            at_least = min(threshold, 0.9 * float(detections[record.image_id].scores[0]))
            try:
                write_explorer(
                    page,
                    predictor,
                    read_image(record.path).permute(1, 2, 0).numpy(),
                    model=run.path.resolve().name,
                    image=record.path.name,
                    threshold=at_least,
                    room=ROOM,
                )
            except InputError:
                continue
            found[record.image_id] = page.relative_to(run.path).as_posix()
    return found
