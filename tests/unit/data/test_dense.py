import random
from typing import Any

import pytest
import torch

from condetr.config import override
from condetr.data.batch import Sample
from condetr.data.dense import Dense, DenseConfig
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig
from condetr.errors import InputError

ALL = DenseConfig(mosaic=0.5, zoom_out=0.5, iou_crop=0.8, mixup=0.5, copy_blend=0.5)


def read(position: int) -> Sample:
    """Return an image of a size and with objects of its own."""
    generator = torch.Generator().manual_seed(position)
    height, width = 30 + 7 * position, 64 - 5 * position
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    boxes_xyxy = torch.tensor([[3.0, 4.0, 20.0, 25.0], [10.0, 2.0, 29.0, 15.0]])
    return Sample(image, boxes_xyxy, torch.tensor([position, 9]), position, (height, width))


def dense(transform: Any = LightTransformConfig(), *, config: DenseConfig = ALL, most: int | None = None) -> Dense:  # noqa: ANN401, B008
    return Dense(config=config, stages=transform.build_stages(), most_targets=most)


def sampled(augmentation: Dense, position: int, seed: int, *, phase: Any = "mixed") -> Sample:  # noqa: ANN401
    return augmentation.sample(position, random.Random(seed), phase=phase, read=read, counts=[2] * 5)


def test_the_parts_of_a_training_follow_the_published_table() -> None:
    epochs = 60  # 4 clean, mosaic and mixup to 4 + 60 / 2, the last 2 clean
    config = DenseConfig(start=4 / epochs, mix_until=34 / epochs, end=58 / epochs)
    found = [config.phase(10 * epoch, steps=10 * epochs) for epoch in range(epochs)]
    assert found == ["clean"] * 4 + ["mixed"] * 30 + ["unmixed"] * 24 + ["clean"] * 2
    assert config.phase(580, steps=600) == "clean"
    assert config.phase(579, steps=600) == "unmixed"


def test_parts_in_another_order_are_refused() -> None:
    with pytest.raises(InputError, match=r"must follow one another: start, mix_until, end; got 0\.05, 0\.96, 0\.95"):
        override(LightTransformConfig(), ["dense.mix_until=0.96"])


@pytest.mark.parametrize("size_hw", [None, (48, 64)])
def test_images_keep_the_size_at_which_they_are_seen(size_hw: tuple[int, int] | None) -> None:
    transform = LightTransformConfig(size_hw=size_hw)
    for position in range(5):
        limit = size_hw or read(position).original_size_hw
        for seed in range(20):
            found = sampled(dense(transform), position, seed)
            height, width = found.image.shape[1:]
            assert height <= limit[0]
            assert width <= limit[1]
            assert height == limit[0] or width == limit[1]
            assert found.image_id == position
            assert found.original_size_hw == read(position).original_size_hw


def test_the_paper_sizes_are_kept_too() -> None:
    transform = PaperTransformConfig(short_sides=(32, 40), max_side=60, crop_short_sides=(24,), eval_short_side=48)
    for seed in range(30):
        height, width = sampled(dense(transform), 1, seed).image.shape[1:]
        assert min(height, width) in (32, 40) or max(height, width) in (59, 60)


def test_clean_images_are_flipped_and_resized_only() -> None:
    transform = LightTransformConfig(size_hw=(48, 64), scale=(0.5, 2.0), brightness=0.9, hue=0.5)
    plain = LightTransformConfig(size_hw=(48, 64)).build_eval()(read(2), random.Random(0))
    for seed in range(10):
        found = sampled(dense(transform), 2, seed, phase="clean")
        assert torch.equal(found.image, plain.image) or torch.equal(found.image.flip(2), plain.image)


def test_after_the_mixed_part_images_are_alone() -> None:
    for seed in range(30):
        labels = set(sampled(dense(), 3, seed, phase="unmixed").labels.tolist())
        assert labels <= {3, 9}
    batch = [read(0), read(1)]
    always = dense(config=DenseConfig(mixup=1.0))
    assert always.batch(batch, random.Random(0), phase="unmixed") == batch
    assert len(always.batch(batch, random.Random(0), phase="mixed")[0].labels) == 4


def test_a_mosaic_with_more_targets_than_allowed_is_not_made() -> None:
    mosaics = DenseConfig(mosaic=1.0)
    for seed in range(10):
        assert len(set(sampled(dense(config=mosaics, most=7), 0, seed).labels.tolist()) - {9, 0}) == 0
    assert any(len(sampled(dense(config=mosaics, most=8), 0, seed).labels) > 2 for seed in range(10))
