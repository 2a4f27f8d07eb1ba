"""Conversion from any of the known formats to any other."""

from collections.abc import Callable, Iterable
from pathlib import Path

from condetr.data.batch import Batch
from condetr.data.transforms import EvalTransformConfig
from condetr.exports.files import write_graph
from condetr.exports.graph import PLAIN, Options
from condetr.inference.model_folder import LoadedModel, write_model
from condetr.interop.card import make_card, read_results
from condetr.interop.loading import Format, Source, find_source, read
from condetr.interop.official import write_official
from condetr.interop.transformers_folder import write_transformers
from condetr.labels import LabelMap
from condetr.storage.atomic import replaced_folder, write_text

Measured = Callable[[EvalTransformConfig], Iterable[Batch]]
"""Returns the images, prepared by a transform, that 8 bits are measured on."""


def convert(
    weights: Path | str,
    destination: Path,
    *,
    to: Format,
    label_map: LabelMap | None = None,
    options: Options = PLAIN,
    measured_on: Measured | None = None,
) -> Source:
    """Write the model in `weights` (anything that `load` takes) to `destination`; return the source.

    `official` is a .pth file, `graph` a file in the format that its suffix says, by the given `options`; `condetr` and
    `transformers` are folders, the latter with a complete model card. `label_map` gives the classes of the head's rows
    if the source does not. Raises InputError, or MisfitError with every tensor that does not fit, before anything is
    written.
    """
    source = find_source(weights)
    model = read(source, label_map=label_map)
    if to == "official":
        write_official(destination, model)
    elif to == "graph":
        export(destination, model, options=options, measured_on=measured_on)
    elif to == "condetr":
        write_model(destination, model)
    else:
        publish(destination, model, source=source)
    return source


def export(path: Path, model: LoadedModel, *, options: Options = PLAIN, measured_on: Measured | None = None) -> None:
    """Write a model's graph, with only the rows of its classes; the model must not be used afterwards."""
    model = model.ready()
    write_graph(
        path,
        model.detector,
        transform=model.transform,
        label_map=model.label_map,
        threshold=model.threshold,
        options=options,
        measured_on=measured_on,
    )


def publish(folder: Path, model: LoadedModel, *, source: Source) -> None:
    """Write a folder that transformers can load directly and that can be uploaded to the hub."""
    results = read_results(source.path) if source.format == "condetr" else None
    with replaced_folder(folder) as draft:
        write_transformers(draft, model)
        model.label_map.save(draft / "labels.json")
        write_text(draft / "README.md", make_card(model, name=folder.name, results=results))
