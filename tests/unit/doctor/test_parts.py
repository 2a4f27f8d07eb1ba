"""The parts of the doctor that compute: sizes, memory, and what suits a plan."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.data import records
from condetr.data.dataset import ImageRecord, Split
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.doctor.machine import blank_detector, step_bytes, this_machine
from condetr.doctor.plan import Plan
from condetr.doctor.quick import object_sides, quick_findings
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

DETECTOR = ConditionalDetrConfig(**TINY)
LABEL_MAP = LabelMap((Category(1, "cat"), Category(2, "dog")))
SIDES = st.integers(1, 5000)


def plan(size: tuple[int, int] | None = (320, 320), *, num_queries: int = 4) -> Plan:
    transform = LightTransformConfig(size_hw=size)
    return Plan(recipe="mine", most_objects=num_queries, stride=16, transform=transform, batch_size=2)


def record(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] | None = None) -> ImageRecord:
    return ImageRecord(
        image_id=1,
        path=Path("1.png"),
        size_hw=(160, 160),
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        labels=np.array(labels or (0,) * len(boxes), dtype=np.int64),
        is_crowd=np.zeros(len(boxes), dtype=np.bool_),
        areas=np.ones(len(boxes)),
    )


def test_objects_are_measured_as_the_detector_sees_them() -> None:
    np.testing.assert_allclose(object_sides(record((10, 10, 30, 20)), plan()), [2 * np.sqrt(200)])
    np.testing.assert_allclose(object_sides(record((10, 10, 30, 20)), plan(None)), [np.sqrt(200)])


@given(height=SIDES, width=SIDES)
def test_no_image_is_seen_larger_than_it_is_trained_on_at_most(height: int, width: int) -> None:
    paper = Plan(recipe="any", most_objects=1, stride=32, transform=PaperTransformConfig(), batch_size=1)
    for each in (paper, plan()):
        assert max(each.seen_hw((height, width))) <= max(each.largest_hw((height, width)))
        assert min(each.largest_hw((height, width))) >= 1


def test_annotations_that_suit_the_plan_have_no_finding() -> None:
    split = Split(name="train", records=(record((0, 0, 50, 50), (60, 60, 99, 99), labels=(0, 1)),), label_map=LABEL_MAP)
    assert quick_findings([split], plan()) == ()


def test_a_split_that_serves_for_both_is_counted_once() -> None:
    split = Split(name="train", records=(record(*[(0, 0, 50, 50)] * 5),), label_map=LABEL_MAP)
    (finding,) = quick_findings([split, split], plan())
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "more objects than the 4 that mine can find" in finding.what


@given(images=st.integers(1, 4), height=st.integers(16, 64))
@settings(max_examples=10)
def test_more_or_larger_images_take_more_memory(images: int, height: int) -> None:
    taken = step_bytes(DETECTOR, images=images, size_hw=(height, 32))
    assert step_bytes(DETECTOR, images=images + 1, size_hw=(height, 32)) > taken
    assert step_bytes(DETECTOR, images=images, size_hw=(height + 16, 32)) > taken


def test_a_step_takes_at_least_its_weights_and_images() -> None:
    weights = sum(parameter.numel() for parameter in DETECTOR.build(num_classes=1).parameters())
    assert step_bytes(DETECTOR, images=2, size_hw=(64, 64)) > 4 * (4 * weights + 2 * 3 * 64 * 64)


def test_the_stride_is_that_of_the_backbone() -> None:
    assert blank_detector(DETECTOR).strides == (4,)


def test_this_machine_has_cores_and_memory() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.training_bytes > 2**20


@given(
    corners=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 30), st.integers(1, 30)), max_size=9
    )
)
def test_repeated_boxes_do_not_depend_on_how_many_are_compared_at_once(
    corners: list[tuple[int, int, int, int]],
) -> None:
    boxes_xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], dtype=np.float64).reshape(-1, 4)
    classes = [number % 2 for number in range(len(boxes_xyxy))]
    at_once = records.repeated_boxes(boxes_xyxy, classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_PAIRS_AT_ONCE", 1)
        assert records.repeated_boxes(boxes_xyxy, classes) == at_once
