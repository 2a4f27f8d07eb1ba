from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from condetr.data.dataset import ImageRecord, Split
from condetr.data.loader import eval_loader, train_loader
from condetr.data.splits import hold_out
from condetr.data.transforms import LightTransformConfig
from condetr.labels import Category, LabelMap

KEEP = LightTransformConfig().build_eval()


def split_of(portraits: list[bool]) -> Split:
    """Images that are never read."""
    records = tuple(
        ImageRecord(
            image_id=position,
            path=Path(f"/images/{position * 7919 % 101}.png"),
            size_hw=(9, 5) if is_portrait else (5, 9),
            boxes_xyxy=np.zeros((0, 4)),
            labels=np.zeros(0, dtype=np.int64),
            is_crowd=np.zeros(0, dtype=np.bool_),
            areas=np.zeros(0),
        )
        for position, is_portrait in enumerate(portraits)
    )
    return Split(name="train", records=records, label_map=LabelMap((Category(1, "a"),)))


orientations = st.lists(st.booleans(), min_size=6, max_size=40)


@given(orientations, st.integers(1, 3), st.integers(1, 2), st.integers(0, 5), st.integers(0, 1))
def test_processes_divide_an_epoch_into_equal_disjoint_shares(
    portraits: list[bool], batch_size: int, world_size: int, epoch: int, group: int
) -> None:
    split = split_of(portraits)
    loaders = [
        train_loader(
            split,
            KEEP,
            batch_size=batch_size,
            seed=3,
            group_by_aspect=bool(group),
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    shares = [loader.batch_positions(epoch) for loader in loaders]
    positions = [position for share in shares for batch in share for position in batch]

    assert all(len(share) == len(loader) for share, loader in zip(shares, loaders, strict=True))
    assert all(len(batch) == batch_size for share in shares for batch in share)
    assert len(positions) == len(set(positions)) == len(split) // (batch_size * world_size) * batch_size * world_size


@given(orientations, st.integers(1, 3))
def test_at_most_what_is_left_at_the_end_mixes_landscape_and_portrait(portraits: list[bool], batch_size: int) -> None:
    split = split_of(portraits)
    loader = train_loader(split, KEEP, batch_size=batch_size, seed=3, group_by_aspect=True)
    shapes = [{split.records[index].size_hw for index in batch} for batch in loader.batch_positions(0)]

    assert sum(len(shape) > 1 for shape in shapes) <= 1


@given(orientations, st.integers(1, 4), st.integers(1, 5))
def test_evaluation_shares_cover_the_split_once(portraits: list[bool], batch_size: int, world_size: int) -> None:
    split = split_of(portraits)
    loaders = [
        eval_loader(split, KEEP, batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)
    ]

    assert sorted(index for loader in loaders for batch in loader.batches for index in batch) == list(range(len(split)))


@given(orientations, st.floats(0.01, 0.99), st.integers(0, 100))
def test_held_out_images_and_the_rest_are_the_whole_whatever_their_order(
    portraits: list[bool], fraction: float, seed: int
) -> None:
    split = split_of(portraits)
    train, val = hold_out(split, fraction=fraction, seed=seed)
    turned = Split(name=split.name, records=split.records[::-1], label_map=split.label_map)
    _, val_of_turned = hold_out(turned, fraction=fraction, seed=seed)

    assert sorted(record.image_id for record in (*train.records, *val.records)) == list(range(len(split)))
    assert train.records
    assert val.records
    assert {record.image_id for record in val.records} == {record.image_id for record in val_of_turned.records}
