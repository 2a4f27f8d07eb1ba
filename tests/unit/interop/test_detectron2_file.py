import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from condetr.backbones.resnet import ResNetConfig
from condetr.data.batch import IMAGENET_MEAN, collate_images
from condetr.detectors.registry import DETECTRON2
from condetr.errors import InputError
from condetr.inference.fit import MisfitError
from condetr.interop.classes import COCO_NAMES
from condetr.interop.convert import convert
from condetr.interop.detectron2_file import FIRST_CONVOLUTION, for_our_images, names_of, read_detectron2
from condetr.interop.loading import find_source, read
from condetr.labels import Category, LabelMap

MEAN = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
STD = torch.ones(3, 1, 1)
NARROW = {"dim": 32, "hidden_dim": 16, "feedforward_dim": 24, "encoder_layers": 2}


@pytest.fixture(params=DETECTRON2, ids=lambda kind: str(kind.__name__))
def kind(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - any of these settings
    return request.param


def checkpoint(kind: Any, *, num_classes: int = 3) -> dict[str, Tensor]:  # noqa: ANN401
    """Return a state as theirs, random, of a detector that is narrow above its ResNet-50."""
    torch.manual_seed(0)
    detector = kind(backbone=ResNetConfig(stride_in_1x1=True), **NARROW).build(
        num_classes=num_classes, pretrained=False
    )
    state = detector.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(2.0, 4.0)  # else values grow from layer to layer
    names = names_of(state, model=DETECTRON2[kind])
    return {names[name]: tensor for name, tensor in state.items()} | {"pixel_mean": MEAN, "pixel_std": STD}


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_checkpoint_is_recognised_and_holds_what_it_held(kind: Any, tmp_path: Path, is_bare: bool) -> None:  # noqa: ANN401, FBT001
    theirs = checkpoint(kind)
    content = theirs if is_bare else {"model": theirs, "iteration": 7, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "model_final.pth")
    model = read(find_source(tmp_path / "model_final.pth"))
    config: Any = model.detector_config
    assert type(config) is kind
    assert {name: getattr(config, name) for name in NARROW} == NARROW
    assert config.backbone == ResNetConfig(stride_in_1x1=True)
    names = names_of(model.detector.state_dict(), model=DETECTRON2[kind])
    assert {*names.values(), "pixel_mean", "pixel_std"} == set(theirs)
    for name, tensor in model.detector.state_dict().items():
        if names[name] != FIRST_CONVOLUTION:
            assert torch.equal(tensor, theirs[names[name]]), name
    assert not model.detector.training


def test_entries_are_as_many_as_in_the_published_checkpoints() -> None:
    for kind, model in DETECTRON2.items():
        for depth, expected in ((50, (413, 502)), (101, (668, 757))):
            config: Any = kind
            resnet = ResNetConfig(depth=depth)  # type: ignore[arg-type]
            with torch.device("meta"):
                detector = config(backbone=resnet).build(num_classes=80, pretrained=False)
            names = names_of(detector.state_dict(), model=model).values()
            assert len({*names, "pixel_mean", "pixel_std"}) == expected[model.title == "TSP-RCNN"]
            assert not any(re.match(r"(pyramid|reader|predictor|rpn)\.", name) for name in names)


def test_images_as_ours_give_the_numbers_of_images_as_theirs() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 7, 7)
    rgb = torch.randint(256, (3, 20, 24), dtype=torch.uint8)
    theirs = F.conv2d((rgb.flip(0) - MEAN)[None], weight, padding=3)
    batch = collate_images([rgb], original_sizes_hw=[(20, 24)])
    ours = F.conv2d(batch.normalised(), for_our_images(weight, MEAN, STD, source="x"), padding=3)
    torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-5)


def test_eighty_classes_are_cocos_and_others_can_be_given(kind: Any) -> None:  # noqa: ANN401
    model = read_detectron2(checkpoint(kind, num_classes=80), source="x")
    assert model.label_map.names == tuple(COCO_NAMES.values())
    assert model.label_map.dataset_ids == tuple(COCO_NAMES)
    label_map = LabelMap((Category(1, "bolt"), Category(5, "nut"), Category(7, "gear")))
    state = checkpoint(kind)
    assert read_detectron2(state, source="x", label_map=label_map).label_map == label_map
    assert read_detectron2(state, source="x").label_map.names == ("class 0", "class 1", "class 2")


def test_what_cannot_be_read_is_refused_in_a_sentence(kind: Any) -> None:  # noqa: ANN401
    refused, state = partial(read_detectron2, source="model.pth"), checkpoint(kind)
    lost = "backbone.fpn_lateral4.bias"
    with pytest.raises(MisfitError, match=f"model.pth is no {DETECTRON2[kind].title}: {lost} is missing"):
        refused({name: tensor for name, tensor in state.items() if name != lost})
    with pytest.raises(InputError, match=r"model\.pth has no pixel_mean, as every .* has; it is incomplete"):
        refused({name: tensor for name, tensor in state.items() if name != "pixel_mean"})
    with pytest.raises(InputError, match=r"is for images less \[0.0, 0.0, 0.0\], not less"):
        refused(state | {"pixel_mean": torch.zeros(3, 1, 1)})
    with pytest.raises(InputError, match="a res4 of 2 blocks, which is no ResNet of depth 50 or 101"):
        refused({name: tensor for name, tensor in state.items() if not re.search(r"res4\.[2-9]", name)})


def test_it_is_converted_to_our_form_and_not_back(kind: Any, tmp_path: Path) -> None:  # noqa: ANN401
    torch.save({"model": checkpoint(kind)}, tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", tmp_path / "ours", to="condetr")
    batch = collate_images([torch.randint(256, (3, 64, 96), dtype=torch.uint8)], original_sizes_hw=[(64, 96)])
    with torch.no_grad():
        first, second = (
            read(find_source(tmp_path / name)).detector(batch.normalised(), batch.is_padding).final
            for name in ("theirs.pth", "ours")
        )
    assert torch.equal(first.logits, second.logits)
    for name, form in (("again.pth", "official"), ("x.onnx", "graph"), ("folder", "transformers")):
        with pytest.raises(InputError) as refusal:
            convert(tmp_path / "ours", tmp_path / name, to=form)  # type: ignore[arg-type]
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / name).exists()


def test_the_mean_is_that_of_our_images() -> None:
    torch.testing.assert_close(MEAN.flatten().flip(0), 255 * torch.tensor(IMAGENET_MEAN))
