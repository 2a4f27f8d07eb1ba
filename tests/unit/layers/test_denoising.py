import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.layers.queries import BOX_NOISE, DenoisingQueries
from condetr.shapes import Targets

CLASSES, DIM = 4, 16


def target(*boxes: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.arange(len(boxes)) % CLASSES, torch.tensor(boxes).view(-1, 4))


TARGETS = Targets.of([target([0.5, 0.5, 0.2, 0.4], [0.3, 0.6, 0.1, 0.1]), target(), target([0.2, 0.2, 0.1, 0.3])])


def test_every_image_has_as_many_queries_as_the_fullest_in_each_group() -> None:
    noised = DenoisingQueries(DIM, num_classes=CLASSES, groups=3)(TARGETS)
    assert noised.queries.shape == noised.embedding.shape == (3, 3 * 2, DIM)
    assert noised.reference_xy.shape == (3, 3 * 2, 2)


def test_a_batch_without_targets_has_a_query_that_restores_nothing() -> None:
    denoising = DenoisingQueries(DIM, num_classes=CLASSES, groups=2)
    noised = denoising(Targets.none(2))
    assert noised.queries.shape == (2, 2, DIM)
    assert all(len(index) == 0 for index in noised.known)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_noised_centre_stays_inside_its_box(seed: int) -> None:
    torch.manual_seed(seed)
    noised = DenoisingQueries(DIM, num_classes=CLASSES, groups=1)(TARGETS)
    centre, size = TARGETS.boxes_cxcywh[0].split(2, dim=-1)
    assert ((noised.reference_xy[0] - centre).abs() <= BOX_NOISE * size / 2 + 1e-6).all()


def test_each_query_is_known_to_stand_for_the_target_that_it_was_made_from() -> None:
    noised = DenoisingQueries(DIM, num_classes=CLASSES, groups=2)(TARGETS)
    places = torch.stack(noised.known, dim=1).tolist()
    assert places == [[0, 0, 0], [0, 1, 1], [2, 0, 0], [0, 2, 0], [0, 3, 1], [2, 2, 0]]
    for image, query, place in places:
        centre, size = TARGETS.boxes_cxcywh[image, place].split(2)
        assert ((noised.reference_xy[image, query] - centre).abs() <= BOX_NOISE * size / 2 + 1e-6).all()
