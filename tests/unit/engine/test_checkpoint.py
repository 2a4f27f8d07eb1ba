import numpy as np
import pytest

from condetr.engine.checkpoint import _packed, _unpacked
from condetr.shapes import Detections


def detections(*sources: int, known: bool = True) -> Detections:
    count = len(sources)
    return Detections(
        boxes_xyxy=np.arange(4 * count, dtype=np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32),
        labels=np.arange(count) % 2,
        names=tuple("ab"[index % 2] for index in range(count)),
        sources=np.array(sources, np.int64) if known else None,
    )


@pytest.mark.parametrize("known", [True, False])
def test_detections_come_back_as_they_were(known: bool) -> None:  # noqa: FBT001
    found = {7: detections(4, 0, 4, known=known), 3: detections(known=known)}

    back = _unpacked(_packed(found), names=("a", "b"))

    assert list(back) == [7, 3]
    for image_id, each in found.items():
        np.testing.assert_array_equal(back[image_id].boxes_xyxy, each.boxes_xyxy)
        assert back[image_id].names == each.names
        if known:
            np.testing.assert_array_equal(back[image_id].sources, each.sources)
        else:
            assert back[image_id].sources is None
