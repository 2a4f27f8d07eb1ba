"""AdamW with the paper's parameter groups, Muon or SGD beside it, and learning rates as functions of the step."""

import copy
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import Discriminator, Field
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from condetr.config import settings
from condetr.engine.muon import Muon
from condetr.errors import InputError

Schedule = Callable[[int], float]
"""The factor of the learning rate at a step, counted from 0."""


@settings
class SgdConfig:
    """SGD with momentum for parameters that AdamW would have."""

    lr: Annotated[float, Field(gt=0)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    all_but: tuple[str, ...] = ()
    """Parameters with one of these words in their name stay AdamW's."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of its part of the gradient."""


@settings
class OptimizerConfig:
    """AdamW with weight decay on all trainable parameters, a smaller rate for the backbone, and gradient clipping."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` trains the matrices of attention and feed-forward layers by Muon, and all else by AdamW."""
    muon_rate: Annotated[float, Field(gt=0)] = 10.0
    """Muon's learning rate as a multiple of `lr`; 5 to 20 are usual."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate of everything but the backbone."""
    backbone_lr: Annotated[float, Field(ge=0)] = 1e-5
    """Learning rate of parameters with "backbone" in their name; 0 leaves them unchanged."""
    slow: tuple[str, ...] = ()
    """Parameters outside the backbone with one of these words in their name get a tenth of `lr`."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    norm_weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Of weights and biases of norms; by default like all others."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 0.1
    """Largest norm of the whole gradient, or with several optimizers of each one's part of it (`sgd` has its own)."""
    sgd: SgdConfig | None = None
    """A second optimizer, to which `weight_decay` and the schedule apply too, but no other rate than its own."""

    def build(self, detector: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer; parameters with "backbone" in their name get `backbone_lr` (0 leaves them unchanged)."""
        trainable = {name: p for name, p in detector.named_parameters() if p.requires_grad}
        of_norms = _parameters_of_norms(detector)
        rates = {"other": self.lr, "slow": self.lr / 10, "backbone": self.backbone_lr}
        groups = []
        for part, lr in rates.items():
            groups += self._groups(trainable, of_norms, part=part, lr=lr)
        optimizers: dict[str, torch.optim.Optimizer] = {}
        if groups:
            optimizers["adamw"] = torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)
        if self.kind == "muon":
            groups = self._muon_groups(trainable)
            optimizers["muon"] = Muon(groups, weight_decay=self.weight_decay)
        if self.sgd is not None:
            groups = self._groups(trainable, of_norms, part="sgd", lr=self.sgd.lr)
            optimizers["sgd"] = torch.optim.SGD(
                groups, lr=self.sgd.lr, momentum=self.sgd.momentum, weight_decay=self.weight_decay, fused=True
            )
        return Optimizers(optimizers) if len(optimizers) > 1 else next(iter(optimizers.values()))

    def limits(self, optimizer: torch.optim.Optimizer) -> list[tuple[torch.optim.Optimizer, float]]:
        """Return the parts of an optimizer that was built, and the largest norm of each one's gradient."""
        parts = [*optimizer.parts.values()] if isinstance(optimizer, Optimizers) else [optimizer]
        return [(part, math.inf if (norm := self._clip_norm_of(part)) is None else norm) for part in parts]

    def _clip_norm_of(self, optimizer: torch.optim.Optimizer) -> float | None:
        return self.sgd.clip_norm if self.sgd is not None and isinstance(optimizer, torch.optim.SGD) else self.clip_norm

    def _groups(
        self, trainable: dict[str, nn.Parameter], of_norms: set[str], *, part: str, lr: float
    ) -> list[dict[str, Any]]:
        """Return the groups of a part, that of the norms separately if they have a weight decay of their own."""
        names = [name for name in trainable if self._part_of(name) == part]
        apart = of_norms if self.norm_weight_decay is not None else set()
        groups: list[dict[str, Any]] = [
            {"params": [trainable[name] for name in names if name not in apart]},
            {"params": [trainable[name] for name in names if name in apart], "weight_decay": self.norm_weight_decay},
        ]
        return [{**group, "lr": lr, "base_lr": lr} for group in groups if group["params"] and lr]

    def _muon_groups(self, trainable: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
        """Return the groups of single matrices and of fused ones; raises InputError where there are none."""
        names = [name for name in trainable if self._part_of(name) == "muon"]
        if not names:
            raise InputError(
                "optimizer.kind=muon is for the matrices of an encoder or decoder, and none is left for it here: use "
                "optimizer.kind=adamw" + (", or name them in optimizer.sgd.all_but" if self.sgd else "")
            )
        lr = self.lr * self.muon_rate
        by_blocks = {
            blocks: [trainable[name] for name in names if name.endswith(FUSED) == (blocks > 1)] for blocks in (1, 3)
        }
        return [
            {"params": params, "blocks": blocks, "lr": lr, "base_lr": lr}
            for blocks, params in by_blocks.items()
            if params
        ]

    def _part_of(self, name: str) -> str:
        if self.sgd is not None and not any(word in name for word in self.sgd.all_but):
            return "sgd"
        if "backbone" in name:
            return "backbone"
        if any(word in name for word in self.slow):
            return "slow"
        return "muon" if self.kind == "muon" and MATRICES.search(name) else "other"


MATRICES = re.compile(
    r"\b(encoder|decoder)\.layers\.\d+\.(self_attention|cross_attention|feedforward)"
    r"\.(?!sampling_offsets|attention_weights)(\w+\.|in_proj_)weight$"
)
"""Names of what Muon trains. Offsets and weights of sampled points are not projections of features."""
FUSED = "in_proj_weight"
"""The last part of the name of a matrix that consists of those for query, key and value."""


class Optimizers(torch.optim.Optimizer):
    """Several optimizers that step together, each with parameters of its own."""

    def __init__(self, parts: dict[str, torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts.values() for group in part.param_groups], defaults={})
        self._share_groups()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Let each of them make its step."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each of them by its name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of each of them."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self._share_groups()

    def _share_groups(self) -> None:
        """Let rates that are set here be theirs."""
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]


NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _parameters_of_norms(detector: nn.Module) -> set[str]:
    """Return the names of the weights and biases of norms."""
    norms = [(name, module) for name, module in detector.named_modules() if isinstance(module, NORMS)]
    return {f"{name}.{part}" if name else part for name, norm in norms for part, _ in norm.named_parameters()}


@settings
class StepScheduleConfig:
    """A constant rate that drops once (the paper's schedules) or several times, by epochs."""

    kind: Literal["step"] = "step"
    drop_epoch: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0)] = 40
    """Epochs before the drop; a fraction falls inside an epoch."""
    further_drop_epochs: tuple[Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0)], ...] = ()
    """Later drops by the same factor."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of the rate after the drop."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise from nearly 0."""

    def build(self, *, steps_per_epoch: int, steps: int) -> Schedule:
        """Return the factor of the learning rate by step, in a training of so many steps."""
        drop_steps = [round(epoch * steps_per_epoch) for epoch in (self.drop_epoch, *self.further_drop_epochs)]

        def factor(step: int) -> float:
            drops = sum(step >= drop_step for drop_step in drop_steps)
            return _warmup(step, self.warmup_steps) * float(self.factor**drops)

        return factor


@settings
class CosineScheduleConfig:
    """Half a cosine from the full rate to `final_factor` of it at the last step."""

    kind: Literal["cosine"] = "cosine"
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise from nearly 0."""

    def build(self, *, steps_per_epoch: int, steps: int) -> Schedule:
        """Return the factor of the learning rate by step, in a training of so many steps."""
        return lambda step: (
            _warmup(step, self.warmup_steps)
            * _cosine(_progress(step, start=self.warmup_steps, end=steps), final_factor=self.final_factor)
        )


@settings
class LinearScheduleConfig:
    """A straight line from the full rate to `final_factor` of it at the last step."""

    kind: Literal["linear"] = "linear"
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise from nearly 0."""

    def build(self, *, steps_per_epoch: int, steps: int) -> Schedule:
        """Return the factor of the learning rate by step, in a training of so many steps."""
        return lambda step: (
            _warmup(step, self.warmup_steps)
            * (1 - (1 - self.final_factor) * _progress(step, start=self.warmup_steps, end=steps))
        )


@settings
class WsdScheduleConfig:
    """Warm-up, stable, decay: the full rate, then half a cosine to `final_factor` of it, which is kept to the end."""

    kind: Literal["wsd"] = "wsd"
    decay_from: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the steps before the decay."""
    decay_to: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the steps at the end of the decay."""
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise from nearly 0."""

    def __post_init__(self) -> None:
        if self.decay_to <= self.decay_from:
            raise InputError(
                f"the decay must end after it has begun: got decay_from={self.decay_from}, decay_to={self.decay_to}"
            )

    def build(self, *, steps_per_epoch: int, steps: int) -> Schedule:
        """Return the factor of the learning rate by step, in a training of so many steps."""
        start, end = (round(share * steps) for share in (self.decay_from, self.decay_to))
        return lambda step: (
            _warmup(step, self.warmup_steps)
            * _cosine(_progress(step, start=start, end=end), final_factor=self.final_factor)
        )


ScheduleConfig = Annotated[
    StepScheduleConfig | CosineScheduleConfig | LinearScheduleConfig | WsdScheduleConfig, Discriminator("kind")
]


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Scale every group's own rate by `factor`; return that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    first: float = optimizer.param_groups[0]["lr"]
    return first


def _warmup(step: int, warmup_steps: int) -> float:
    return min((step + 1) / warmup_steps, 1.0) if warmup_steps else 1.0


def _progress(step: int, *, start: int, end: int) -> float:
    """Return how much of the way from one step to another is done, from 0 to 1."""
    return min(max(step - start, 0) / max(end - start, 1), 1.0)


def _cosine(progress: float, *, final_factor: float) -> float:
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2


@settings
class EmaConfig:
    """An average of the weights, which is evaluated and exported."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9998
    """The decay at each step; it starts lower, so that the average follows the first steps."""

    def build(self, detector: nn.Module) -> "Ema":
        """Start an average at the detector's current weights."""
        return Ema(detector, decay=self.decay)


class Ema(nn.Module):
    """The averaged detector is `module`; running statistics of norms are averaged too.

    It does the same as torch's AveragedModel, which however waits for the GPU in every update.
    """

    n_averaged: Tensor

    def __init__(self, detector: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(detector)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update(self, detector: nn.Module) -> None:
        """Move the average towards a detector's weights; the first update copies them."""
        updates = int(self.n_averaged)
        decay = min(self.decay, (1 + updates) / (10 + updates)) if updates else 0.0
        get_ema_multi_avg_fn(decay)(_floating(self.module), _floating(detector), self.n_averaged)
        for averaged, current in zip(self.module.buffers(), detector.buffers(), strict=True):
            if not averaged.is_floating_point():
                averaged.copy_(current)
        self.n_averaged += 1


def _floating(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
