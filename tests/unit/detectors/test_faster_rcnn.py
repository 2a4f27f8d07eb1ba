import pytest
import torch

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig, RegionPredictor
from condetr.layers.pyramid import image_sizes
from condetr.recipes.cost import cost_of
from condetr.shapes import Targets
from tests.tiny import tiny

NO_PADDING = torch.zeros(1, 32, 48, dtype=torch.bool)


@pytest.mark.parametrize(("depth", "parameters"), [(50, 41_699_936), (101, 60_639_840)])
def test_it_has_the_parameters_of_detectron2s(depth: int, parameters: int) -> None:
    config = FasterRcnnConfig(backbone=ResNetConfig(depth=depth))  # type: ignore[arg-type]
    assert cost_of(config, num_classes=80).parameters == parameters


def test_the_background_comes_last_here_and_first_in_what_torchvision_reads() -> None:
    predictor = RegionPredictor(4, num_classes=2)
    embeddings = torch.randn(3, 4)
    logits, moves = predictor(embeddings)
    torch.testing.assert_close(logits[:, 0], predictor.cls_score(embeddings)[:, -1])
    assert moves.shape == (3, 12)
    assert not moves[:, :4].any()


def test_what_other_classes_had_goes_to_the_background() -> None:
    predictor = RegionPredictor(4, num_classes=3)
    embeddings = torch.randn(5, 4)
    before = predictor(embeddings)[0].softmax(-1)
    predictor.keep_classes([2, 0])
    after = predictor(embeddings)[0].softmax(-1)
    torch.testing.assert_close(after, torch.stack([before[:, 0] + before[:, 2], before[:, 3], before[:, 1]], dim=1))


def test_boxes_without_area_are_not_learned() -> None:
    targets = Targets.of([(torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 0.0, 0.2], [0.5, 0.5, 0.2, 0.4]]))])
    config = tiny(FasterRcnnConfig)
    output = config.build(num_classes=2).train()(torch.randn(1, 3, 32, 48), NO_PADDING, targets)
    assert all(loss.isfinite() for loss in config.build_criterion()(output, targets, num_boxes=2.0).values())


def test_images_without_regions_have_no_objects() -> None:
    detector = tiny(FasterRcnnConfig).build(num_classes=2).eval()
    output = detector(torch.full((1, 3, 32, 48), torch.nan), NO_PADDING)
    assert len(output.logits) == 0
    assert [len(found.scores) for found in detector.found(output, limit=10)] == [0]


def test_sizes_are_those_without_padding() -> None:
    is_padding = torch.zeros(2, 5, 7, dtype=torch.bool)
    is_padding[1, 3:] = is_padding[1, :, 6:] = True
    assert image_sizes(is_padding).tolist() == [[7, 5], [6, 3]]
