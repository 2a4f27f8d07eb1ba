"""`condetr convert`: weights to and from other libraries."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from condetr.cli.options import AsJson, print_json
from condetr.words import ap_text, counted

if TYPE_CHECKING:
    from condetr.exports.graph import Options
    from condetr.inference.fit import MisfitError, Shape
    from condetr.interop.loading import Format as ModelFormat
    from condetr.interop.verify import Difference
    from condetr.labels import LabelMap

Format = Literal["condetr", "official", "transformers", "onnx", "openvino", "torch"]
FILES: dict[str, Format] = {".pth": "official", ".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
"""Formats that are a single file, by its suffix; the others are folders."""
MADE_OF_ONNX = {
    ".blob", ".engine", ".hef", ".mlmodel", ".mlpackage", ".mnn", ".om", ".ort", ".param", ".pb", ".plan", ".rknn",
    ".tflite", ".trt",
}  # fmt: skip
"""Models for other programs, most of which have tools to convert an ONNX graph."""
OTHER_FILES = {
    ".bin", ".ckpt", ".gz", ".h5", ".npz", ".pkl", ".pt", ".safetensors", ".tar", ".torchscript", ".zip",
}  # fmt: skip
"""Weights in formats of other libraries, which condetr does not write."""
FILE_TYPE = re.compile(r"\.[a-z]{2}[a-z0-9]*")
"""What the type of a file looks like."""
LARGEST_SIDE = 2**13
"""Of images in settings, too."""
MOST_LOST = 0.01
"""How much AP 8 bits may cost: a point."""
SHOWN_MISFITS = 40


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Run folder, model folder of condetr or transformers, official .pth, or hub id."
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="A .pth, .onnx, .xml or .pt2 file, or a folder.")],
    *,
    to: Annotated[
        Format | None,
        typer.Option(help="Format to write; by default that of DST's suffix (.pth is official), condetr for a folder."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Classes of the source: a run's labels.json or a COCO annotation file.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Graph of this size only, into which images are fitted.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Graph whose large weights are stored in 16 bits.")] = False,
    detections: Annotated[
        bool, typer.Option("--detections", help="Graph that returns scores, labels and boxes in pixels of one image.")
    ] = False,
    without_mask: Annotated[
        bool, typer.Option("--without-mask", help="Graph of float pixels without padding, for OpenCV and others.")
    ] = False,
    int8: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="OpenVINO graph whose backbone and encoder compute in 8 bits; ends with AP."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Convert weights, then run both models on the same images and show the largest differences."""
    from rich.console import Console
    from rich.text import Text

    from condetr.errors import InputError
    from condetr.exports.files import is_graph
    from condetr.exports.graph import PLAIN, Options
    from condetr.inference.fit import MisfitError
    from condetr.interop import convert as interop
    from condetr.interop.loading import Source
    from condetr.interop.verify import measure_difference, measure_graph

    _require_possible(destination)
    _require_known(destination, to=to)
    by_name = FILES.get(destination.suffix.lower())
    to = to or by_name or "condetr"
    if by_name != (to if to in FILES.values() else None):
        kinds = (
            "official checkpoints are .pth files, ONNX graphs are .onnx files, OpenVINO's .xml and torch's .pt2, other "
            "formats are folders"
        )
        raise InputError(f"{kinds}, got {destination} for {to}")
    options = Options(
        size_hw=None if size is None else _size_hw(size),
        half=fp16,
        detections=detections,
        has_mask=not without_mask,
    )
    if options != PLAIN and not is_graph(destination):
        raise InputError(f"--size, --fp16, --detections and --without-mask are for graphs, not for {destination}")
    if int8 is not None and (fp16 or destination.suffix.lower() != ".xml"):
        raise InputError(
            "give --int8 or --fp16, not both"
            if fp16
            else f"--int8 is for OpenVINO's graphs, which end in .xml, not for {destination}"
        )
    _require_replaceable(destination, source=source, overwrite=overwrite)
    label_map = None if labels is None else _read_labels(labels)
    if int8 is not None:
        _convert_to_int8(source, destination, data=int8, label_map=label_map, options=options, as_json=as_json)
        return
    try:
        with Console(stderr=True).status(Text(f"converting {source} to {destination}, and comparing both")):
            form = cast("ModelFormat", "graph" if is_graph(destination) else to)
            origin = interop.convert(source, destination, to=form, label_map=label_map, options=options)
            if is_graph(destination):
                difference = measure_graph(origin, destination, label_map=label_map, options=options)
            else:
                difference = measure_difference(origin, Source(destination, form), label_map=label_map)
    except MisfitError as error:
        _show_misfits(error)
        raise
    if as_json:
        print_json({"source": source, "destination": str(destination), **difference._asdict()})
    else:
        _show(difference, source=source, destination=destination, of="scores" if detections else "logits")
    if not difference.is_small:
        typer.echo(f"condetr: {destination} is not the same function as {source}; do not use it", err=True)
        raise typer.Exit(1)


def _require_possible(destination: Path) -> None:
    """Raise InputError if a part of the destination's path is a file, or if no file can have such a name."""
    from condetr.errors import InputError
    from condetr.storage.atomic import require_free

    require_free(destination.parent, overwrite=True)
    try:
        destination.exists()
    except OSError as error:
        raise InputError(f"cannot write to {destination}: {error.strerror}; name another one") from None


def _require_known(destination: Path, *, to: str | None) -> None:
    """Raise InputError for the name of a file that condetr does not write; it would become a folder.

    `v2` and `2024-05-01` are no types of files, so that a folder may end like this, and an existing folder and one
    whose format is given may end in any way that no known type does.
    """
    from condetr.errors import InputError

    suffix = destination.suffix.lower()
    if suffix in FILES:
        return
    if suffix in MADE_OF_ONNX:
        cure = f"convert to {destination.with_suffix('.onnx')}, which other tools can convert to {suffix}"
    elif suffix in OTHER_FILES:
        cure = f"give {destination.with_suffix('.pth')} or a folder's name without {suffix}"
    elif FILE_TYPE.fullmatch(suffix) and to is None and not destination.exists():
        cure = f"if it is to be a folder, add --to condetr or --to transformers, or leave {suffix} out"
    else:
        return
    *others, last = sorted(FILES)
    raise InputError(f"condetr writes {', '.join(others)} and {last} files and folders, not {destination}; {cure}")


def _convert_to_int8(
    source: str, destination: Path, *, data: Path, label_map: "LabelMap | None", options: "Options", as_json: bool
) -> None:
    """Write a graph in 8 bits and show what they cost."""
    from rich.console import Console
    from rich.text import Text

    from condetr.api import evaluate_predictor
    from condetr.data.sources import open_data
    from condetr.errors import InputError
    from condetr.exports.int8 import some_images
    from condetr.inference.predictor import Predictor
    from condetr.interop import convert as interop
    from condetr.interop.loading import find_source, load, read
    from condetr.runs.part import in_classes_of

    splits = open_data(data)
    model = read(find_source(source), label_map=label_map).ready()
    train, val = (
        in_classes_of(model.label_map, split, weights=source, data=data) for split in (splits.train, splits.val)
    )
    if not any(len(record.labels) for record in val.records):
        raise InputError(f"no image of {val.name} in {data} has a box, so that nobody can see what 8 bits cost")
    with Console(stderr=True).status(Text(f"converting {source} to {destination}, and evaluating both")):
        interop.convert(
            source,
            destination,
            to="graph",
            label_map=label_map,
            options=options,
            measured_on=lambda transform: some_images(train, transform),
        )
        before = Predictor(model.detector, transform=model.transform, label_map=model.label_map)
        results = {
            name: evaluate_predictor(predictor, val).results.to_dict()
            for name, predictor in (("source", before), ("int8", load(destination)))
        }
    ap = {name: {key: found[key] for key in ("AP", "AP50")} for name, found in results.items()}
    lost = ap["source"]["AP"] - ap["int8"]["AP"]
    if as_json:
        print_json({"source": source, "destination": str(destination), "data": str(data), "images": len(val), **ap})
    else:
        typer.echo(f"on {val.name} of {data}, {counted(len(val), 'image')}:")
        for name, found in zip((source, destination), ap.values(), strict=True):
            typer.echo(f"  AP {ap_text(found['AP'])}  AP50 {ap_text(found['AP50'])}  {name}")
    if lost > MOST_LOST:
        typer.echo(
            f"condetr: 8 bits cost {ap_text(lost)} of AP, more than {MOST_LOST}: do not use {destination}", err=True
        )
        raise typer.Exit(1)


def _size_hw(text: str) -> tuple[int, int]:
    """Read a height and width; raises InputError for anything else."""
    from condetr.errors import InputError

    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    height, width = map(int, match.groups()) if match else (0, 0)
    if not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise InputError(
            f"--size is a height and a width in pixels such as 640x960, at most {LARGEST_SIDE}, got {text}"
        )
    return height, width


def _require_replaceable(destination: Path, *, source: str, overwrite: bool) -> None:
    """Raise InputError if the destination exists and may not be replaced, or is not a model."""
    from condetr.errors import InputError
    from condetr.inference.model_folder import CONFIG

    beside = destination.with_suffix(".bin")
    if destination.suffix.lower() == ".xml" and beside.exists() and not (overwrite and destination.exists()):
        raise InputError(f"{beside} exists already, where the graph's weights would be; name another destination")
    if not destination.exists():
        return
    if not overwrite:
        raise InputError(f"{destination} exists already; name another destination, or add --overwrite")
    if destination.is_file() != (destination.suffix.lower() in FILES):
        raise InputError(f"{destination} is not of the kind that would be written; name another destination")
    if Path(source).exists() and (destination.samefile(source) or destination in Path(source).absolute().parents):
        raise InputError(f"{destination} is the source of the weights; name another destination")
    if destination.is_dir() and any(destination.iterdir()) and not (destination / CONFIG).is_file():
        raise InputError(f"{destination} is a folder but holds no model; name another destination")


def _read_labels(path: Path) -> "LabelMap":
    """Read a labels.json, or the categories of a COCO file in the order of their ids."""
    from condetr.errors import InputError
    from condetr.inference.model_folder import read_json
    from condetr.labels import Category, LabelMap

    if path.is_file() and path.read_bytes()[:1] == b"[":
        return LabelMap.load(path)
    try:
        rows = sorted(read_json(path)["categories"], key=lambda row: int(row["id"]))
        return LabelMap(tuple(Category(int(row["id"]), str(row["name"])) for row in rows))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} holds neither a label map nor COCO categories with id and name") from None


def _show(difference: "Difference", *, source: str, destination: Path, of: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("", "model", "run by", box=box.SIMPLE_HEAD, title="largest |difference| on random images")
    for heading in (of, "boxes"):
        table.add_column(heading, justify="right")
    table.add_row("from", source, difference.libraries[0])
    table.add_row(
        "to", str(destination), difference.libraries[1], f"{difference.logits:.1e}", f"{difference.boxes:.1e}"
    )
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


def _show_misfits(error: "MisfitError") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def shape(value: "Shape | None") -> str:
        return "-" if value is None else " x ".join(map(str, value)) or "scalar"

    table = Table("tensor", "the detector has", "the file has", box=box.SIMPLE_HEAD)
    for misfit in error.misfits[:SHOWN_MISFITS]:
        table.add_row(misfit.name, shape(misfit.expected), shape(misfit.found))
    if len(error.misfits) > SHOWN_MISFITS:
        table.add_row(f"and {len(error.misfits) - SHOWN_MISFITS} more", "", "")
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(table)
