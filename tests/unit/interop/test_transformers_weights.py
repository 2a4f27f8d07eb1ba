import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.loading import Source, find_source
from condetr.interop.transformers_folder import read_transformers

FORMS = ("pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")


def rewrite(folder: Path, form: str) -> None:
    """Rewrite the weights of a folder in one of the forms that transformers has besides model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if form == "pytorch_model.bin":
        torch.save(tensors, folder / form)
        return
    stem, suffix = form.removesuffix(".index.json").split(".")
    names = list(tensors)
    shards = {f"{stem}-{number}-of-2.{suffix}": names[number - 1 :: 2] for number in (1, 2)}
    for shard, held in shards.items():
        save = save_file if suffix == "safetensors" else torch.save
        save({name: tensors[name] for name in held}, folder / shard)
    write_index(folder / form, {name: shard for shard, held in shards.items() for name in held})


def write_index(path: Path, weight_map: object) -> None:
    """Write the file that says in which shard each tensor is."""
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_hold_the_same(form: str, model: LoadedModel, transformers: Path) -> None:
    rewrite(transformers, form)

    again = read_transformers(transformers)

    torch.testing.assert_close(again.detector.state_dict(), model.detector.state_dict(), rtol=0, atol=0)
    assert find_source(transformers / form) == Source(transformers, "transformers")


def test_safetensors_come_before_a_pickle(transformers: Path) -> None:
    (transformers / "pytorch_model.bin").write_bytes(b"never opened")

    read_transformers(transformers)


def test_a_folder_without_weights_is_told_what_may_be_there(transformers: Path) -> None:
    (transformers / "model.safetensors").unlink()

    with pytest.raises(
        InputError, match=r"holds no weights .*model\.safetensors, .* or pytorch_model\.bin\.index\.json"
    ):
        read_transformers(transformers)


def test_a_missing_shard_is_named(transformers: Path) -> None:
    rewrite(transformers, "model.safetensors.index.json")
    (transformers / "model-2-of-2.safetensors").unlink()

    with pytest.raises(InputError, match=r"index\.json names model-2-of-2\.safetensors, which does not exist"):
        read_transformers(transformers)


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("change", [{"surprise": "SHARD"}, {"model.decoder.layernorm.bias": None}])
def test_an_index_that_does_not_fit_its_shards_is_refused(
    form: str, change: dict[str, str | None], transformers: Path
) -> None:
    rewrite(transformers, form)
    index = json.loads((transformers / form).read_text())["weight_map"]
    changed = index | {name: place and min(index.values()) for name, place in change.items()}
    write_index(transformers / form, {name: place for name, place in changed.items() if place})

    with pytest.raises(InputError, match=f"do not agree on the tensor {next(iter(change))}; copy"):
        read_transformers(transformers)


@pytest.mark.parametrize(
    "weight_map",
    [None, [], {}, 3, {"a": 1}, {"a": ""}, {"a": ".."}, {"a": "../a.bin"}, {"a": "/etc/passwd"}, {"a": "b\0"}],
)
def test_an_index_names_files_beside_it(weight_map: object, transformers: Path) -> None:
    rewrite(transformers, "pytorch_model.bin.index.json")
    write_index(transformers / "pytorch_model.bin.index.json", weight_map)

    with pytest.raises(InputError, match=r"has no weight_map .* beside it|which does not exist"):
        read_transformers(transformers)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": Path("x")}, "is refused, no code in it was run"),
        ([torch.zeros(1)], "which is not a checkpoint"),
        ({"a": 1}, "holds something other than named tensors"),
        ({1: torch.zeros(1)}, "holds something other than named tensors"),
        ({}, "neither Conditional DETR nor DETR"),
    ],
)
def test_a_pickle_of_other_things_is_refused(content: object, sentence: str, transformers: Path) -> None:
    (transformers / "model.safetensors").unlink()
    torch.save(content, transformers / "pytorch_model.bin")

    with pytest.raises(InputError, match=rf"pytorch_model\.bin {sentence}|{sentence}"):
        read_transformers(transformers)


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_a_pickle_that_is_cut_off_is_refused(kept: int, transformers: Path) -> None:
    rewrite(transformers, "pytorch_model.bin")
    path = transformers / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"pytorch_model\.bin is (damaged|refused)"):
        read_transformers(transformers)
