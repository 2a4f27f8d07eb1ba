import pytest
import torch

from condetr.detectors.detr import PUBLISHED, Detr, DetrConfig
from condetr.detectors.published import original_name
from tests.tiny import TINY


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        detector = DetrConfig().build(num_classes=91, pretrained=False)
    assert sum(p.numel() for p in detector.parameters()) == 41_524_768
    assert sum(p.numel() for p in detector.parameters() if p.requires_grad) == 41_524_768 - 222_400
    assert len(detector.state_dict()) == 458


def test_original_names_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        detector = DetrConfig().build(num_classes=91, pretrained=False)
    names = {original_name(name, PUBLISHED.original_names) for name in detector.state_dict()}
    assert len(names) == 458
    for name in ("self_attn.in_proj_weight", "multihead_attn.in_proj_bias", "multihead_attn.out_proj.weight"):
        assert f"transformer.decoder.layers.5.{name}" in names
    assert "transformer.encoder.layers.5.norm2.weight" in names


@pytest.mark.parametrize("offset_regression", [False, True])
@pytest.mark.parametrize(("scores", "columns"), [("softmax", 4), ("sigmoid", 3)])
def test_components_of_table_4_are_settings(scores: str, columns: int, offset_regression: bool) -> None:  # noqa: FBT001
    config = DetrConfig(**TINY, scores=scores, offset_regression=offset_regression)  # type: ignore[arg-type]
    detector: Detr = config.build(num_classes=3)
    output = detector(torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool))
    assert output.final.logits.shape == (2, 5, columns)
    assert len(output.sets) == 2
    assert (detector.reference_points is not None) == offset_regression
