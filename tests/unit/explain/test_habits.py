import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.explain.habits import PLACES, Habits, Place, Seen, draw_habits, habits_of, place_of, see, spread
from condetr.explain.measures import MapNumbers, watched
from condetr.explain.view import look
from condetr.metrics.coco import Size
from tests.unit.explain.explorer_pages import PIXELS, predictor

SEEN = [
    [Seen("cat", "small", [["left", "top"]]), Seen("dog", "large", [["left", "centre"]])],
    [],
    [Seen("cat", "large", [["right", "top"]]), Seen("cat", "large", [["left", "top"]])],
]


def shares(habits: Habits, name: str) -> list[dict[Place, float]]:
    """Return, for each head of the only layer, the shares that are not 0."""
    (group,) = (group.to_dict() for group in habits.groups if group.name == name)
    (heads,) = group["layers"]
    return list(heads)


def test_shares_are_those_of_the_detections_of_each_group() -> None:
    habits = habits_of(SEEN)
    assert (habits.images, habits.detections) == (3, 4)
    assert [(group.kind, group.name, group.detections) for group in habits.groups] == [
        ("all", "all", 4), ("size", "small", 1), ("size", "medium", 0), ("size", "large", 3),
        ("class", "cat", 3), ("class", "dog", 1),
    ]  # fmt: skip
    assert shares(habits, "all") == [{"left": 0.75, "right": 0.25}, {"top": 0.75, "centre": 0.25}]
    assert shares(habits, "small") == [{"left": 1}, {"top": 1}]
    assert shares(habits, "cat") == [{"left": pytest.approx(2 / 3), "right": pytest.approx(1 / 3)}, {"top": 1}]
    assert habits.groups[2].to_dict()["layers"] == []


def test_what_a_head_watches_most_often_is_said_with_its_share() -> None:
    every, _, medium, *_ = habits_of(SEEN).groups
    assert every.most_watched(layer=0) == [("left", 0.75), ("top", 0.75)]
    assert medium.most_watched(layer=0) == []


places = st.lists(st.lists(st.sampled_from(PLACES), min_size=2, max_size=2), min_size=3, max_size=3)
seen = st.builds(Seen, st.sampled_from("abc"), st.sampled_from(["small", "medium", "large"]), places)


@given(st.lists(st.lists(seen, max_size=4), max_size=5))
def test_every_detection_counts_once_in_each_kind_of_group_and_shares_sum_to_1(images: list[list[Seen]]) -> None:
    habits = habits_of(images)
    for kind in ("all", "size", "class"):
        assert sum(group.detections for group in habits.groups if group.kind == kind) == sum(map(len, images))
    for group in habits.groups:
        assert (group.shares is None) == (group.detections == 0)
        if group.shares is not None:
            assert group.shares.shape == (3, 2, len(PLACES))
            np.testing.assert_allclose(group.shares.sum(-1), 1)


@given(st.lists(st.lists(seen, max_size=3), min_size=1, max_size=4))
def test_the_order_of_images_does_not_matter(images: list[list[Seen]]) -> None:
    one, other = habits_of(images).to_dict(), habits_of(images[::-1]).to_dict()
    by_name = [sorted(each["groups"], key=lambda group: group["name"]) for each in (one, other)]
    assert by_name[0] == by_name[1]


@pytest.mark.parametrize(
    ("centre_xy", "in_box", "place"),
    [((0.5, 0.5), 0.9, "centre"), ((0.1, 0.5), 0.9, "inside"), ((0.5, 0.5), 0.2, "elsewhere")],
)
def test_the_centre_is_told_apart_from_the_rest_of_the_inside(
    centre_xy: tuple[float, float], in_box: float, place: Place
) -> None:
    nowhere = {"left": 0.0, "top": 0.0, "right": 0.0, "bottom": 0.0}
    assert place_of(MapNumbers(centre_xy, in_box, nowhere, 1.0, 0.5)) == place  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [ConditionalDetrConfig, DetrConfig, DeformableDetrConfig])
def test_what_is_seen_is_what_explain_says_of_each_layer(kind: type) -> None:
    model = predictor(kind)
    found = see(model, PIXELS, threshold=0.0)
    views = [look(model, PIXELS, layer=layer) for layer in (0, 1)]
    firsts = [views[1].queries.index(query) for query in dict.fromkeys(views[1].queries)]
    assert len(found) == 5
    for seen, rank in zip(found, firsts, strict=True):
        query = views[1].queries[rank]
        assert seen.name == views[1].detections.names[rank]
        for view, places in zip(views, seen.places, strict=True):
            box_xyxy = views[1].box_xyxy(rank)
            words = [watched(numbers) for numbers in view.attention.of(query).places(box_xyxy)]
            assert [place.replace("centre", "inside") for place in places] == words


@pytest.mark.parametrize(("side", "size"), [(31, "small"), (33, "medium"), (95, "medium"), (97, "large")])
def test_sizes_are_those_of_coco_and_of_the_detected_box(
    side: int, size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = predictor()
    whole = np.zeros((40 * 5, 64 * 5, 3), np.uint8)
    cxcywh = np.array([0.5, 0.5, side / whole.shape[1], side / whole.shape[0]], np.float32)
    found = type(model.detector).found

    def placed(detector: object, output: object, *, limit: int) -> object:
        (best,) = found(detector, output, limit=limit)  # type: ignore[arg-type]
        return [best._replace(boxes_cxcywh=best.boxes_cxcywh.new_tensor(cxcywh).expand_as(best.boxes_cxcywh))]

    monkeypatch.setattr(type(model.detector), "found", placed)
    assert {each.size for each in see(model, whole, threshold=0.0)} == {size}


def test_nothing_is_seen_above_the_best_score() -> None:
    assert see(predictor(), PIXELS, threshold=1.0) == []


@given(st.integers(1, 50), st.integers(2, 60))
def test_items_are_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    chosen = spread(range(count), most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert spread(range(count), None) == list(range(count))


def test_the_picture_has_a_column_for_each_group_and_at_most_six_classes() -> None:
    many = [[Seen(f"class {number}", "small", [["left", "top"], ["right", "inside"]]) for number in range(9)]]
    figure = draw_habits(habits_of(many))
    assert len(figure.axes) == 2 * (1 + 3 + 6)
    titles = [axes.get_title() for axes in figure.axes[:10]]
    assert titles[:4] == ["all\n9 detections", "small\n9 detections", "medium\n0 detections", "large\n0 detections"]
    widths = [bar.get_width() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert sum(widths) == pytest.approx(2)  # a whole bar for each head
