"""A trial's tensors by name: weights, AdamW's averages, random state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

_RANDOM = "random"


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Everything that training changes. A tied weight is there once."""
    found = {_RANDOM: torch.get_rng_state()}
    for name, weight in model.named_parameters():
        found[f"weight/{name}"] = weight
        for key, value in optimizer.state[weight].items():
            found[f"{key}/{name}"] = value
    return found


@torch.no_grad()
def load_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `tensors_of`, for a model and an optimizer made alike."""
    torch.set_rng_state(tensors[_RANDOM])
    for name, weight in model.named_parameters():
        weight.copy_(tensors[f"weight/{name}"])
        for key in ("step", "exp_avg", "exp_avg_sq"):
            stored = tensors[f"{key}/{name}"]
            # AdamW keeps the step count on the CPU unless it is capturable or fused on a GPU.
            optimizer.state[weight][key] = stored.to(weight.device)
