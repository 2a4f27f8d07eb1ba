"""Every detector that settings can name can be explained, if it says where; others are refused in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from condetr.data.transforms import LightTransformConfig
from condetr.errors import InputError
from condetr.explain.capture import attention_map, capture_cross_attention, cross_attention_modules
from condetr.explain.cells import CellsOfQuery
from condetr.explain.choose import choose
from condetr.explain.explorer.page import write_explorer
from condetr.explain.record import write
from condetr.explain.view import look
from condetr.inference.predictor import Predictor
from condetr.labels import Category, LabelMap
from condetr.layers.attention import DotProductAttention
from condetr.layers.deformable import DeformableAttention
from tests.contract.conftest import KINDS
from tests.tiny import tiny

LAYERS = (0, 1)


def has(kind: Any, attention: type[nn.Module]) -> bool:  # noqa: ANN401 - any of the registered settings
    """Tell whether a detector's cross-attention is, or has a part that is, of a class."""
    named = tiny(kind).build(num_classes=2).named_modules()
    modules = [part for name, module in named if name.endswith(".cross_attention") for part in module.modules()]
    return any(isinstance(module, attention) for module in modules)


CELLS = [kind for kind in KINDS if has(kind, DotProductAttention)]
POINTS = [kind for kind in KINDS if has(kind, DeformableAttention)]
OTHERS = [kind for kind in KINDS if kind not in CELLS + POINTS]


@pytest.fixture(params=CELLS, ids=lambda kind: str(kind.__name__))
def config(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - any of the registered settings
    """Return the settings of each detector that weighs every cell."""
    return tiny(request.param)


@pytest.fixture(params=CELLS + POINTS, ids=lambda kind: str(kind.__name__))
def explained(request: pytest.FixtureRequest) -> Predictor:
    """Return each detector that can be explained."""
    labels = LabelMap((Category(3, "bolt"), Category(7, "nut")))
    detector = tiny(request.param).build(num_classes=2)
    return Predictor(detector, transform=LightTransformConfig(), label_map=labels, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_says_where_it_looks(kind: Any) -> None:  # noqa: ANN401
    known = {**dict.fromkeys(CELLS, "cells"), **dict.fromkeys(POINTS, "points")}
    assert tiny(kind).build(num_classes=2).looks_at == known.get(kind)


def images() -> tuple[Tensor, Tensor]:
    """Return two images, the second padded by a third."""
    torch.manual_seed(0)
    is_padding = torch.zeros(2, 32, 48, dtype=torch.bool)
    is_padding[1, :, 32:] = True
    return torch.randn(2, 3, 32, 48) * ~is_padding[:, None], is_padding


def attended_values(detector: nn.Module) -> dict[int, tuple[Tensor, Tensor]]:
    """Return what each layer's attention reads and what it makes of it, filled by the next forward pass."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    for layer, module in enumerate(cross_attention_modules(detector)):
        attend: Any = module.attend
        attend.register_forward_hook(
            lambda attend, inputs, output, layer=layer: seen.__setitem__(layer, (attend.split_heads(inputs[2]), output))
        )
    return seen


@torch.no_grad()
def test_content_and_spatial_logits_add_up_to_what_the_detector_attends_by(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    seen = attended_values(detector)
    with capture_cross_attention(detector, layers=LAYERS) as logits:
        detector(*images())
    for layer in LAYERS:
        value, attended = seen[layer]
        maps = attention_map(logits[layer].combined, key_is_padding=logits[layer].key_is_padding)
        torch.testing.assert_close((maps @ value).transpose(1, 2).flatten(2), attended, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_gets_no_attention(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    with capture_cross_attention(detector, layers=LAYERS) as logits:
        detector(*images())
    for layer in LAYERS:
        is_padding = logits[layer].key_is_padding
        assert is_padding[1].any()
        for part in (logits[layer].content, logits[layer].spatial, logits[layer].combined):
            maps = attention_map(part, key_is_padding=is_padding)
            assert maps[1][..., is_padding[1]].max() == 0
            torch.testing.assert_close(maps.sum(dim=-1), torch.ones(maps.shape[:3]))


@torch.no_grad()
def test_capturing_changes_nothing_and_ends_with_its_block(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    expected = detector(*images()).final.logits
    with capture_cross_attention(detector, layers=[1]) as logits:
        torch.testing.assert_close(detector(*images()).final.logits, expected, atol=0, rtol=0)
    before = logits[1]
    detector(*images())
    assert set(logits) == {1}
    assert logits[1] is before


def test_every_layer_is_on_the_page_of_the_explorer(explained: Predictor, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    page = tmp_path / "page.html"
    assert write_explorer(page, explained, pixels, model="mine", image="noise", threshold=0.0) == 5
    assert '"layers": 2' in page.read_text()


def test_arrays_and_numbers_of_every_head_are_written(explained: Predictor, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    (chosen,) = choose({"mine": look(explained, pixels)}, threshold=0.0)
    written = write(tmp_path, chosen)
    best = explained.predict(pixels, threshold=0.0)
    assert (written["name"], written["layer"], len(written["heads"])) == (best.names[0], LAYERS[-1], 2)
    with np.load(tmp_path / written["maps"]) as arrays:
        assert all(np.isfinite(array).all() for array in arrays.values())
        assert all(len(arrays[name]) == 2 for name in arrays if name not in ("box_xyxy", "reference_xy"))


def test_a_detection_is_explained_over_the_whole_image(config: Any) -> None:  # noqa: ANN401
    labels = LabelMap((Category(3, "bolt"), Category(7, "nut")))
    predictor = Predictor(config.build(num_classes=2), transform=LightTransformConfig(), label_map=labels)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    view = look(predictor, pixels)
    ((shown,),) = choose({"mine": view}, threshold=0.0)
    best = predictor.predict(pixels, threshold=0.0)
    assert (shown.explanation.name, view.layer) == (best.names[0], LAYERS[-1])
    np.testing.assert_allclose(shown.explanation.box_xyxy * [64, 40, 64, 40], best.boxes_xyxy[0], rtol=1e-5)
    attention = shown.explanation.attention
    assert isinstance(attention, CellsOfQuery)
    for part in attention.maps:
        assert part.shape == (2, 10, 16)
        np.testing.assert_allclose(part.sum(axis=(1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_detector_that_cannot_be_explained_is_refused_in_a_sentence(kind: Any) -> None:  # noqa: ANN401
    labels = LabelMap((Category(3, "bolt"), Category(7, "nut")))
    predictor = Predictor(tiny(kind).build(num_classes=2), transform=LightTransformConfig(), label_map=labels)
    with pytest.raises(InputError, match="no cross-attention that can be explained"):
        look(predictor, np.zeros((40, 64, 3), np.uint8))
