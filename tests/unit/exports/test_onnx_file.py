"""The ONNX graph is the detector, for all batches and sizes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from condetr.data.batch import Batch, collate_images
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.detectors.registry import DetectorConfig
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.convert import export
from condetr.labels import Category, LabelMap, Rows
from condetr.shapes import DetectorOutput, Prediction, PredictionSet, Targets
from tests.tiny import TINY
from tests.toy_detector import Toy, ToyConfig

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


def make_batch(*sizes_hw: tuple[int, int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (3, *size_hw), dtype=torch.uint8, generator=generator) for size_hw in sizes_hw]
    return collate_images(images, original_sizes_hw=sizes_hw)


@pytest.mark.parametrize(
    "config",
    [
        ConditionalDetrConfig(**TINY),
        DetrConfig(**TINY),
        DeformableDetrConfig(**TINY | {"decoder_layers": 1}, box_refinement=True, two_stage=True),
    ],
    ids=["conditional_detr", "detr", "two_stage"],
)
def test_a_graph_is_the_detector_for_all_batches_and_sizes(config: DetectorConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LoadedModel(
        config.build(num_classes=3).eval(), config, LightTransformConfig(), replace(LABELS, rows=Rows((0, 2), 3))
    )

    export(tmp_path / "new" / "detector.onnx", model)

    session = onnxruntime.InferenceSession(tmp_path / "new" / "detector.onnx", providers=["CPUExecutionProvider"])
    for batch in (make_batch((33, 70)), make_batch((64, 96), (96, 50)), make_batch(*[(40, 40)] * 5)):
        found = session.run(None, {"pixels": batch.pixels.numpy(), "is_padding": batch.is_padding.numpy()})
        with torch.inference_mode():
            expected = model.detector(batch.normalised(), batch.is_padding).final  # it has the two rows by now
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    assert found[0].shape == (5, TINY["num_queries"], 2 + (config.kind == "detr"))


def test_a_file_says_what_a_program_must_know(tmp_path: Path) -> None:
    config = ConditionalDetrConfig(**TINY)
    model = LoadedModel(config.build(num_classes=2).eval(), config, LightTransformConfig(size_hw=(240, 320)), LABELS)

    export(tmp_path / "detector.onnx", model)

    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx", providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert LabelMap.from_list(json.loads(told["label_map"])) == LABELS
    assert json.loads(told["transform"])["size_hw"] == [240, 320]
    assert told["scores"] == "sigmoid"
    assert [value.name for value in session.get_outputs()] == ["logits", "boxes_cxcywh"]


class OneBatchSize(Toy):
    """A detector that works for one size of batch only, which torch's exporter does not report."""

    def forward(
        self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"], targets: Targets | None = None
    ) -> DetectorOutput:
        means = images.mean((1, 2, 3)) * (~is_padding).float().mean((1, 2))
        found = means.reshape(3, 1, 1).expand(3, 5, 4)
        return DetectorOutput((PredictionSet("only", Prediction(found, found)),))


class Untraceable(Toy):
    """A detector that torch cannot follow."""

    def forward(
        self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"], targets: Targets | None = None
    ) -> DetectorOutput:
        raise NotImplementedError("no graph of this")


@pytest.mark.parametrize(
    ("detector", "sentence"),
    [
        (OneBatchSize, "detector.onnx: the graph of this detector would only be valid for batches of [3,height,width]"),
        (Untraceable, "detector.onnx: torch cannot export this detector (no graph of this)"),
    ],
)
def test_a_detector_without_a_graph_for_all_sizes_is_refused(
    detector: type[Toy], sentence: str, tmp_path: Path
) -> None:
    toy = ToyConfig().build(num_classes=2)
    model = LoadedModel(
        detector(toy.features, heads=toy.heads), ConditionalDetrConfig(**TINY), LightTransformConfig(), LABELS
    )

    with pytest.raises(InputError) as raised:
        export(tmp_path / "detector.onnx", model)

    assert str(raised.value) == sentence
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    config = ConditionalDetrConfig(**TINY)
    model = LoadedModel(config.build(num_classes=2), config, LightTransformConfig(), LABELS)

    with pytest.raises(InputError, match="needs onnxscript: pip install onnx onnxruntime onnxscript"):
        export(tmp_path / "detector.onnx", model)
