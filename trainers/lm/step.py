"""One optimizer step: forward and backward in as many parts as fit, clip, update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trainers.lm.device import autocast


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Mean loss in nats per token without the z-loss, and the gradient's norm before clipping; on the device."""

    loss: torch.Tensor
    grad_norm: torch.Tensor


class Stepper:
    """Takes optimizer steps. A batch that does not fit is halved for good until it does.

    Raises torch.OutOfMemoryError where a single sequence does not fit.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        grad_clip: float,
        z_loss: float,
        micro_batch: int,
    ) -> None:
        self.micro_batch = micro_batch
        self._model = model
        self._optimizer = optimizer
        self._device = device
        self._grad_clip = grad_clip
        self._z_loss = z_loss
        self._parameters = list(model.parameters())

    def step(self, batch: torch.Tensor) -> StepResult:
        """Train on a batch of (sequences, sequence_length + 1) token numbers."""
        batch = batch.to(self._device, non_blocking=True)
        loss = self._gradients(batch)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._grad_clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return StepResult(loss=loss, grad_norm=grad_norm)

    def _gradients(self, batch: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                return self._accumulate(batch)
            except torch.OutOfMemoryError:
                if self.micro_batch == 1:
                    raise
            self._optimizer.zero_grad(set_to_none=True)
            self.micro_batch //= 2
            torch.cuda.empty_cache()

    def _accumulate(self, batch: torch.Tensor) -> torch.Tensor:
        """Mean loss of the batch; the gradients add up to that of the mean, however it is cut."""
        total = torch.zeros((), device=self._device, dtype=torch.float64)
        for part in batch.split(self.micro_batch):  # type: ignore[no-untyped-call]
            share = len(part) / len(batch)
            loss, penalty = self._loss(part)
            ((loss + penalty) * share).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * share
        return total

    def _loss(self, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        with autocast(self._device):
            logits = self._model(input_ids=part[:, :-1], use_cache=False).logits
        logits = logits.float().flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, part[:, 1:].flatten())
        return loss, self._z_loss * logits.logsumexp(-1).square().mean() if self._z_loss else 0.0
