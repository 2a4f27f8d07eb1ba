"""Conversion between condetr's settings and transformers' `config.json` and `preprocessor_config.json`."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from condetr.backbones.resnet import ResNetConfig
from condetr.config import dump, from_mapping, settings
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig, TransformConfig
from condetr.detectors.published import TransformersModel, Unseen
from condetr.detectors.registry import PUBLISHED, DetectorConfig
from condetr.errors import InputError, InputWarning
from condetr.inference.model_folder import LoadedModel, read_threshold
from condetr.interop.classes import from_id2label, to_id2label, unnamed_classes
from condetr.interop.original import published_form
from condetr.labels import LabelMap, Rows

Json = Mapping[str, Any]

OURS = "condetr"
"""The key in config.json for settings that transformers cannot store."""

PLAIN_RESNET = re.compile(r"resnet(18|34|50|101)(\..*)?")
"""timm's names. In other networks, norms contain activations, which transformers loses when it freezes the norms."""


class Unsupported(NamedTuple):
    """A setting of transformers that condetr has only one value of."""

    key: str
    only: Any


UNSUPPORTED = (
    Unsupported("position_embedding_type", "sine"),
    Unsupported("activation_function", "relu"),
    Unsupported("num_channels", 3),
)

PREPARATION = (
    Unsupported("do_rescale", True),
    Unsupported("rescale_factor", 1 / 255),
    Unsupported("do_normalize", True),
    Unsupported("image_mean", IMAGENET_MEAN),
    Unsupported("image_std", IMAGENET_STD),
    Unsupported("resample", 2),
)
"""The image processor's preprocessing; 2 is PIL's number for bilinear interpolation."""


def transformers_model(config: DetectorConfig) -> TransformersModel:
    """Return this detector's form in transformers; raises InputError if transformers has no such detector."""
    theirs = published_form(config, target="transformers").transformers
    if theirs is None:
        raise InputError(f"transformers has no {config.kind}; only condetr's own format has it")
    return theirs


def read_model_type(config: Json, *, source: str) -> TransformersModel:
    """Return the detector of a config.json; raises InputError if condetr does not have it."""
    known = {theirs.model_type: theirs for published in PUBLISHED.values() if (theirs := published.transformers)}
    found = config.get("model_type")
    if str(found) not in known:
        raise InputError(f"{source} describes a model of type {found!r}, not {' or '.join(known)}")
    return known[str(found)]


def read_unseen(config: Json, *, source: str) -> Unseen:
    """Return the settings that tensors do not show; raises InputError for values that condetr does not support."""
    for key, only in UNSUPPORTED:
        if config.get(key, only) != only:
            raise InputError(f"{source} has {key} {config[key]!r}; condetr only supports {only!r}")
    backbone = config.get("backbone_config") or {}
    if not isinstance(backbone, dict) or backbone.get("downsample_in_bottleneck"):
        raise InputError(f"{source} has a backbone_config that condetr cannot build: {backbone!r}"[:200])
    name = str(config.get("backbone") or backbone.get("backbone") or "resnet50")
    if not PLAIN_RESNET.fullmatch(name):
        raise InputError(f"{source} has the backbone {name}; condetr can only convert ResNet-18, 34, 50 and 101")
    heads = config.get("encoder_attention_heads", 8)
    dropout, num_queries = config.get("dropout", 0.1), config.get("two_stage_num_proposals", 300)
    if not isinstance(heads, int) or config.get("decoder_attention_heads", 8) != heads:
        raise InputError(f"{source} must have one number of attention heads for encoder and decoder, got {heads!r}")
    if not isinstance(dropout, int | float):
        raise InputError(f"{source} has dropout {dropout!r}, which is not a number")
    if not isinstance(num_queries, int):
        raise InputError(f"{source} has two_stage_num_proposals {num_queries!r}, which is not a number")
    dilation = bool(config.get("dilation")) or backbone.get("output_stride") == 16
    return Unseen(num_heads=heads, dilation=dilation, dropout=float(dropout), num_queries=num_queries)


def read_classes(config: Json, *, num_rows: int, source: str) -> LabelMap:
    """Return the classes of id2label, otherwise COCO's or numbers; a label map in the file that agrees adds ids."""
    id2label = config.get("id2label")
    if id2label is not None and not isinstance(id2label, dict):
        raise InputError(f"{source}: id2label must be an object, found {type(id2label).__name__}")
    if id2label is None:
        theirs = unnamed_classes(num_rows)
    else:
        theirs = from_id2label(id2label, num_rows=num_rows, source=source)
    label_map = _our_label_map(config, source=source)
    if label_map is None:
        return theirs
    ours = label_map
    if len(label_map) != num_rows:
        ours = replace(label_map, rows=Rows(label_map.dataset_ids, num_rows))
    if _are_named(ours, id2label):
        return ours
    sentence = f"{source} has a label map of condetr that disagrees with id2label; id2label is used"
    warnings.warn(sentence, InputWarning, stacklevel=2)
    return theirs


def read_transform(config: Json, preprocessor: Json, *, source: str) -> TransformConfig:
    """Return the image processor's transform, or condetr's own settings if they agree or the processor has none."""
    theirs = _their_transform(preprocessor, source=source)
    given = _ours(config)
    if "transform" not in given:
        return theirs
    ours = from_mapping(_Transform, {"transform": given["transform"]}, source=source).transform
    if not preprocessor or _resizing(ours) == _resizing(theirs):
        return ours
    sentence = f"{source} has another size than condetr's own settings; the image processor's is used"
    warnings.warn(sentence, InputWarning, stacklevel=2)
    return theirs


def read_own_threshold(config: Json, *, source: str) -> float | None:
    """Return the score threshold that condetr has stored, if it has."""
    return read_threshold(_ours(config), source=source)


def make_config(model: LoadedModel) -> dict[str, Any]:
    """Return a config.json that transformers 4 and 5 read; its `condetr` key holds condetr's own settings."""
    config, backbone = model.detector_config, model.detector_config.backbone
    theirs = transformers_model(config)
    assert isinstance(backbone, ResNetConfig)
    names = to_id2label(model.label_map)
    return {
        "architectures": [f"{theirs.class_prefix}ForObjectDetection"],
        "model_type": theirs.model_type,
        "backbone": f"resnet{backbone.depth}",
        "use_timm_backbone": True,
        "use_pretrained_backbone": False,
        "dilation": backbone.dilation,
        **{key: getattr(config, setting) for key, setting in theirs.settings.items()},
        **dict(UNSUPPORTED),
        # True changes what the model computes: the decoder's running state is then normalised after every layer.
        "auxiliary_loss": False,
        **theirs.loss_weights,
        "id2label": {str(row): name for row, name in names.items()},
        "label2id": dict(zip(model.label_map.names, model.label_map.row_of_each, strict=True)),
        OURS: {
            "label_map": model.label_map.to_list(),
            "transform": dump(model.transform),
            **({} if model.threshold is None else {"threshold": model.threshold}),
        },
    }


def make_preprocessor(model: LoadedModel) -> dict[str, Any]:
    """Return the preprocessor_config.json with the preprocessing that is closest to condetr's."""
    return {
        "image_processor_type": f"{transformers_model(model.detector_config).class_prefix}ImageProcessor",
        "format": "coco_detection",
        **_resizing(model.transform),
        **dict(PREPARATION),
        "do_convert_annotations": True,
        "do_pad": True,
    }


@settings
class _Transform:
    transform: TransformConfig


def _ours(config: Json) -> dict[str, Any]:
    ours = config.get(OURS)
    return ours if isinstance(ours, dict) else {}


def _our_label_map(config: Json, *, source: str) -> LabelMap | None:
    ours = _ours(config)
    if "label_map" not in ours:
        return None
    try:
        return LabelMap.from_list(ours["label_map"])
    except InputError as error:
        raise InputError(f"{source}: {OURS}.label_map cannot be used: {error}") from None


def _are_named(label_map: LabelMap, id2label: Json | None) -> bool:
    """Tell whether these are the names of all rows."""
    if id2label is None:  # transformers omits the names if they are LABEL_0 and LABEL_1
        return label_map.rows is None
    return to_id2label(label_map) == {int(row): str(name) for row, name in id2label.items()}


def _their_transform(preprocessor: Json, *, source: str) -> TransformConfig:
    for key, only in PREPARATION:
        given = preprocessor.get(key)
        if given is not None and not _is_about(given, only):
            sentence = f"{source} has {key} {given!r}, but condetr preprocesses images with {key} {only!r}"
            raise InputError(f"{sentence}; train the model with that")
    if preprocessor.get("do_resize") is False:
        return LightTransformConfig()
    size = preprocessor.get("size", 800)
    sides = size if isinstance(size, dict) else {"shortest_edge": size}
    values: dict[str, Any]
    if "max_height" in sides:
        values = {"kind": "light", "size_hw": [sides["max_height"], sides.get("max_width")]}
    elif "shortest_edge" in sides:
        longest = sides.get("longest_edge") or preprocessor.get("max_size") or 1333
        values = {"kind": "paper", "eval_short_side": sides["shortest_edge"], "max_side": longest}
    else:
        raise InputError(f"{source} resizes to {sides}, which condetr does not do")
    return from_mapping(_Transform, {"transform": values}, source=source).transform


def _is_about(given: Any, only: Any) -> bool:  # noqa: ANN401 - numbers, or any other value in the file
    """Tell whether numbers agree up to rounding, by people or to float32."""
    try:
        return np.shape(given) == np.shape(only) and np.allclose(given, only, rtol=1e-3)
    except (ArithmeticError, TypeError, ValueError):  # numpy's errors for text, objects and ragged lists
        return False


def _resizing(transform: TransformConfig) -> dict[str, Any]:
    """Return the sizes of an image processor."""
    if isinstance(transform, PaperTransformConfig):
        size = {"shortest_edge": transform.eval_short_side, "longest_edge": transform.max_side}
    elif transform.size_hw is not None:
        size = {"max_height": transform.size_hw[0], "max_width": transform.size_hw[1]}
    else:
        return {"do_resize": False, "size": {"shortest_edge": 800, "longest_edge": 1333}}
    return {"do_resize": True, "size": size}
