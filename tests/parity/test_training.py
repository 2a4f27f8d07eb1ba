"""Twenty training steps from the same weights on the same batches stay together with a plain loop over transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condetr.engine.optim import OptimizerConfig
from tests.parity.peers import Kind, fresh_model, inputs, make_peers, small_config, targets, their_output, their_targets
from tests.parity.test_losses import KINDS, as_dict, our_criterion, their_criterion, weighted_sum

STEPS, BATCHES = 20, 4
OPTIMIZER = OptimizerConfig(lr=1e-4, backbone_lr=1e-5, weight_decay=1e-4, clip_norm=0.1)


def their_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Return the optimizer of the official scripts: a tenth of the rate for the backbone."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in named if "backbone" not in name]},
        {"params": [parameter for name, parameter in named if "backbone" in name], "lr": 1e-5},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, weight_decay=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_steps_have_the_same_losses(kind: Kind, tmp_path: Path) -> None:
    peers = make_peers(tmp_path, fresh_model(small_config(kind), num_class_rows=5))
    peers.ours.train()
    peers.theirs.train()
    ours, theirs = [], []
    our_optimizer, plain_optimizer = OPTIMIZER.build(peers.ours), their_optimizer(peers.theirs)
    criterion, plain_criterion = our_criterion(kind), their_criterion(kind, num_classes=5)

    for step in range(STEPS):
        seed = step % BATCHES
        batch = inputs(sizes_hw=((64, 96), (80, 64)), seed=seed)
        wanted = targets((2, 1 + seed), num_classes=5, seed=seed)
        num_boxes = float(sum(wanted.counts))
        loss = criterion(peers.ours(*batch), wanted, num_boxes=num_boxes)["loss"]
        ours.append(_step(loss, model=peers.ours, optimizer=our_optimizer))
        terms = plain_criterion(as_dict(their_output(peers.theirs, batch)), their_targets(wanted))
        theirs.append(_step(weighted_sum(terms, kind=kind), model=peers.theirs, optimizer=plain_optimizer))

    assert ours == pytest.approx(theirs, rel=3e-5)
    assert sum(ours[-BATCHES:]) < 0.98 * sum(ours[:BATCHES])


def _step(loss: torch.Tensor, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return float(loss.detach())
