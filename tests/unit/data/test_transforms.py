import random

import pytest
import torch

from condetr import config
from condetr.data.batch import Sample
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig, TransformConfig
from condetr.errors import InputError

SMALL_PAPER = PaperTransformConfig(
    short_sides=(32, 40), max_side=60, crop_short_sides=(24, 30), crop_range=(20, 28), eval_short_side=48
)


def sample(height: int = 48, width: int = 64) -> Sample:
    """A black image, white inside its only box."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, 12:30, 16:40] = 255
    return Sample(image, torch.tensor([[16.0, 12.0, 40.0, 30.0]]), torch.tensor([0]), 1, (height, width))


def white_extent(sample: Sample) -> torch.Tensor:
    rows, columns = torch.nonzero(sample.image[0] > 127, as_tuple=True)
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32)


@pytest.mark.parametrize("transform", [PaperTransformConfig(), LightTransformConfig(scale=(0.5, 2.0), hue=0.1)])
def test_the_same_random_state_gives_the_same_sample(transform: TransformConfig) -> None:
    first, second = (transform.build_train()(sample(), random.Random(5)) for _ in range(2))

    torch.testing.assert_close(first.image, second.image)
    torch.testing.assert_close(first.boxes_xyxy, second.boxes_xyxy)


@pytest.mark.parametrize("transform", [SMALL_PAPER, LightTransformConfig(vertical_flip=0.5, scale=(0.5, 2.0))])
def test_boxes_stay_on_what_they_enclose(transform: TransformConfig) -> None:
    augment = transform.build_train()
    for seed in range(40):
        augmented = augment(sample(), random.Random(seed))
        for box in augmented.boxes_xyxy:
            assert (box - white_extent(augmented)).abs().max() <= 2


def test_paper_augmentation_ends_at_one_of_the_short_sides_below_the_limit() -> None:
    augment = SMALL_PAPER.build_train()
    shapes = {tuple(augment(sample(), random.Random(seed)).image.shape[1:]) for seed in range(60)}

    assert {min(shape) for shape in shapes} >= {32, 40}
    assert max(max(shape) for shape in shapes) <= 60
    assert len(shapes) > 4


def test_paper_crops_take_small_images_whole() -> None:
    augment = PaperTransformConfig(crop_short_sides=(16,), short_sides=(16,)).build_train()

    assert all(augment(sample(16, 16), random.Random(seed)).image.shape == (3, 16, 16) for seed in range(10))


def test_paper_evaluation_resizes_to_800_below_1333() -> None:
    evaluate = PaperTransformConfig().build_eval()

    assert evaluate(sample(48, 64), random.Random(0)).image.shape == (3, 800, 1066)


def test_light_evaluation_keeps_the_size_unless_a_canvas_is_set() -> None:
    native = LightTransformConfig().build_eval()(sample(48, 64), random.Random(0))
    fitted = LightTransformConfig(size_hw=(32, 32)).build_eval()(sample(48, 64), random.Random(0))

    assert native.image.shape == (3, 48, 64)
    assert fitted.image.shape == (3, 24, 32)
    torch.testing.assert_close(fitted.boxes_xyxy, torch.tensor([[8.0, 6.0, 20.0, 15.0]]))


@pytest.mark.parametrize("zoom", [0.5, 0.9, 1.3, 2.0])
def test_zoom_keeps_the_size_of_the_image(zoom: float) -> None:
    transform = LightTransformConfig(size_hw=(32, 32), scale=(zoom, zoom))

    assert transform.build_train()(sample(48, 64), random.Random(0)).image.shape == (3, 24, 32)


def test_a_light_transform_without_strengths_changes_nothing() -> None:
    unchanged = LightTransformConfig(horizontal_flip=0.0).build_train()(sample(), random.Random(0))

    torch.testing.assert_close(unchanged.image, sample().image)


def test_colour_jitter_leaves_boxes_alone() -> None:
    transform = LightTransformConfig(horizontal_flip=0.0, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2)
    jittered = transform.build_train()(sample(), random.Random(1))

    torch.testing.assert_close(jittered.boxes_xyxy, sample().boxes_xyxy)
    assert not torch.equal(jittered.image, sample().image)


@pytest.mark.parametrize("transform", [PaperTransformConfig(max_side=700), LightTransformConfig(size_hw=(64, 96))])
def test_settings_survive_the_way_to_plain_data_and_back(transform: TransformConfig) -> None:
    assert config.from_mapping(type(transform), config.dump(transform), source="test") == transform


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"crop_range": (600, 384)}, {"short_sides": ()}, {"max_side": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            config.from_mapping(PaperTransformConfig, wrong, source="test")


def test_a_probability_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match="horizontal_flip"):
        config.from_mapping(LightTransformConfig, {"horizontal_flip": 1.5}, source="test")
