import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.layers.queries import BOX_NOISE, DenoisingQueries
from condetr.shapes import DetectorOutput, Prediction, Target

CLASSES, DIM = 4, 16


def target(*boxes: list[float]) -> Target:
    return Target(torch.arange(len(boxes)) % CLASSES, torch.tensor(boxes).view(-1, 4))


TARGETS = (target([0.5, 0.5, 0.2, 0.4], [0.3, 0.6, 0.1, 0.1]), target(), target([0.2, 0.2, 0.1, 0.3]))


def test_every_image_has_as_many_queries_as_the_fullest_in_each_group() -> None:
    noised = DenoisingQueries(DIM, num_classes=CLASSES, groups=3)(TARGETS)
    assert noised.queries.shape == noised.embedding.shape == (3, 3 * 2, DIM)
    assert noised.reference_xy.shape == (3, 3 * 2, 2)


def test_a_batch_without_targets_has_a_query_that_restores_nothing() -> None:
    denoising = DenoisingQueries(DIM, num_classes=CLASSES, groups=2)
    noised = denoising([target(), target()])
    assert noised.queries.shape == (2, 2, DIM)
    output = DetectorOutput(Prediction(torch.zeros(2, 1, CLASSES), torch.zeros(2, 1, 4)), ())
    assert len(denoising.pair(output, [target(), target()]).labels) == 0


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_noised_centre_stays_inside_its_box(seed: int) -> None:
    torch.manual_seed(seed)
    noised = DenoisingQueries(DIM, num_classes=CLASSES, groups=1)(TARGETS)
    centre, size = TARGETS[0].boxes_cxcywh.split(2, dim=-1)
    assert ((noised.reference_xy[0] - centre).abs() <= BOX_NOISE * size / 2 + 1e-6).all()


def test_what_each_set_restored_stands_beside_its_own_target() -> None:
    denoising = DenoisingQueries(DIM, num_classes=CLASSES, groups=2)
    # Each query's box holds its image and place, so that a row tells where it came from.
    place = torch.stack(torch.meshgrid(torch.arange(3.0), torch.arange(2.0), indexing="ij"), dim=-1)
    boxes = torch.cat([place, torch.zeros(3, 2, 2)], dim=-1)
    first, second = (Prediction(torch.zeros(3, 2, CLASSES), boxes + shift) for shift in (0.0, 0.5))
    found = denoising.pair(DetectorOutput(second, (first,), groups=2), TARGETS)
    assert found.boxes_cxcywh[:3, :2].tolist() == [[0, 0], [0, 1], [2, 0]]
    torch.testing.assert_close(found.boxes_cxcywh[3:], found.boxes_cxcywh[:3] + 0.5)
    assert found.labels.tolist() == [0, 1, 0] * 2
    torch.testing.assert_close(found.targets_cxcywh[2], TARGETS[2].boxes_cxcywh[0])
