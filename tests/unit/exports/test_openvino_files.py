"""What OpenVINO cannot convert is said, with what can be done."""

from pathlib import Path

import pytest

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.errors import InputError
from condetr.exports.files import read_graph, write_graph
from condetr.exports.graph import Options
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


def test_proposals_convert_for_one_size_only(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    config = DeformableDetrConfig(**TINY | {"decoder_layers": 1}, box_refinement=True, two_stage=True)
    detector, transform = config.build(num_classes=2).eval(), LightTransformConfig()

    with pytest.raises(InputError, match=r"x\.xml: OpenVINO cannot convert this detector .*; one size may be possible"):
        write_graph(tmp_path / "x.xml", detector, transform=transform, label_map=LABELS)
    assert list(tmp_path.iterdir()) == []

    one_size = Options(size_hw=(96, 128))
    write_graph(tmp_path / "x.xml", detector, transform=transform, label_map=LABELS, options=one_size)
    assert read_graph(tmp_path / "x.xml").about.size_hw == (96, 128)
