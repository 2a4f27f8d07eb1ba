"""Where transformers departs from the published method, as numbers that the documentation may quote.

A test that fails here means that the peer has changed: correct docs/checkpoints.md, not condetr.
"""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from condetr.data.geometry import resized_hw
from tests.parity.peers import (
    detector_config,
    hf,
    inputs,
    random_model,
    targets,
    their_random_model,
    their_targets,
    transformers_folder,
)


@torch.inference_mode()
def test_its_auxiliary_loss_changes_the_forward_pass(tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path, random_model(detector_config("conditional_detr")))
    batch = inputs()
    plain, auxiliary = (
        hf.AutoModelForObjectDetection.from_pretrained(folder, auxiliary_loss=asked).eval()(
            pixel_values=batch.images, pixel_mask=(~batch.is_padding).long()
        )
        for asked in (False, True)
    )

    assert float((plain.logits - auxiliary.logits).abs().max()) > 0.5
    assert float((plain.pred_boxes - auxiliary.pred_boxes).abs().max()) > 0.05


@pytest.mark.parametrize("coefficient", [1, 2, 10])
def test_its_classification_weight_is_ignored(coefficient: int) -> None:
    model = their_random_model("conditional_detr", num_labels=5, cls_loss_coefficient=coefficient)
    batch, wanted = inputs(sizes_hw=((64, 64),)), targets((3,), num_classes=5)

    output = model(pixel_values=batch.images, labels=their_targets(wanted))

    terms = output.loss_dict
    by_hand = terms["loss_ce"] + 5 * terms["loss_bbox"] + 2 * terms["loss_giou"]
    torch.testing.assert_close(output.loss, by_hand)


@pytest.mark.parametrize(
    ("size_hw", "ours", "theirs"), [((302, 640), (629, 1332), (629, 1333)), ((480, 640), (800, 1066), (800, 1066))]
)
def test_its_processor_takes_the_long_side_from_the_unrounded_scale(
    size_hw: tuple[int, int], ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    processor = hf.ConditionalDetrImageProcessor()

    pixels = processor(torch.zeros(3, *size_hw, dtype=torch.uint8), return_tensors="pt")["pixel_values"]

    assert tuple(pixels.shape[-2:]) == theirs
    assert resized_hw(size_hw, short_side=800, max_side=1333) == ours


def test_its_processor_normalises_boxes_by_the_padded_size() -> None:
    processor: Any = hf.ConditionalDetrImageProcessor(do_resize=False)
    annotation = {"image_id": 1, "annotations": [_annotation([0, 0, 100, 100])]}

    encoded = processor(
        [torch.zeros(3, 100, 100, dtype=torch.uint8), torch.zeros(3, 200, 400, dtype=torch.uint8)],
        annotations=[annotation, {"image_id": 2, "annotations": []}],
        return_tensors="pt",
    )

    # The box fills its image: (0.5, 0.5, 1, 1) of it, as the model is trained in the official code.
    torch.testing.assert_close(encoded["labels"][0]["boxes"], torch.tensor([[0.125, 0.25, 0.25, 0.5]]))


def test_its_own_resnet_is_frozen_as_a_whole() -> None:
    backbone = hf.ResNetConfig(
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], out_features=["stage4"]
    )
    model = their_random_model("detr", backbone=None, use_timm_backbone=False, backbone_config=backbone)

    trainable = [parameter.requires_grad for parameter in model.model.backbone.parameters()]

    assert (sum(trainable), len(trainable)) == (0, 20)


def test_with_timm_it_freezes_nothing() -> None:
    with torch.device("meta"):
        theirs = hf.ConditionalDetrForObjectDetection(hf.ConditionalDetrConfig(num_labels=91))
        ours = detector_config("conditional_detr").build(num_classes=91, pretrained=False)

    trainable = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (ours, theirs)]

    assert trainable == [43_196_001, 43_418_401]  # conv1 and layer1 are the difference


def test_it_loses_the_activations_of_backbones_whose_norms_carry_them() -> None:
    with torch.device("meta"):
        whole = timm.create_model("mobilenetv2_100", features_only=True)
        theirs = hf.ConditionalDetrForObjectDetection(hf.ConditionalDetrConfig(backbone="mobilenetv2_100"))

    counts = [sum(isinstance(module, nn.ReLU6) for module in model.modules()) for model in (whole, theirs)]

    assert counts == [34, 0]


@torch.no_grad()
def test_its_fresh_detector_has_no_prior_and_moves_its_boxes() -> None:
    torch.manual_seed(0)
    model = hf.ConditionalDetrForObjectDetection(hf.ConditionalDetrConfig(backbone="resnet18"))

    assert float(model.class_labels_classifier.bias.abs().max()) == 0.0
    assert float(model.bbox_predictor.layers[-1].weight.abs().max()) > 0.0
    assert float(model.model.query_position_embeddings.weight.std()) == pytest.approx(0.02, rel=0.02)


def _annotation(bbox: list[int]) -> dict[str, Any]:
    return {"id": 1, "category_id": 0, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
