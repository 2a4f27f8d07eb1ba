from collections.abc import Callable

import numpy as np
import pytest
import torch

from condetr.data.batch import Batch, Sample, collate
from condetr.errors import InputError
from condetr.inference.detect import detect
from condetr.inference.model_folder import LoadedModel
from condetr.shapes import Detections, Targets


def batch_of(*image_ids: int) -> Batch:
    generator = torch.Generator().manual_seed(sum(image_ids))
    return collate(
        [
            Sample(
                image=torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=generator),
                boxes_xyxy=torch.zeros(0, 4),
                labels=torch.zeros(0, dtype=torch.int64),
                image_id=image_id,
                original_size_hw=(48, 64),
            )
            for image_id in image_ids
        ]
    )


def run(
    tiny: LoadedModel, batches: list[Batch], *, limit: int = 100, progress: Callable[[int], None] | None = None
) -> dict[int, Detections]:
    return detect(
        tiny.detector,
        batches,
        label_map=tiny.label_map,
        device="cpu",
        limit=limit,
        progress=progress,
    )


def test_detections_come_by_image_id(tiny: LoadedModel) -> None:
    found = run(tiny, [batch_of(4, 9), batch_of(2)], limit=3)

    assert list(found) == [4, 9, 2]
    assert [len(each) for each in found.values()] == [3, 3, 3]


def test_progress_counts_images(tiny: LoadedModel) -> None:
    counts: list[int] = []

    run(tiny, [batch_of(4, 9), batch_of(2)], progress=counts.append)

    assert counts == [2, 1]


@pytest.mark.parametrize("training", [True, False])
def test_the_detector_runs_in_evaluation_mode_and_gets_its_mode_back(tiny: LoadedModel, *, training: bool) -> None:
    tiny.detector.train(training)

    first, second = run(tiny, [batch_of(1)]), run(tiny, [batch_of(1)])

    assert (first[1].scores == second[1].scores).all()
    assert all(module.training == training for module in tiny.detector.modules())


def test_no_batches_give_nothing(tiny: LoadedModel) -> None:
    assert run(tiny, []) == {}


def test_each_image_has_its_own_size(tiny: LoadedModel) -> None:
    alike = batch_of(4)
    batch = Batch(
        pixels=torch.cat([alike.pixels] * 2),
        is_padding=torch.cat([alike.is_padding] * 2),
        sizes_hw=alike.sizes_hw * 2,
        targets=Targets.none(2),
        image_ids=(1, 2),
        original_sizes_hw=((48, 64), (24, 16)),
    )
    found = run(tiny, [batch])
    np.testing.assert_allclose(found[1].boxes_xyxy, found[2].boxes_xyxy * [4, 2, 4, 2], rtol=1e-5)


def test_a_limit_below_none_is_refused(tiny: LoadedModel) -> None:
    with pytest.raises(InputError, match="got -1"):
        run(tiny, [batch_of(1)], limit=-1)
