from typing import Any

import pytest
import torch

from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.engine.initial import initialise
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.labels import Category, LabelMap, Rows

BOLT, NUT, WASHER = Category(3, "bolt"), Category(7, "nut"), Category(90, "washer")
SIZES: dict[str, Any] = {
    "dim": 8,
    "num_heads": 2,
    "feedforward_dim": 8,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_queries": 4,
}
CLASS_HEAD = ("heads.class_head.weight", "heads.class_head.bias")
BACKBONE = SmallResNetConfig(widths=(4, 4), blocks=(1,))


@pytest.fixture(params=[ConditionalDetrConfig, DetrConfig])
def source(request: pytest.FixtureRequest) -> LoadedModel:
    """A model of three classes in a head of 91 rows."""
    torch.manual_seed(0)
    config = request.param(backbone=BACKBONE, **SIZES)
    label_map = LabelMap((BOLT, NUT, WASHER), rows=Rows((3, 7, 90), 91))
    model = LoadedModel(config.build(num_classes=91), config, LightTransformConfig(), label_map)
    return model


def test_other_classes_re_initialise_the_class_head_and_nothing_else(source: LoadedModel) -> None:
    torch.manual_seed(1)
    detector = source.detector_config.build(num_classes=2)
    drawn = {name: tensor.clone() for name, tensor in detector.state_dict().items()}

    reinitialised = initialise(
        detector,
        source,
        source="it",
        config=source.detector_config,
        label_map=LabelMap((BOLT, Category(1, "screw"))),
    )

    assert reinitialised == CLASS_HEAD
    for name, tensor in detector.state_dict().items():
        expected = drawn[name] if name in CLASS_HEAD else source.detector.state_dict()[name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)


def test_known_classes_take_their_rows_along(source: LoadedModel) -> None:
    detector = source.detector_config.build(num_classes=2)

    reinitialised = initialise(
        detector,
        source,
        source="it",
        config=source.detector_config,
        label_map=LabelMap((Category(1, "washer"), BOLT)),
    )

    rows = [90, 3, 91] if isinstance(source.detector_config, DetrConfig) else [90, 3]
    assert reinitialised == ()
    for name in CLASS_HEAD:
        torch.testing.assert_close(detector.state_dict()[name], source.detector.state_dict()[name][rows])


def test_as_many_other_classes_are_not_mistaken_for_the_same(source: LoadedModel) -> None:
    others = LabelMap(tuple(Category(number, f"other {number}") for number in range(91)))

    reinitialised = initialise(
        source.detector_config.build(num_classes=91),
        source,
        source="it",
        config=source.detector_config,
        label_map=others,
    )

    assert reinitialised == CLASS_HEAD


def test_more_queries_are_re_initialised(source: LoadedModel) -> None:
    config = type(source.detector_config)(backbone=BACKBONE, **{**SIZES, "num_queries": 9})
    detector = config.build(num_classes=3)

    reinitialised = initialise(detector, source, source="it", config=config, label_map=source.label_map)

    assert reinitialised == ("query_embedding.weight",)


def test_another_detector_is_refused(source: LoadedModel) -> None:
    config = ConditionalDetrConfig(backbone=BACKBONE, **{**SIZES, "dim": 16})
    wider = config.build(num_classes=3)

    with pytest.raises(InputError, match="is another detector"):
        initialise(wider, source, source="it", config=config, label_map=LabelMap((BOLT,)))


@pytest.mark.parametrize("names", [("screw", "rivet"), ("washer", "bolt")])
def test_the_row_of_any_object_is_kept_for_all_classes(names: tuple[str, ...]) -> None:
    sizes = {name: value for name, value in SIZES.items() if name != "num_queries"}
    config = DeformableDetrConfig(backbone=BACKBONE, num_levels=2, box_refinement=True, two_stage=True, **sizes)
    classes = LabelMap((BOLT, NUT, WASHER))
    model = LoadedModel(config.build(num_classes=3), config, LightTransformConfig(), classes)
    detector = config.build(num_classes=2)
    label_map = LabelMap(tuple(Category(number, name) for number, name in enumerate(names)))

    reinitialised = initialise(detector, model, source="it", config=config, label_map=label_map)

    known = "bolt" in names
    of_decoder = ("heads.0.class_head.weight", "heads.0.class_head.bias")
    assert reinitialised == (() if known else of_decoder)
    for name in ("heads.1.class_head.weight", "heads.1.class_head.bias"):
        torch.testing.assert_close(detector.state_dict()[name][0], model.detector.state_dict()[name][0], rtol=0, atol=0)
    if known:
        old = model.detector.state_dict()[of_decoder[0]]
        torch.testing.assert_close(detector.state_dict()[of_decoder[0]], old[[2, 0]], rtol=0, atol=0)
