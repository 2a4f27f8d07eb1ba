import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD, Batch, Sample, collate


def sample(height: int, width: int, *, boxes: list[list[float]], image_id: int = 0) -> Sample:
    return Sample(
        image=torch.full((3, height, width), 255, dtype=torch.uint8),
        boxes_xyxy=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        image_id=image_id,
        original_size_hw=(2 * height, 2 * width),
    )


def test_images_are_padded_right_and_below_with_zeros_to_two_separate_maxima() -> None:
    batch = collate([sample(4, 7, boxes=[]), sample(6, 5, boxes=[])])

    assert batch.normalised().shape == (2, 3, 6, 7)
    assert not batch.is_padding[0, :4, :7].any()
    assert batch.is_padding[0, 4:].all()
    assert batch.is_padding[1, :, 5:].all()
    assert (batch.normalised().movedim(1, -1)[batch.is_padding] == 0).all()


def test_sizes_are_rounded_up_to_a_multiple_where_one_is_asked_for() -> None:
    batch = collate([sample(4, 8, boxes=[[0, 0, 4, 4]]), sample(9, 5, boxes=[])], multiple=4)

    assert batch.normalised().shape == (2, 3, 12, 8)
    assert int((~batch.is_padding).sum()) == 4 * 8 + 9 * 5
    torch.testing.assert_close(batch.targets.boxes_cxcywh[0], torch.tensor([[0.25, 0.5, 0.5, 1.0]]))


def test_pixels_are_normalised_with_the_mean_and_deviation_of_imagenet() -> None:
    images = collate([sample(2, 2, boxes=[])]).normalised()

    expected = [(1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor(expected))


def test_boxes_are_relative_to_the_unpadded_size_of_their_own_image() -> None:
    batch = collate([sample(10, 20, boxes=[[0, 0, 10, 5]]), sample(40, 40, boxes=[])])

    torch.testing.assert_close(batch.targets.boxes_cxcywh[0], torch.tensor([[0.25, 0.25, 0.5, 0.5]]))
    assert batch.targets.counts == (1, 0)


def test_labels_ids_and_original_sizes_keep_their_order() -> None:
    batch = collate([sample(4, 6, boxes=[[0, 0, 1, 1]] * 3, image_id=9), sample(2, 2, boxes=[], image_id=5)])

    assert batch.image_ids == (9, 5)
    assert batch.original_sizes_hw == ((8, 12), (4, 4))
    assert batch.targets.labels[0].tolist() == [0, 1, 2]


def test_a_batch_in_memory_that_a_gpu_reads_is_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate([sample(4, 6, boxes=[[0, 0, 1, 1]], image_id=9), sample(2, 2, boxes=[], image_id=5)])
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 0)  # there is no such memory without a GPU
    pinned = pin_memory(batch)  # as DataLoader does

    assert isinstance(pinned, Batch)
    assert pinned.pixels is not batch.pixels
    assert pinned.pixels.stride() == batch.pixels.stride()
    assert pinned.sizes_hw == batch.sizes_hw
    torch.testing.assert_close(pinned.targets[:2], batch.targets[:2])
