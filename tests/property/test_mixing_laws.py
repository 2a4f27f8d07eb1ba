import math
import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.data.batch import Sample
from condetr.data.mixing import affine, copy_blend, iou_crop, mixup, mosaic, zoom_out

seeds = st.integers(0, 10_000)
FEW = st.integers(0, 4)
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


@st.composite
def marked(draw: st.DrawFn, *, least: int = 16, colour: tuple[int, int, int] = COLOURS[-1], label: int = 0) -> Sample:
    """A black image with one box of a colour."""
    height, width = draw(st.integers(least, 60)), draw(st.integers(least, 60))
    (x1, x2), (y1, y2) = (
        (draw(st.integers(0, side // 2)), draw(st.integers(side // 2 + 4, side))) for side in (width, height)
    )
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    box = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32)
    return Sample(image, box, torch.tensor([label]), label, (height, width))


@st.composite
def placed(draw: st.DrawFn, *, boxes: st.SearchStrategy[int] = FEW) -> Sample:
    """An image whose pixels say where they are: red is x, green is y, blue is noise."""
    height, width = draw(st.integers(8, 60)), draw(st.integers(8, 60))
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    generator = torch.Generator().manual_seed(draw(seeds))
    image = torch.stack([xs, ys, torch.randint(0, 256, (height, width), generator=generator)]).to(torch.uint8)
    count = draw(boxes)
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
    return Sample(image, corners.flatten(1), torch.arange(count), 0, (height, width))


def extent_of(colour: tuple[int, int, int], image: torch.Tensor) -> list[float] | None:
    """Return the box around all pixels that are nearer to a colour than half."""
    is_it = (image.float() - torch.tensor(colour).float()[:, None, None]).abs().amax(dim=0) < 100
    rows, columns = torch.nonzero(is_it, as_tuple=True)
    if not len(rows):
        return None
    return [float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1]


@settings(max_examples=40, deadline=None)
@given(samples=st.tuples(*(marked(colour=colour, label=index) for index, colour in enumerate(COLOURS))), seed=seeds)
def test_boxes_of_a_mosaic_enclose_what_they_did(samples: tuple[Sample, ...], seed: int) -> None:
    found = mosaic(samples, random.Random(seed), size_hw=(96, 128))
    assert found.image.shape == (3, 96, 128)
    assert found.image_id == 0
    boxes = dict(zip(found.labels.tolist(), found.boxes_xyxy.tolist(), strict=True))
    for index, colour in enumerate(COLOURS):
        extent = extent_of(colour, found.image)
        if index not in boxes:
            assert extent is None or min(extent[2] - extent[0], extent[3] - extent[1]) <= 3
            continue
        x1, y1, x2, y2 = boxes[index]
        if extent is not None:
            assert (np.subtract(extent, [x1, y1, x2, y2]) * [1, 1, -1, -1] >= -2).all()
        # A turned rectangle that is cut off may not reach the sides of the box around it.
        if min(x1, y1, 128 - x2, 96 - y2) > 1:
            assert extent is not None
            np.testing.assert_allclose(extent, boxes[index], atol=3)


@given(
    sample=placed(),
    degrees=st.floats(-180, 180),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    scale=st.floats(0.5, 1.5),
)
def test_boxes_follow_an_affine_motion(sample: Sample, degrees: float, shift: tuple[int, int], scale: float) -> None:
    found = affine(sample, degrees=degrees, shift_xy=shift, scale=scale)
    height, width = sample.original_size_hw
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    expected, labels = [], []
    for (x1, y1, x2, y2), label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), strict=True):
        corners = []
        for x, y in ((x1, y1), (x2, y1), (x1, y2), (x2, y2)):
            dx, dy = x - width / 2, y - height / 2
            corners.append(
                (
                    min(max(width / 2 + shift[0] + scale * (cosine * dx - sine * dy), 0), width),
                    min(max(height / 2 + shift[1] + scale * (sine * dx + cosine * dy), 0), height),
                )
            )
        box = [*np.min(corners, axis=0), *np.max(corners, axis=0)]
        sides = box[2] - box[0], box[3] - box[1]
        if abs(min(sides) - 1) < 1e-3:  # rounding decides
            return
        if min(sides) >= 1:
            expected.append(box)
            labels.append(label)
    assert found.labels.tolist() == labels
    np.testing.assert_allclose(found.boxes_xyxy.numpy(), np.reshape(expected, (-1, 4)), atol=1e-3)


@given(sample=placed(), seed=seeds)
def test_zooming_out_moves_pixels_and_boxes_alike(sample: Sample, seed: int) -> None:
    found = zoom_out(sample, random.Random(seed))
    height, width = sample.original_size_hw
    assert height <= found.image.shape[1] <= 4 * height
    assert width <= found.image.shape[2] <= 4 * width
    for before, after in zip(sample.boxes_xyxy, found.boxes_xyxy, strict=True):
        left, top, again_left, again_top = (after - before).round().int().tolist()
        assert (left, top) == (again_left, again_top)
        assert torch.equal(found.image[:, top : top + height, left : left + width], sample.image)


@given(sample=placed(), seed=seeds)
def test_a_crop_keeps_the_boxes_whose_centre_it_has(sample: Sample, seed: int) -> None:
    found = iou_crop(sample, random.Random(seed))
    left, top = (int(found.image[channel, 0, 0]) for channel in (0, 1))
    height, width = found.image.shape[1:]
    assert torch.equal(found.image, sample.image[:, top : top + height, left : left + width])
    if (height, width) == sample.original_size_hw:
        return
    expected = []
    for (x1, y1, x2, y2), label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), strict=True):
        if left < (x1 + x2) / 2 < left + width and top < (y1 + y2) / 2 < top + height:
            box = [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height)]
            if min(box[2] - box[0], box[3] - box[1]) >= 1:
                expected.append([label, *box])
    np.testing.assert_allclose(
        torch.cat([found.labels[:, None], found.boxes_xyxy], dim=1).numpy(), np.reshape(expected, (-1, 5)), atol=1e-3
    )


@settings(deadline=None)
@given(samples=st.lists(placed(), min_size=1, max_size=3), seed=seeds, most=st.none() | st.integers(0, 6))
def test_mixup_is_a_weighted_sum_of_neighbours(samples: list[Sample], seed: int, most: int | None) -> None:
    weight = random.Random(seed).uniform(0.45, 0.55)
    for index, found in enumerate(mixup(samples, random.Random(seed), most_targets=most)):
        one, other = samples[index], samples[index - 1]
        if most is not None and len(one.labels) + len(other.labels) > most:
            assert found is one
            continue
        assert found.labels.tolist() == one.labels.tolist() + other.labels.tolist()
        assert found.boxes_xyxy.tolist() == one.boxes_xyxy.tolist() + other.boxes_xyxy.tolist()
        height, width = (max(one.image.shape[axis], other.image.shape[axis]) for axis in (1, 2))
        assert found.image.shape == (3, height, width)
        for y, x in ((0, 0), (height - 1, 0), (0, width - 1), (height - 1, width - 1), (height // 2, width // 2)):
            for channel, plain in enumerate((124, 116, 104)):
                values = [
                    int(each.image[channel, y, x]) if y < each.image.shape[1] and x < each.image.shape[2] else plain
                    for each in (one, other)
                ]
                assert abs(int(found.image[channel, y, x]) - weight * values[0] - (1 - weight) * values[1]) <= 0.51


@given(into=placed(), source=placed(boxes=st.just(1)), seed=seeds)
def test_a_copied_object_is_half_there(into: Sample, source: Sample, seed: int) -> None:
    found = copy_blend([into, source], random.Random(seed), most_targets=None)[0]
    box = source.boxes_xyxy[0]
    count = len(into.labels)
    assert torch.equal(found.boxes_xyxy[:count], into.boxes_xyxy)
    if len(found.labels) == count:
        is_small = (box[2] - box[0]) * (box[3] - box[1]) < 100
        is_large = bool(((box[2:] - box[:2]) * 1.1 + 2 >= torch.tensor([*into.original_size_hw[::-1]])).any())
        assert is_small or is_large or (box[2:] - box[:2]).max() * 1.25 + 2 >= min(into.original_size_hw)
        assert torch.equal(found.image, into.image)
        return
    (copied,) = found.boxes_xyxy[count:]
    torch.testing.assert_close(copied[2:] - copied[:2], box[2:] - box[:2])
    assert found.labels[count:].tolist() == source.labels.tolist()
    shift = (copied - box).round().int().tolist()
    changed = (found.image != into.image).any(dim=0)
    x1, y1, x2, y2 = (*box[:2].floor().int().tolist(), *box[2:].ceil().int().tolist())
    theirs = source.image[2, y1:y2, x1:x2].float()
    ours, mixed = (
        each.image[2, y1 + shift[1] : y2 + shift[1], x1 + shift[0] : x2 + shift[0]].float() for each in (into, found)
    )
    differs = (ours - theirs).abs() > 50
    weights = ((mixed - theirs) / (ours - theirs))[differs]
    assert bool(((weights > 0.43) & (weights < 0.57)).all())
    around = torch.zeros_like(changed)
    margin_x, margin_y = (math.ceil(0.125 * float(side)) + 1 for side in box[2:] - box[:2])
    rows = slice(max(y1 + shift[1] - margin_y, 0), y2 + shift[1] + margin_y)
    around[rows, max(x1 + shift[0] - margin_x, 0) : x2 + shift[0] + margin_x] = True
    assert not bool((changed & ~around).any())


@given(samples=st.lists(placed(), min_size=1, max_size=4), seed=seeds, most=st.integers(0, 5))
def test_copies_are_few_and_never_too_many(samples: list[Sample], seed: int, most: int) -> None:
    for before, after in zip(samples, copy_blend(samples, random.Random(seed), most_targets=most), strict=True):
        added = len(after.labels) - len(before.labels)
        assert 0 <= added <= 3
        assert added == 0 or len(after.labels) <= most
