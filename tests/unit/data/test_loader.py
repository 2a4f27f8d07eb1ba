from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from condetr.data.batch import Batch
from condetr.data.dataset import Split
from condetr.data.dense import Dense, DenseConfig
from condetr.data.loader import TrainLoader, eval_loader, train_loader
from condetr.data.transforms import LightTransformConfig
from condetr.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # workers, from Python 3.12 on

AUGMENT = LightTransformConfig(vertical_flip=0.5, scale=(0.7, 1.4), brightness=0.3)


def ids(batches: Iterable[Batch]) -> list[tuple[int, ...]]:
    return [batch.image_ids for batch in batches]


def assert_same(first: Iterable[Batch], second: Iterable[Batch]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.image_ids == other.image_ids
        torch.testing.assert_close(one.normalised(), other.normalised())
        torch.testing.assert_close(one.targets[:2], other.targets[:2])
        assert one.targets.counts == other.targets.counts


def test_an_epoch_is_the_same_whenever_and_with_however_many_workers_it_is_read(split: Split) -> None:
    alone = train_loader(split, AUGMENT.build_train(), batch_size=4, seed=1)
    shared = train_loader(split, AUGMENT.build_train(), batch_size=4, seed=1, workers=2)

    expected = list(alone.epoch(3))
    assert_same(expected, alone.epoch(3))
    assert len(list(shared.epoch(0))) == 3
    assert_same(expected, shared.epoch(3))


def dense_loader(split: Split, *, workers: int = 0, most_targets: int | None = None) -> TrainLoader:
    """Return a loader with every augmentation."""
    transform = replace(AUGMENT, dense=DenseConfig(mosaic=0.5, zoom_out=0.5, iou_crop=0.8, mixup=0.3, copy_blend=0.7))
    assert transform.dense is not None
    dense = Dense(config=transform.dense, stages=transform.build_stages(), most_targets=most_targets)
    return train_loader(split, transform.build_train(), batch_size=4, seed=1, workers=workers, dense=dense)


def test_a_dense_epoch_is_the_same_whenever_and_from_any_batch_on(split: Split) -> None:
    alone, shared = dense_loader(split), dense_loader(split, workers=2)
    for epoch in range(3):
        expected = list(alone.epoch(epoch, phase_of=lambda _: "mixed"))
        assert_same(expected[2:], shared.epoch(epoch, start_batch=2, phase_of=lambda _: "mixed"))
    assert max(sum(batch.targets.counts) for batch in expected) > 4


def test_the_phase_of_a_batch_decides_what_it_sees(split: Split) -> None:
    loader = dense_loader(split)
    plain = train_loader(split, LightTransformConfig(vertical_flip=0.5).build_train(), batch_size=4, seed=1)
    by_batch = ["clean", "mixed", "unmixed"]
    for epoch in range(2):
        found = list(loader.epoch(epoch, phase_of=lambda batch: by_batch[batch]))  # type: ignore[arg-type, return-value]
        assert [batch.sizes_hw for batch in found[:1]] == [batch.sizes_hw for batch in plain.epoch(epoch)][:1]
        assert found[0].targets.counts == (1, 1, 1, 1)
    assert_same(loader.epoch(0), train_loader(split, AUGMENT.build_train(), batch_size=4, seed=1).epoch(0))


def test_no_image_gets_partners_beyond_half_of_the_queries(split: Split) -> None:
    for most in (1, 2, 5):
        batches = [
            batch
            for epoch in range(6)
            for batch in dense_loader(split, most_targets=most).epoch(epoch, phase_of=lambda _: "mixed")
        ]
        assert max(max(batch.targets.counts) for batch in batches) <= most


def test_an_epoch_goes_on_from_any_batch(split: Split) -> None:
    loader = train_loader(split, AUGMENT.build_train(), batch_size=4, seed=1)

    assert_same(list(loader.epoch(2))[1:], loader.epoch(2, start_batch=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_early_does_not_disturb_the_next(split: Split, workers: int) -> None:
    loader = train_loader(split, AUGMENT.build_train(), batch_size=2, seed=1, workers=workers)
    expected = list(loader.epoch(1))
    next(loader.epoch(0))

    assert_same(expected, loader.epoch(1))


def test_seeds_and_epochs_differ_in_order_and_augmentation(split: Split) -> None:
    loader = train_loader(split, AUGMENT.build_train(), batch_size=12, seed=1)
    other = train_loader(split, AUGMENT.build_train(), batch_size=12, seed=2)

    assert len({tuple(ids(batches)) for batches in (loader.epoch(0), loader.epoch(1), other.epoch(0))}) == 3


def test_every_image_comes_once_an_epoch_and_an_incomplete_batch_is_left_out(split: Split) -> None:
    loader = train_loader(split, AUGMENT.build_train(), batch_size=5, seed=1)
    seen = [image_id for batch in loader.epoch(0) for image_id in batch.image_ids]

    assert len(loader) == 2
    assert len(seen) == len(set(seen)) == 10


def test_crowd_regions_are_no_targets(split: Split) -> None:
    (batch,) = train_loader(split, AUGMENT.build_eval(), batch_size=12, seed=1).epoch(0)

    assert batch.targets.labels.tolist() == [[1]] * 12


def test_processes_get_disjoint_and_equal_shares(split: Split) -> None:
    shares = [
        ids(train_loader(split, AUGMENT.build_train(), batch_size=2, seed=1, rank=rank, world_size=3).epoch(0))
        for rank in range(3)
    ]

    assert [len(share) for share in shares] == [2, 2, 2]
    assert len({image_id for share in shares for batch in share for image_id in batch}) == 12


def test_landscape_and_portrait_images_come_in_batches_of_their_own(split: Split) -> None:
    loader = train_loader(split, AUGMENT.build_eval(), batch_size=4, seed=1, group_by_aspect=True)
    batches = list(loader.epoch(0))

    assert len(batches) == len(loader) == 3
    assert sorted(batch.is_padding.any().item() for batch in batches) == [False, False, False]


def test_grouping_by_aspect_loses_no_batch(split: Split) -> None:
    for batch_size in (1, 2, 3, 5, 7):
        loader = train_loader(split, AUGMENT.build_train(), batch_size=batch_size, seed=0, group_by_aspect=True)
        assert len(list(loader.epoch(0))) == len(loader) == 12 // batch_size


def test_cached_images_replace_their_files(split: Split) -> None:
    loader = train_loader(split, AUGMENT.build_train(), batch_size=4, seed=1, cache_mb=1)
    expected = list(loader.epoch(0))
    for record in split.records:
        record.path.unlink()

    assert_same(expected, loader.epoch(0))


def test_without_a_cache_a_vanished_image_is_an_input_error_also_in_workers(split: Split) -> None:
    split.records[0].path.unlink()
    for workers in (0, 1):
        loader = train_loader(split, AUGMENT.build_train(), batch_size=12, seed=1, workers=workers)
        with pytest.raises(InputError, match=r"^the image .*0\.png does not exist$"):
            list(loader.epoch(0))


def test_fewer_images_than_a_batch_is_refused_with_the_largest_possible_size(split: Split) -> None:
    with pytest.raises(InputError, match=r"12 images, fewer than one batch of 14 .* at most 6"):
        train_loader(split, AUGMENT.build_train(), batch_size=7, seed=1, world_size=2)


def test_fewer_images_than_processes_is_refused(split: Split) -> None:
    with pytest.raises(InputError, match="use fewer processes"):
        train_loader(split, AUGMENT.build_train(), batch_size=1, seed=1, world_size=13)


def test_loading_draws_nothing_from_the_global_random_state(split: Split) -> None:
    before = torch.get_rng_state()
    list(train_loader(split, AUGMENT.build_train(), batch_size=4, seed=1, workers=1).epoch(0))
    list(dense_loader(split).epoch(0, phase_of=lambda _: "mixed"))

    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_sees_every_image_once_and_in_order(split: Split) -> None:
    loader = eval_loader(split, AUGMENT.build_eval(), batch_size=5)

    assert len(loader) == 3
    assert ids(loader) == ids(loader) == [tuple(range(100, 105)), tuple(range(105, 110)), (110, 111)]


def test_processes_share_evaluation_without_repetition(split: Split) -> None:
    loaders = [eval_loader(split, AUGMENT.build_eval(), rank=rank, world_size=5) for rank in range(5)]

    assert [len(loader) for loader in loaders] == [3, 3, 2, 2, 2]
    assert sorted(image_id for loader in loaders for batch in ids(loader) for image_id in batch) == list(
        range(100, 112)
    )
