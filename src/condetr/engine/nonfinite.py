"""Reports about non-finite steps: the first non-finite module, the images, and the norms of the weights."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.data.batch import Batch
from condetr.errors import RunError
from condetr.runs.folder import RunFolder
from condetr.storage.atomic import replaced_folder
from condetr.storage.pickles import save_pickle

LossOf = Callable[[Batch], Float[Tensor, ""]]
"""Runs the detector forward on a batch and returns the loss, without communication between processes."""

MAX_IN_A_ROW = 50
"""The number of consecutive skipped steps that ends a training."""

MAX_RECORDED = 3
"""The number of consecutive skipped steps for which a report is written."""

LARGEST_BATCH = 64 * 2**20
"""Batches with more bytes of pixels than this are not saved."""


class Culprit(NamedTuple):
    """The first non-finite value of a step."""

    module: str
    """Name inside the detector; "criterion" for the losses."""
    what: Literal["parameter", "output", "loss", "gradient of its output"]


class SkippedSteps:
    """Writes reports about skipped steps, and ends a training after too many in a row."""

    def __init__(self, run: RunFolder, *, detector: nn.Module, loss_of: LossOf) -> None:
        self.run = run
        self.detector = detector
        self.loss_of = loss_of
        self.in_a_row = 0

    def diagnose(self, batches: Sequence[Batch], *, process: int, facts: Mapping[str, Any]) -> str:
        """Write a report folder about a step, unless there are several already; return a sentence about it."""
        self.in_a_row += 1
        found = None
        if self.in_a_row <= MAX_RECORDED:
            name = f"step_{facts['step']}" if process == 0 else f"step_{facts['step']}_process_{process}"
            folder = self.run.nonfinite / name
            found = record_nonfinite(folder, self.detector, batches=batches, loss_of=self.loss_of, facts=facts)
        where = "" if found is None else f", first in {found.module} ({found.what})"
        return f"step {facts['step']} skipped: its loss or gradient is not finite{where}"

    def raise_if_too_many(self, *, step: int, last_state: str) -> None:
        """Raise RunError if too many steps in a row were skipped."""
        if self.in_a_row < MAX_IN_A_ROW:
            return
        raise RunError(
            f"the loss or the gradient was not finite in {MAX_IN_A_ROW} steps up to step {step}: {self.run.nonfinite} "
            f"says where it began; the last good state is {last_state}; try a smaller optimizer.lr or "
            f"precision=32-true in a new run, if necessary with --init-from {self.run.path}"
        )


def record_nonfinite(
    folder: Path, detector: nn.Module, *, batches: Sequence[Batch], loss_of: LossOf, facts: Mapping[str, Any]
) -> Culprit | None:
    """Run the step again to find its culprit, and write a report into `folder`.

    `report.json` holds the culprit, the images, `facts` and the norms of the weights; `batch.pt` the batch itself
    unless it is large. The parameters' gradients stay as they are.
    """
    culprit, batch = next(
        ((found, batch) for batch in batches if (found := find_culprit(detector, batch, loss_of=loss_of))),
        (None, batches[0]),
    )
    report = {
        **facts,
        "first_not_finite": None if culprit is None else culprit._asdict(),
        "image_ids": [image_id for each in batches for image_id in each.image_ids],
        "image_ids_of_the_batch": list(batch.image_ids),
        "weights": {name: float(value.norm()) for name, value in _top_level_weights(detector).items()},
    }
    with replaced_folder(folder) as draft:
        (draft / "report.json").write_text(json.dumps(_without_nan(report), indent=2) + "\n")
        if batch.pixels.nbytes <= LARGEST_BATCH:
            save_pickle(_as_plain(batch), draft / "batch.pt")
    return culprit


def find_culprit(detector: nn.Module, batch: Batch, *, loss_of: LossOf) -> Culprit | None:
    """Return the first non-finite value: a weight, a module's output in the forward pass, the loss, or a gradient."""
    for name, parameter in detector.named_parameters():
        if not parameter.isfinite().all():
            return Culprit(name, "parameter")
    with _outputs(detector) as outputs:
        loss = loss_of(batch)
    for name, output in outputs:
        if not output.isfinite().all():
            return Culprit(name, "output")
    if not loss.isfinite():
        return Culprit("criterion", "loss")
    learning = [(name, output) for name, output in outputs if output.requires_grad]
    # Not loss.backward(): it would change the gradients, and start the all-reduce between processes.
    gradients = torch.autograd.grad(loss, [output for _, output in learning], allow_unused=True)
    for (name, _), gradient in reversed([*zip(learning, gradients, strict=True)]):
        if gradient is not None and not gradient.isfinite().all():
            return Culprit(name, "gradient of its output")
    return None


@contextmanager
def _outputs(detector: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Collect the tensors that modules return inside the block, in order, with the modules' names."""
    found: list[tuple[str, Tensor]] = []

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        found.extend((name, tensor) for tensor in _tensors(output))

    hooks = [module.register_forward_hook(partial(note, name)) for name, module in detector.named_modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _top_level_weights(detector: nn.Module) -> dict[str, Float[Tensor, " N"]]:
    return {
        name: torch.cat([parameter.detach().float().flatten() for parameter in part.parameters()])
        for name, part in detector.named_children()
        if any(True for _ in part.parameters())
    }


def _as_plain(batch: Batch) -> dict[str, Any]:
    """Return a batch as plain containers, which torch.load reads with weights_only."""
    plain = {**batch._asdict(), "targets": batch.targets._asdict()}
    plain["original_sizes_hw"] = list(batch.original_sizes_hw)
    return plain


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - JSON is anything
    """Write NaN and infinities as strings, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
