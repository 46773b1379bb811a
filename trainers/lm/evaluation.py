"""Loss on the held-out set: how many of its sequences at which point, and the mean with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from trainers.api import TrialSpec
from trainers.lm.data import HeldOut

# Points that only draw the curve cost at most this part of a trial's training (design). A forward pass is
# a third of a training step.
_COST = 0.05
_STEPS_PER_FORWARD = 1 / 3
# Points that only draw the curve use at least so many sequences; where that costs too much, some of them
# are left out. A guess: the error of the mean is then 0.03 to 0.08 nats, nearly alike for all trials.
_FEWEST = 16
_CHUNK_TOKENS = 4096  # of one forward pass: fits a processor's cache at a ladder's small end


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """Mean loss in nats per token, and its standard error over sequences (None for a single one).

    The error is that of sequences drawn at random; theirs is an order that makes it smaller (held_out.py).
    """

    mean: float
    stderr: float | None


def held_out_counts(spec: TrialSpec, available: int) -> dict[int, int]:
    """How many held-out sequences are used at each point of the curve; always the first ones.

    A function of the spec's lengths alone, hence equal for all trials of a scale. The ends of cells, the
    horizon among them, are what the laws compare across scales, so they use the whole set, whatever it
    costs the smallest. The other points only draw the curve: they use fewer, and some are left out where
    they would cost too much.
    """
    cells = {*spec.served_tokens, spec.tokens}
    others = sorted(set(spec.eval_tokens) - cells)
    budget = _COST * spec.tokens / spec.scale.sequence_length / _STEPS_PER_FORWARD
    fewest = min(_FEWEST, available)
    kept = _spread(others, int(budget / fewest))
    part = _between(fewest, budget / max(1, len(kept)), available)
    return dict(sorted((dict.fromkeys(kept, part) | dict.fromkeys(cells, available)).items()))


def _between(low: int, wanted: float, high: int) -> int:
    return min(high, max(low, int(wanted)))


def _spread(points: list[int], count: int) -> list[int]:
    """So many of the points, evenly taken, the last one among them."""
    if count >= len(points):
        return points
    return [points[len(points) - 1 - k * len(points) // count] for k in range(count)]


def held_out_loss(
    model: nn.Module, sequences: HeldOut, count: int, device: torch.device, autocast: torch.autocast
) -> HeldOutLoss:
    """The model's loss on the first `count` sequences."""
    length = sequences.batch(0, 1).shape[1] - 1
    chunk = max(1, _CHUNK_TOKENS // length)
    losses = []
    with torch.inference_mode(), autocast:
        for first in range(0, count, chunk):
            batch = sequences.batch(first, min(chunk, count - first)).to(device)
            losses.append(_sequence_losses(model, batch))
    every = torch.cat(losses).double().cpu()
    stderr = float(every.std()) / math.sqrt(count) if count > 1 else None
    return HeldOutLoss(mean=float(every.mean()), stderr=stderr)


def _sequence_losses(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    targets = batch[:, 1:]
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits.float()
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets).mean(1)
