import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.errors import InputError, InputWarning
from condetr.inference.fit import MisfitError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.official import read_official, write_official
from condetr.labels import Category, LabelMap, Rows

QUERIES = "query_embed.weight"


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a checkpoint."""
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_comes_back_with_its_classes(model: LoadedModel, official: Path) -> None:
    again = read_official(official)

    assert (again.label_map, again.transform) == (model.label_map, model.transform)
    torch.testing.assert_close(again.detector.state_dict(), model.detector.state_dict(), rtol=0, atol=0)


def test_the_preparation_of_images_goes_along(model: LoadedModel, tmp_path: Path) -> None:
    transform = LightTransformConfig(size_hw=(30, 40))

    write_official(tmp_path / "light.pth", model._replace(transform=transform))

    assert read_official(tmp_path / "light.pth").transform == transform


@pytest.mark.parametrize(
    ("name", "value"), [("transform", {"kind": "heavy"}), ("transform", 3), ("label_map", [{}]), ("label_map", 3)]
)
def test_what_goes_along_must_be_usable(name: str, value: object, official: Path) -> None:
    change(official, lambda content: content.update({name: value}))

    with pytest.raises(InputError, match=name):
        read_official(official)


def test_bare_weights_of_91_rows_have_the_classes_of_coco(official: Path) -> None:
    change(official, lambda content: content.pop("label_map"))

    again = read_official(official)

    assert len(again.label_map) == 80
    assert again.label_map.categories[-1] == Category(90, "toothbrush")
    assert again.label_map.num_rows == 91


def test_a_checkpoint_needs_nothing_but_its_model(official: Path) -> None:
    change(official, lambda content: [content.pop("args"), content.pop("label_map")])

    config: Any = read_official(official).detector_config

    assert (config.num_heads, config.dropout, config.num_queries) == (8, 0.1, 5)


def test_malice_is_refused_and_runs_nothing(tmp_path: Path, official: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Malice(trap)}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malice(trap)))

    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(
            InputError, match=r"is refused, no code in it was run|is damaged or not a checkpoint"
        ) as caught:
            read_official(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 10_000, -1, -100])
def test_a_checkpoint_that_is_cut_off_is_refused(kept: int, official: Path) -> None:
    official.write_bytes(official.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"official\.pth is (damaged|refused)"):
        read_official(official)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        torch.zeros(3),
        {},
        {"model": None},
        {"model": {}},
        {"model": [torch.zeros(1)]},
        {"model": {"a": 1}},
        {"model": {1: torch.zeros(1)}},
        {"state_dict": {"a": torch.zeros(1)}},
    ],
)
def test_a_file_without_named_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")

    with pytest.raises(InputError, match=r"which is not a checkpoint|holds no `model` with named tensors"):
        read_official(tmp_path / "other.pth")


def test_every_misfit_is_listed(official: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        state = content["model"]
        state["transformer.decoder.norm.weight"] = torch.zeros(3)
        del state["input_proj.bias"]
        state["mask_head.lay1.weight"] = torch.zeros(2, 2)

    change(official, edit)

    with pytest.raises(
        MisfitError, match=r"transformer\.decoder\.norm\.weight has shape \(3,\) instead of \(16,\)"
    ) as e:
        read_official(official)

    assert [tuple(misfit) for misfit in e.value.misfits] == [
        ("transformer.decoder.norm.weight", (16,), (3,)),
        ("input_proj.bias", (16,), None),
        ("mask_head.lay1.weight", None, (2, 2)),
    ]


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_model_saved_inside_a_wrapper_is_read(wrapper: str, model: LoadedModel, official: Path) -> None:
    def wrap(content: dict[str, Any]) -> None:
        content["model"] = {wrapper + name: tensor for name, tensor in content["model"].items()}

    change(official, wrap)

    again = read_official(official)
    torch.testing.assert_close(again.detector.state_dict(), model.detector.state_dict(), rtol=0, atol=0)


def test_one_name_alone_is_not_taken_out_of_its_wrapper(official: Path) -> None:
    change(official, lambda content: content["model"].update({"module.x": torch.zeros(1)}))

    with pytest.raises(MisfitError, match=r"module\.x is not part of the detector"):
        read_official(official)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"detr.class_embed.weight": (92, 256)}, "a segmentation model"),
        ({"backbone.cls_token": (1, 1, 192)}, "neither Conditional DETR nor DETR nor Deformable DETR"),
        ({"transformer.decoder.ref_point_head.layers.0.weight": (256, 256)}, "has no matrix query_embed.weight"),
    ],
)
def test_another_model_is_named(tensors: dict[str, tuple[int, ...]], sentence: str, tmp_path: Path) -> None:
    torch.save({"model": {name: torch.zeros(shape) for name, shape in tensors.items()}}, tmp_path / "other.pth")

    with pytest.raises(InputError, match=sentence):
        read_official(tmp_path / "other.pth")


def test_dilation_is_guessed_from_the_name_aloud(official: Path) -> None:
    change(official, lambda content: content["args"].__dict__.pop("dilation"))
    dc5 = official.rename(official.with_name("ConditionalDETR_r50dc5_epoch50.pth"))

    with pytest.warns(InputWarning, match="read as DC5 because of its name"):
        config = read_official(dc5).detector_config

    assert config.backbone.dilation  # type: ignore[union-attr]


def test_a_label_map_names_the_rows_of_the_datas_ids(official: Path) -> None:
    label_map = LabelMap((Category(7, "nut"), Category(90, "bolt")))

    again = read_official(official, label_map=label_map)

    assert again.label_map == replace(label_map, rows=Rows((7, 90), 91))


def test_a_label_map_of_other_ids_is_refused(official: Path) -> None:
    with pytest.raises(InputError, match=r"class rows 0\.\.90, but the 1 classes have ids up to 91"):
        read_official(official, label_map=LabelMap((Category(91, "bolt"),)))


def test_what_the_official_code_does_not_have_is_not_written(model: LoadedModel, tmp_path: Path) -> None:
    config = model.detector_config
    assert isinstance(config, ConditionalDetrConfig)
    other = model._replace(detector_config=replace(config, spatial_query="C"))

    with pytest.raises(InputError, match="the official code has no detector with spatial_query=C"):
        write_official(tmp_path / "no.pth", other)
    assert list(tmp_path.iterdir()) == []
