"""Weights travel between the official format, ours and transformers' without a bit changed, by either's names."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from condetr.inference.model_folder import LoadedModel
from condetr.interop.convert import convert
from condetr.interop.loading import find_source, read
from condetr.interop.official import write_official
from condetr.shapes import DetectorOutput
from tests.parity.peers import Kind, detector_config, hf, inputs, random_model, small_config, their_random_model
from tests.parity.test_losses import KINDS


@torch.inference_mode()
def assert_same_function(model: LoadedModel, theirs: Any) -> None:  # noqa: ANN401 - a model of transformers
    batch = inputs(sizes_hw=((96, 128), (112, 90)))
    ours: DetectorOutput = model.detector(*batch)
    expected = theirs(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())

    torch.testing.assert_close(ours.final.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.final.boxes_cxcywh, expected.pred_boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_way_through_all_formats_changes_no_bit(kind: Kind, tmp_path: Path) -> None:
    first, last = tmp_path / "first.pth", tmp_path / "last.pth"
    write_official(first, random_model(detector_config(kind)))

    convert(first, tmp_path / "ours", to="condetr")
    convert(tmp_path / "ours", tmp_path / "theirs", to="transformers")
    convert(tmp_path / "theirs", tmp_path / "again", to="condetr")
    convert(tmp_path / "again", last, to="official")

    with torch.serialization.safe_globals([Namespace]):
        states = [torch.load(path)["model"] for path in (first, last)]
    assert len(states[0]) == {"conditional_detr": 564, "detr": 458}[kind]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert load_file(tmp_path / "theirs/model.safetensors").keys() != states[0].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_saves_is_read(kind: Kind, tmp_path: Path) -> None:
    theirs = their_random_model(kind, num_labels=7, num_queries=9)
    theirs.save_pretrained(tmp_path)

    model = read(find_source(tmp_path))

    config: Any = model.detector_config
    assert (model.label_map.num_rows, config.num_queries) == (7, 9)
    assert_same_function(model, theirs)


def test_shards_that_transformers_saves_are_read(tmp_path: Path) -> None:
    theirs = their_random_model("conditional_detr")
    theirs.save_pretrained(tmp_path, max_shard_size="30MB")

    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert_same_function(read(find_source(tmp_path)), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_version_5_in_memory_are_read(kind: Kind, tmp_path: Path) -> None:
    theirs = their_random_model(kind)
    theirs.save_pretrained(tmp_path)
    old = set(load_file(tmp_path / "model.safetensors"))
    save_file(dict(theirs.state_dict()), tmp_path / "model.safetensors")

    model = read(find_source(tmp_path))

    assert old != set(theirs.state_dict())
    assert_same_function(model, theirs)


@pytest.mark.parametrize(("layer_type", "depths"), [("basic", [2, 2, 2, 2]), ("bottleneck", [3, 4, 6, 3])])
def test_transformers_own_resnet_is_read(layer_type: str, depths: list[int], tmp_path: Path) -> None:
    widths = [64, 128, 256, 512] if layer_type == "basic" else [256, 512, 1024, 2048]
    backbone = hf.ResNetConfig(layer_type=layer_type, depths=depths, hidden_sizes=widths, out_features=["stage4"])
    theirs = their_random_model("conditional_detr", backbone=None, use_timm_backbone=False, backbone_config=backbone)
    theirs.save_pretrained(tmp_path)

    assert_same_function(read(find_source(tmp_path)), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_dc5_is_read_from_the_settings(kind: Kind, tmp_path: Path) -> None:
    theirs = their_random_model(kind, backbone="resnet50", dilation=True)
    theirs.save_pretrained(tmp_path / "theirs")

    convert(tmp_path / "theirs", tmp_path / "dilated.pth", to="official")

    assert_same_function(read(find_source(tmp_path / "dilated.pth")), theirs)


def test_transformers_loads_what_we_publish_as_it_is(tmp_path: Path) -> None:
    model = random_model(small_config("conditional_detr"), num_class_rows=91)
    write_official(tmp_path / "coco.pth", model)

    convert(tmp_path / "coco.pth", tmp_path / "published", to="transformers")

    theirs = hf.AutoModelForObjectDetection.from_pretrained(tmp_path / "published").eval()
    processor = hf.AutoImageProcessor.from_pretrained(tmp_path / "published")
    assert_same_function(model, theirs)
    assert (theirs.config.id2label[0], theirs.config.id2label[1], theirs.config.id2label[90]) == (
        "N/A",
        "person",
        "toothbrush",
    )
    assert theirs.config.label2id["person"] == 1
    assert (processor.size.shortest_edge, processor.size.longest_edge) == (800, 1333)
    assert (tmp_path / "published" / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")


def test_our_settings_survive_a_visit_to_transformers(tmp_path: Path) -> None:
    model = random_model(small_config("detr"), num_class_rows=4)
    write_official(tmp_path / "first.pth", model)
    convert(tmp_path / "first.pth", tmp_path / "published", to="transformers")
    theirs = hf.AutoModelForObjectDetection.from_pretrained(tmp_path / "published")
    theirs.save_pretrained(tmp_path / "saved by them")

    again = read(find_source(tmp_path / "saved by them"))

    assert "condetr" in json.loads((tmp_path / "saved by them/config.json").read_text())
    assert again[1:] == model[1:]
