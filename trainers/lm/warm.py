"""What a process pays once: imports, the first AdamW, the kernel probe."""

from __future__ import annotations

import torch

from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.lm import kernels
from trainers.lm.model import build_model
from trainers.lm.optimizer import build_optimizer
from trainers.lm.step import Stepper

_SCALE = ModelScale(name="warm-up", depth=1, width=8, ffn_width=16, heads=1, vocab_size=16, sequence_length=8)
_SETTINGS = HyperParameters(learning_rate=1e-3, batch_size=1, beta2=0.95)


def warm_up(device: torch.device) -> None:
    """Take one step of a tiny model."""
    model = build_model(_SCALE, seed=0, attention=kernels.attention(kernels.choose(device))).to(device)
    optimizer = build_optimizer(model, _SETTINGS, weight_decay=0.0, beta1=0.9, eps=1e-8)
    stepper = Stepper(model=model, optimizer=optimizer, device=device, grad_clip=1.0, z_loss=0.0, micro_batch=1)
    stepper.step(torch.zeros(1, _SCALE.sequence_length + 1, dtype=torch.int64))
