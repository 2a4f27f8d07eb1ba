"""Models by hub id, through the real client and a hub on the loopback."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForObjectDetection

import condetr
from condetr.errors import InputError
from condetr.interop.hub import fetch, is_hub_id
from tests.parity.hub import serve
from tests.parity.peers import their_random_model

ID = "somebody/conditional-detr-tiny"
COMMAND = "from condetr.cli.main import main; main()"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A hub's storage with one model that transformers made."""
    their_random_model("conditional_detr", num_labels=3).save_pretrained(tmp_path / "hub" / ID)
    (tmp_path / "hub" / ID / "unrelated.bin").write_bytes(b"not asked for")
    return tmp_path / "hub"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a client in this process that uses it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
    return tmp_path / "cache"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.usefixtures("cache")
def test_an_id_gives_the_model_of_its_folder(models: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        by_id = condetr.load(ID)

    by_folder = condetr.load(models / ID)
    assert by_id.label_map == by_folder.label_map
    found, expected = (each.predict(image, threshold=0.0) for each in (by_id, by_folder))
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


def test_what_was_fetched_once_needs_no_hub(models: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        first = fetch(ID)

    assert fetch(ID) == first
    assert cache in first.parents
    assert {path.name for path in first.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.usefixtures("cache")
def test_without_a_hub_the_sentence_says_what_to_do(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)

    with pytest.raises(InputError, match=rf"{ID} .* could not be downloaded from the hub {address} .*hf download {ID}"):
        condetr.load(ID)


@pytest.mark.usefixtures("cache")
def test_an_unknown_id_is_told_from_a_missing_connection(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(InputError, match="somebody/else is neither a file or folder here nor a readable model on"):
            condetr.load("somebody/else")


@pytest.mark.usefixtures("cache")
def test_pickles_are_fetched_if_there_is_nothing_else(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = load_file(models / ID / "model.safetensors")
    torch.save(tensors, models / ID / "pytorch_model.bin")
    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        both = {path.name for path in fetch(ID).iterdir()}

    (models / ID / "model.safetensors").rename(models / ID / "elsewhere")
    (models / ID).rename(models / f"{ID}-2")
    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        pickle = {path.name for path in fetch(f"{ID}-2").iterdir()}

    assert both == {"config.json", "model.safetensors"}
    assert pickle == {"config.json", "pytorch_model.bin"}
    condetr.load(f"{ID}-2")


@pytest.mark.usefixtures("cache")
def test_all_shards_are_fetched(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForObjectDetection.from_pretrained(models / ID)
    (models / ID / "model.safetensors").unlink()
    model.save_pretrained(models / ID, max_shard_size="30MB")

    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        condetr.load(ID)

    assert len(list(fetch(ID).glob("model-*.safetensors"))) > 1


@pytest.mark.usefixtures("cache")
def test_a_model_without_weights_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / ID / "model.safetensors").unlink()

    with serve(models) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(InputError, match=r"has no weights on the hub \(looked for model\.safetensors, "):
            condetr.load(ID)


def test_the_command_takes_an_id_and_the_clients_environment(models: Path, image: Path, tmp_path: Path) -> None:
    with serve(models) as address:
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, "predict", ID, str(image), "--out", str(tmp_path / "found")],
            env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )

    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "found" / "detections.json").is_file()


@pytest.mark.parametrize("path", ["runs", "runs/demo/best", "./demo", "/tmp/demo", "a b/c", "", "../x/y"])
def test_a_path_is_no_id(path: str) -> None:
    assert not is_hub_id(path)


def test_a_misspelt_run_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match="runs/dmeo does not exist"):
        condetr.load("runs/dmeo")
