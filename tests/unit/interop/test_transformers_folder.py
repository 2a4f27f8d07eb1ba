import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from condetr.config import dump
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig, TransformConfig
from condetr.errors import InputError, InputWarning
from condetr.inference.fit import MisfitError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.classes import to_id2label
from condetr.interop.transformers_config import make_preprocessor, read_classes, read_transform
from condetr.interop.transformers_folder import read_transformers
from condetr.labels import Category, LabelMap, Rows


def change_json(path: Path, **changes: object) -> None:
    """Set entries of a JSON file, or remove those that are None."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def test_a_folder_comes_back_as_it_was_written(model: LoadedModel, transformers: Path) -> None:
    again = read_transformers(transformers)

    assert again[1:] == model[1:]
    torch.testing.assert_close(again.detector.state_dict(), model.detector.state_dict(), rtol=0, atol=0)


def test_without_our_key_the_names_of_transformers_count(model: LoadedModel, transformers: Path) -> None:
    change_json(transformers / "config.json", condetr=None)

    again = read_transformers(transformers)

    assert again.label_map == model.label_map
    assert again.label_map.rows == model.label_map.rows


def test_without_any_names_91_rows_are_those_of_coco(model: LoadedModel, transformers: Path) -> None:
    change_json(transformers / "config.json", condetr=None, id2label=None)

    assert read_transformers(transformers).label_map == model.label_map


def test_names_that_transformers_changed_are_believed_aloud(model: LoadedModel, transformers: Path) -> None:
    names = to_id2label(model.label_map) | {24: "quagga"}
    change_json(transformers / "config.json", id2label={str(row): name for row, name in names.items()})

    with pytest.warns(InputWarning, match=r"config\.json .* id2label is used"):
        again = read_transformers(transformers)

    assert again.label_map.rows == model.label_map.rows
    assert set(again.label_map.names) - set(model.label_map.names) == {"quagga"}


TWO_CLASSES = LabelMap((Category(3, "cat"), Category(7, "dog")))
"""The classes of a model that was then trained in transformers."""


@pytest.mark.parametrize(
    ("id2label", "num_rows", "expected"),
    [
        ({"0": "zebra", "1": "ant"}, 2, ("zebra", "ant")),
        ({"0": "dog", "1": "cat"}, 2, ("dog", "cat")),
        ({"0": "zebra", "1": "ant", "2": "bee"}, 3, ("zebra", "ant", "bee")),
        ({"0": "cat", "1": "dog", "2": "bee"}, 3, ("cat", "dog", "bee")),
        ({"0": "cat"}, 1, ("cat",)),
        ({str(row): "dog" if row == 1 else "N/A" for row in range(9)}, 9, ("dog",)),
        (None, 9, tuple(f"class {row}" for row in range(9))),
    ],
)
def test_a_label_map_of_ours_that_is_out_of_date_is_not_believed(
    id2label: dict[str, str] | None, num_rows: int, expected: tuple[str, ...]
) -> None:
    config = {"condetr": {"label_map": TWO_CLASSES.to_list()}, "id2label": id2label}

    with pytest.warns(InputWarning, match="id2label is used"):
        classes = read_classes(config, num_rows=num_rows, source="test")

    assert classes.names == expected


@pytest.mark.parametrize("name", ["dog", "N/A", "n/a"])
@pytest.mark.parametrize("rows", [None, Rows((3, 7), 8)])
def test_a_label_map_of_ours_adds_the_ids_of_the_data(rows: Rows | None, name: str) -> None:
    ours = LabelMap((Category(3, "cat"), Category(7, name)), rows=rows)
    names = to_id2label(ours)
    config = {"condetr": {"label_map": ours.to_list()}, "id2label": {str(row): names[row] for row in names}}

    assert read_classes(config, num_rows=ours.num_rows, source="test") == ours


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "yolos"}, "a model of type 'yolos'"),
        ({"position_embedding_type": "learned"}, "position_embedding_type 'learned'"),
        ({"encoder_attention_heads": 3, "decoder_attention_heads": 3}, "a width of 16, which 3 heads cannot divide"),
        ({"encoder_attention_heads": 0, "decoder_attention_heads": 0}, "0 heads cannot divide"),
        ({"encoder_attention_heads": "many"}, "one number of attention heads"),
        ({"dropout": "much"}, "dropout 'much'"),
        ({"backbone_config": {"downsample_in_bottleneck": True}}, "a backbone_config that condetr cannot build"),
        ({"backbone": "resnet50d"}, "the backbone resnet50d"),
        ({"backbone": None, "backbone_config": {"backbone": "mobilenetv2_100"}}, "the backbone mobilenetv2_100"),
        ({"backbone_config": 5}, "a backbone_config that condetr cannot build"),
        ({"condetr": None, "id2label": {"0": "one"}}, r"id2label must name the class rows 0\.\.90, it has 1 entries"),
        ({"condetr": None, "id2label": ["one"]}, "id2label must be an object, found list"),
        ({"condetr": {"label_map": [{}]}}, r"condetr\.label_map cannot be used"),
        ({"condetr": {"transform": {"kind": "paper", "max_side": 0}}}, "max_side"),
    ],
)
def test_settings_that_cannot_be_used_are_named(changes: dict[str, object], sentence: str, transformers: Path) -> None:
    change_json(transformers / "config.json", **changes)

    with pytest.raises(InputError, match=sentence):
        read_transformers(transformers)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[" * 100_000, "\ud800"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_json_that_is_no_object_is_refused(name: str, text: str, transformers: Path) -> None:
    (transformers / name).write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(InputError, match=rf"{name} (is not valid JSON|must hold a JSON object)"):
        read_transformers(transformers)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 71) + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}     ',
        struct.pack("<Q", 69) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,999999999999999]}} ',
    ],
)
def test_absurd_headers_of_tensors_are_refused(content: bytes, transformers: Path) -> None:
    (transformers / "model.safetensors").write_bytes(content)

    with pytest.raises(InputError, match=r"model\.safetensors (is damaged|holds neither)"):
        read_transformers(transformers)


@pytest.mark.parametrize("kept", [1, 8, 1000, -1])
def test_cut_off_tensors_are_refused(kept: int, transformers: Path) -> None:
    path = transformers / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match="is damaged"):
        read_transformers(transformers)


def test_every_misfit_is_listed_by_their_names(transformers: Path) -> None:
    tensors = load_file(transformers / "model.safetensors")
    tensors["model.encoder.layers.0.self_attn.q_proj.weight"] = torch.zeros(3, 5)
    del tensors["model.encoder.layers.0.fc1.bias"]
    tensors["model.encoder.layers.9.surprise.weight"] = torch.zeros(2)
    save_file(tensors, transformers / "model.safetensors")

    with pytest.raises(MisfitError) as caught:
        read_transformers(transformers)

    listed = {misfit.name: (misfit.expected, misfit.found) for misfit in caught.value.misfits}
    assert listed["model.encoder.layers.0.self_attn.q_proj.weight"] == ((16, 16), (3, 5))
    assert listed["model.encoder.layers.0.fc1.bias"] == ((8,), None)
    assert listed["model.encoder.layers.9.surprise.weight"] == (None, (2,))


def test_weights_of_another_model_type_do_not_fit(transformers: Path) -> None:
    change_json(transformers / "config.json", model_type="detr")

    with pytest.raises(MisfitError, match=r"does not fit detr: model\.decoder\.layers\.0\.self_attn\.q_proj\.weight"):
        read_transformers(transformers)


def test_a_tensor_under_two_names_is_refused(transformers: Path) -> None:
    tensors = load_file(transformers / "model.safetensors")
    tensors["model.encoder.layers.0.mlp.fc1.bias"] = tensors["model.encoder.layers.0.fc1.bias"].clone()
    save_file(tensors, transformers / "model.safetensors")

    with pytest.raises(InputError, match="some tensors twice"):
        read_transformers(transformers)


@pytest.mark.parametrize(
    ("preprocessor", "expected"),
    [
        ({}, PaperTransformConfig()),
        ({"size": 600, "max_size": 1000}, PaperTransformConfig(eval_short_side=600, max_side=1000)),
        (
            {"size": {"shortest_edge": 640, "longest_edge": 900}},
            PaperTransformConfig(eval_short_side=640, max_side=900),
        ),
        ({"size": {"max_height": 300, "max_width": 400}}, LightTransformConfig(size_hw=(300, 400))),
        ({"do_resize": False}, LightTransformConfig()),
    ],
)
def test_the_image_processor_says_how_images_are_prepared(
    preprocessor: dict[str, object], expected: TransformConfig
) -> None:
    assert read_transform({}, preprocessor, source="test") == expected


@pytest.mark.parametrize(
    "ours", [LightTransformConfig(), LightTransformConfig(size_hw=(30, 40)), PaperTransformConfig(eval_short_side=128)]
)
@pytest.mark.parametrize(
    ("preprocessor", "expected"),
    [
        (
            {"do_resize": True, "size": {"shortest_edge": 128, "longest_edge": 200}},
            PaperTransformConfig(eval_short_side=128, max_side=200),
        ),
        ({"size": {"max_height": 40, "max_width": 30}}, LightTransformConfig(size_hw=(40, 30))),
        ({"do_rescale": True}, PaperTransformConfig()),
    ],
)
def test_a_size_that_transformers_changed_is_believed_aloud(
    ours: TransformConfig, preprocessor: dict[str, object], expected: TransformConfig
) -> None:
    with pytest.warns(InputWarning, match="the image processor's is used"):
        transform = read_transform({"condetr": {"transform": dump(ours)}}, preprocessor, source="test")

    assert transform == expected


@pytest.mark.parametrize("keys", ["all", "none"])
def test_settings_of_ours_add_what_no_image_processor_says(keys: str, model: LoadedModel) -> None:
    ours = PaperTransformConfig(eval_short_side=128, crop_short_sides=(100,))
    preprocessor = make_preprocessor(model._replace(transform=ours)) if keys == "all" else {}

    assert read_transform({"condetr": {"transform": dump(ours)}}, preprocessor, source="test") == ours


@pytest.mark.parametrize(
    "preprocessor",
    [
        {"rescale_factor": 0.003921569, "image_mean": [0.48500001430511475, 0.456, 0.406]},
        {"do_rescale": None, "do_normalize": None, "image_std": None, "resample": None},
    ],
)
def test_rounded_and_empty_figures_are_the_usual_ones(preprocessor: dict[str, object]) -> None:
    assert read_transform({}, preprocessor, source="test") == PaperTransformConfig()


@pytest.mark.parametrize("ours", [{}, {"condetr": {"transform": {"kind": "light"}}}])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_normalize", False),
        ("do_rescale", False),
        ("rescale_factor", 1 / 127.5),
        ("rescale_factor", "1/255"),
        ("image_mean", [0.5, 0.5, 0.5]),
        ("image_mean", 0.485),
        ("image_mean", {"r": 1}),
        ("image_std", [0.5, 0.5, 0.5]),
        ("image_std", [0.229, 0.224]),
        ("resample", 3),
    ],
)
def test_pixels_that_condetr_would_see_otherwise_are_refused(key: str, value: object, ours: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"test has {key} .*, but condetr preprocesses images with {key} .*; train"):
        read_transform(ours, {key: value}, source="test")


@pytest.mark.parametrize(
    ("preprocessor", "sentence"),
    [
        ({"size": {"height": 5, "width": 5}}, "which condetr does not do"),
        ({"size": "large"}, "eval_short_side"),
        ({"size": {"shortest_edge": -1}}, "eval_short_side"),
        ({"size": {"max_height": "tall", "max_width": 3}}, "size_hw"),
        ({"size": {"max_height": 3}}, "size_hw"),
    ],
)
def test_another_preparation_is_refused(preprocessor: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_transform({}, preprocessor, source="test")


@pytest.mark.parametrize(
    "transform",
    [PaperTransformConfig(eval_short_side=500), LightTransformConfig(size_hw=(30, 40)), LightTransformConfig()],
)
def test_preparations_survive_the_way_there_and_back(transform: TransformConfig, model: LoadedModel) -> None:
    preprocessor = make_preprocessor(model._replace(transform=transform))

    assert read_transform({}, preprocessor, source="test") == transform
