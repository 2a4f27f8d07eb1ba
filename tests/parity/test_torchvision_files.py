"""States that torchvision saves, read as files, beside the models that they are of."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from condetr.boxes import cxcywh_to_xyxy
from condetr.data.batch import collate_images
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.loading import find_source, read
from condetr.interop.torchvision_file import is_torchvision_weights, read_torchvision
from condetr.labels import Category, LabelMap

FIRST_LABELS = {"fcos_resnet50_fpn": 0, "fasterrcnn_resnet50_fpn": 1}


@pytest.fixture(params=FIRST_LABELS)
def builder(request: pytest.FixtureRequest) -> str:
    """Return the name of each model's builder."""
    return str(request.param)


def their_model(builder: str, **options: Any) -> Any:  # noqa: ANN401 - torchvision is untyped
    """Return a random model that does not scale images of 128 x 192."""
    torch.manual_seed(0)
    options = {"weights": None, "weights_backbone": None, "min_size": 128, **options}
    model = getattr(detection, builder)(**options).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(2.0, 4.0)  # else values grow from layer to layer
        elif name.endswith("head.cls_logits.bias"):
            tensor.uniform_(0.2, 1.2)
        elif name.endswith("cls_score.bias"):
            tensor.normal_(std=3.0)[0] = -9.0  # the background
        elif name.endswith(("cls_score.weight", "bbox_pred.weight", "bbox_reg.weight", "bbox_ctrness.weight")):
            tensor.normal_(std=0.03)
    return model


def saved(state: dict[str, Tensor], path: Path) -> LoadedModel:
    """Return what is read of a state that was saved."""
    torch.save(state, path)
    return read(find_source(path))


@torch.no_grad()
def assert_finds_the_same(model: LoadedModel, theirs: Any, *, first_label: int) -> None:  # noqa: ANN401
    image = torch.randint(256, (3, 128, 192), dtype=torch.uint8)
    (expected,) = theirs([image / 255])
    batch = collate_images([image], original_sizes_hw=[(128, 192)])
    (found,) = model.detector.found(model.detector(batch.normalised(), batch.is_padding), limit=100)
    assert len(found.scores) > 5
    torch.testing.assert_close(found.scores, expected["scores"], atol=1e-5, rtol=1e-4)
    assert (found.labels + first_label).tolist() == expected["labels"].tolist()
    boxes_xyxy = cxcywh_to_xyxy(found.boxes_cxcywh) * torch.tensor([192, 128, 192, 128])
    torch.testing.assert_close(boxes_xyxy, expected["boxes"], atol=2e-3, rtol=1e-4)


def test_a_saved_state_finds_what_the_model_does(builder: str, tmp_path: Path) -> None:
    theirs = their_model(builder)
    model = saved(theirs.state_dict(), tmp_path / "model.pth")
    assert_finds_the_same(model, theirs, first_label=FIRST_LABELS[builder])


def test_classes_are_those_of_torchvisions_list(builder: str) -> None:
    names: list[str] = torchvision.models.get_model_weights(builder).DEFAULT.meta["categories"]
    classes = read_torchvision(their_model(builder).state_dict(), source="x").label_map
    first = FIRST_LABELS[builder]
    assert {row + first: name for row, name in zip(classes.row_of_each, classes.names, strict=True)} == {
        label: name for label, name in enumerate(names) if name not in ("__background__", "N/A")
    }


def test_classes_can_be_given(builder: str) -> None:
    theirs = their_model(builder, num_classes=4)
    label_map = LabelMap((Category(1, "bolt"), Category(3, "nut")))
    classes = read_torchvision(theirs.state_dict(), source="x", label_map=label_map).label_map
    assert classes.names == ("bolt", "nut")
    assert [row + FIRST_LABELS[builder] for row in classes.row_of_each] == [1, 3]


def test_norms_of_the_published_faster_rcnn_add_nothing_to_variances(tmp_path: Path) -> None:
    theirs = their_model("fasterrcnn_resnet50_fpn", num_classes=4)
    for name, tensor in theirs.state_dict().items():
        if name.endswith("layer4.2.bn1.running_var"):
            tensor.uniform_(1e-4, 1e-3)
    model = saved(theirs.state_dict(), tmp_path / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
    for norm in theirs.modules():
        if isinstance(norm, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
            norm.eps = 0.0
    assert_finds_the_same(model, theirs, first_label=1)


def test_names_of_old_files_are_known(tmp_path: Path) -> None:
    theirs = their_model("fasterrcnn_resnet50_fpn", num_classes=4)
    shortened = partial(re.sub, r"(_blocks\.\d+|^rpn\.head\.conv\.0)\.0\.", r"\1.")
    old = {
        shortened(name).replace("head.conv.0.", "head.conv."): tensor for name, tensor in theirs.state_dict().items()
    }
    assert "rpn.head.conv.weight" in old
    assert "backbone.fpn.layer_blocks.2.weight" in old
    assert_finds_the_same(saved(old, tmp_path / "old.pth"), theirs, first_label=1)


def test_what_is_no_such_state_is_refused_in_a_sentence(builder: str) -> None:
    refused = partial(read_torchvision, source="model.pth")
    state = their_model(builder, num_classes=4).state_dict()
    with pytest.raises(InputError, match=rf"model\.pth is no {builder}: backbone.body.conv1.weight is missing"):
        refused({name: tensor for name, tensor in state.items() if name != "backbone.body.conv1.weight"})
    with pytest.raises(InputError, match=r"begins with 'fc.weight'; of torchvision give one of fcos_resnet50_fpn or"):
        refused({"fc.weight": torch.zeros(1)})


def test_published_weights_are_known_by_their_names() -> None:
    assert is_torchvision_weights("fcos_resnet50_fpn")
    assert is_torchvision_weights("FasterRCNN_ResNet50_FPN_Weights.COCO_V1")
    assert not is_torchvision_weights("retinanet_resnet50_fpn")
