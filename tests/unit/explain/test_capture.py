import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condetr.backbones.resnet import SmallResNetConfig
from condetr.detectors.detr import DetrConfig
from condetr.errors import InputError
from condetr.explain.capture import attention_map, capture_cross_attention, cross_attention_modules
from condetr.layers.attention import DotProductAttention, MultiHeadAttention

NO_PADDING = torch.zeros(1, 2, dtype=torch.bool)


class Parts(nn.Module):
    """A cross-attention of one head that concatenates a content and a spatial part."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = DotProductAttention(1, dropout=0.0)

    def forward(self, content: tuple[Tensor, Tensor], spatial: tuple[Tensor, Tensor]) -> Tensor:
        attended: Tensor = self.attend([content[0], spatial[0]], [content[1], spatial[1]], content[1])
        return attended


def decoder(cross_attention: nn.Module) -> nn.Module:
    return nn.ModuleDict({"layer": nn.ModuleDict({"cross_attention": cross_attention})})


def test_parts_of_known_queries_and_keys_give_known_maps() -> None:
    attention, two = Parts(), math.log(2) * math.sqrt(4)
    content = (torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 5.0], [two, 5.0]]]))
    spatial = (torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[5.0, 2 * two], [5.0, 0.0]]]))

    with capture_cross_attention(decoder(attention), layers=[0]) as logits:
        attention(content, spatial)

    maps = [attention_map(part, key_is_padding=NO_PADDING)[0, 0, 0] for part in (logits[0].content, logits[0].spatial)]
    torch.testing.assert_close(maps[0], torch.tensor([1 / 3, 2 / 3]))
    torch.testing.assert_close(maps[1], torch.tensor([4 / 5, 1 / 5]))
    combined = attention_map(logits[0].combined, key_is_padding=NO_PADDING)[0, 0, 0]
    torch.testing.assert_close(combined, torch.tensor([2 / 3, 1 / 3]))


def test_a_sum_of_content_and_position_is_taken_apart() -> None:
    attention, two = MultiHeadAttention(2, num_heads=1, dropout=0.0), math.log(2) * math.sqrt(2)
    nn.init.zeros_(attention.in_proj_weight)
    attention.in_proj_weight.data[:2] = attention.in_proj_weight.data[2:4] = torch.eye(2)
    memory, positions = torch.tensor([[[0.0, 0.0], [two, 0.0]]]), torch.tensor([[[0.0, 2 * two], [0.0, 0.0]]])

    with torch.no_grad(), capture_cross_attention(decoder(attention), layers=[0]) as logits:
        attention(query=torch.ones(1, 1, 2), key=memory + positions, value=memory)

    maps = [attention_map(part, key_is_padding=NO_PADDING)[0, 0, 0] for part in (logits[0].content, logits[0].spatial)]
    torch.testing.assert_close(maps[0], torch.tensor([1 / 3, 2 / 3]))
    torch.testing.assert_close(maps[1], torch.tensor([4 / 5, 1 / 5]))


@torch.no_grad()
def test_the_spatial_logits_of_detr_are_the_whole_query_against_the_projected_positions() -> None:
    torch.manual_seed(0)
    config = DetrConfig(
        backbone=SmallResNetConfig(widths=(4, 4), blocks=(1,)), num_queries=3, dim=8, num_heads=2, feedforward_dim=8,
        encoder_layers=1, decoder_layers=2,
    )  # fmt: skip
    detector = config.build(num_classes=2).eval()
    attention: Any = cross_attention_modules(detector)[1]
    queries: list[Tensor] = []
    attention.register_forward_pre_hook(lambda _, __, options: queries.append(options["query"]), with_kwargs=True)
    cells = detector.features(torch.randn(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.bool))

    with capture_cross_attention(detector, layers=[1]) as logits:
        detector(torch.randn(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.bool))

    (w_q, w_k, _), b_q = attention.in_proj_weight.chunk(3), attention.in_proj_bias[:8]
    q, p = queries[0] @ w_q.T + b_q, cells.positions @ w_k.T
    expected = torch.einsum("bqmd,bsmd->bmqs", q.view(1, 3, 2, 4), p.view(1, -1, 2, 4)) / math.sqrt(4)
    torch.testing.assert_close(logits[1].spatial, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layer", [-1, 1])
def test_a_layer_that_does_not_exist_is_refused(layer: int) -> None:
    with (
        pytest.raises(InputError, match=f"no decoder layer {layer}; the layers of this model are 0 to 0"),
        capture_cross_attention(decoder(Parts()), layers=[layer]),
    ):
        pass
