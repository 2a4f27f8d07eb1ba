"""Our detectors and transformers' are the same function, for every published architecture."""

from pathlib import Path

import pytest
import torch

from condetr.shapes import DetectorOutput
from tests.parity.peers import Depth, Kind, detector_config, inputs, make_peers, random_model, their_output

TOLERANCE = 1e-4


@pytest.mark.parametrize(
    ("kind", "depth", "dilation"),
    [
        ("conditional_detr", 50, False),
        ("conditional_detr", 101, False),
        ("conditional_detr", 50, True),
        ("detr", 50, False),
        ("detr", 50, True),
    ],
)
@torch.inference_mode()
def test_every_decoder_layer_predicts_the_same(kind: Kind, depth: Depth, dilation: bool, tmp_path: Path) -> None:  # noqa: FBT001
    peers = make_peers(tmp_path, random_model(detector_config(kind, depth=depth, dilation=dilation)))
    batch = inputs()

    ours: DetectorOutput = peers.ours(*batch)
    theirs = their_output(peers.theirs, batch)

    assert theirs.final.logits.std() > 0.3
    assert theirs.final.boxes_cxcywh.std() > 0.03
    assert len(ours.sets) == 6
    for mine, their in zip(ours.sets, theirs.sets, strict=True):
        torch.testing.assert_close(mine.prediction, their.prediction, rtol=0, atol=TOLERANCE)
