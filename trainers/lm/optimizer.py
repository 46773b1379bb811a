"""AdamW with a weight decay of its own: on matrices only, and not scaled by the learning rate."""

from __future__ import annotations

import torch
from torch import nn

from search_spaces.space import HyperParameters
from trainers.lm.model import linear_weights


def build_optimizer(
    model: nn.Module, settings: HyperParameters, *, weight_decay: float, beta1: float, eps: float
) -> torch.optim.AdamW:
    """AdamW in two groups: the weights that multiply (decayed) and all others.

    Norms, biases, position tables and an untied input embedding are not decayed; a tied one is, because
    it is the output head. `weight_decay` is the part that a weight loses in one step at full learning
    rate, whatever that rate is; with the schedule it falls like the rate.
    """
    decayed = linear_weights(model)
    chosen = {id(weight) for weight in decayed}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    # torch multiplies the decay by the learning rate of the moment: divided by the peak rate here, what
    # is left is weight_decay times the schedule's factor.
    groups = [
        {"params": decayed, "weight_decay": weight_decay / settings.learning_rate},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(beta1, settings.beta2),
        eps=eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
