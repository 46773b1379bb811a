"""A planted loss surface with noise and divergence: milliseconds a trial.

For tests, previews and simulations: what the laws find can be held against what was planted.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from search_spaces.space import HyperParameters
from trainers.api import CurvePoint, Session, TrialPaused, TrialSpec
from trainers.options import Options, read_options

VERSION = "1"  # raise by hand whenever equal options would give other curves
CHECKPOINT_FILE = "synthetic.checkpoint"
_NAP_S = 0.02  # how often a sleeping trial looks whether it should stop


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The planted best settings of a cell, and their loss."""

    learning_rate: float
    batch_tokens: float
    beta2_half_life: float  # tokens
    loss: float


class PowerLaw(Options):
    """coefficient * params^params_exponent * tokens^tokens_exponent."""

    coefficient: float = Field(gt=0)
    params_exponent: float = 0.0
    tokens_exponent: float = 0.0

    def __call__(self, params: float, tokens: float) -> float:
        """The value at a size and a number of tokens."""
        return float(self.coefficient * params**self.params_exponent * tokens**self.tokens_exponent)


class SyntheticLaw(Options):
    """E + (A/N^alpha + B/D^beta) * exp(distance from the planted optimum).

    The distance is a quadratic in the natural logarithms of learning rate, batch tokens and beta2's
    half-life in tokens, each against its own power law. Defaults: Hoffmann et al. 2022, Approach 3, for
    the loss; Step Law (Li et al. 2025) for learning rate and batch; the half-life and all curvatures
    are guesses of a realistic size.
    """

    irreducible_loss: float = Field(default=1.69, ge=0)  # E, nats per token
    params_coefficient: float = Field(default=406.4, ge=0)  # A
    params_exponent: float = 0.34  # alpha
    tokens_coefficient: float = Field(default=410.7, ge=0)  # B
    tokens_exponent: float = 0.28  # beta
    learning_rate: PowerLaw = PowerLaw(coefficient=1.79, params_exponent=-0.713, tokens_exponent=0.307)
    batch_tokens: PowerLaw = PowerLaw(coefficient=0.58, tokens_exponent=0.571)
    beta2_half_life: PowerLaw = PowerLaw(coefficient=14.0, tokens_exponent=0.6)
    learning_rate_curvature: float = Field(default=0.03, ge=0)  # relative loss per squared e-fold, likewise below
    batch_curvature: float = Field(default=0.015, ge=0)
    beta2_curvature: float = Field(default=0.004, ge=0)
    asymmetry: float = Field(default=0.5, ge=0)  # a learning rate above the optimum costs so much more

    def optimum(self, params: float, tokens: float) -> Optimum:
        """The best settings of a cell, without noise."""
        return Optimum(
            learning_rate=self.learning_rate(params, tokens),
            batch_tokens=self.batch_tokens(params, tokens),
            beta2_half_life=self.beta2_half_life(params, tokens),
            loss=self.irreducible_loss + self._reducible(params, tokens),
        )

    def loss(self, params: float, tokens: float, settings: HyperParameters, sequence_length: int) -> float:
        """Loss of a run with these settings, without noise, nats per token."""
        best = self.optimum(params, tokens)
        batch = settings.batch_size * sequence_length
        rate = math.log(settings.learning_rate / best.learning_rate)
        steepness = self.learning_rate_curvature * (1 + self.asymmetry if rate > 0 else 1)
        distance = (
            steepness * rate**2
            + self.batch_curvature * math.log(batch / best.batch_tokens) ** 2
            + self.beta2_curvature * math.log(half_life(settings.beta2, batch) / best.beta2_half_life) ** 2
        )
        return self.irreducible_loss + self._reducible(params, tokens) * math.exp(distance)

    def _reducible(self, params: float, tokens: float) -> float:
        return float(
            self.params_coefficient / params**self.params_exponent
            + self.tokens_coefficient / tokens**self.tokens_exponent
        )


class SyntheticOptions(Options):
    """What the `synthetic` trainer takes."""

    law: SyntheticLaw = SyntheticLaw()
    noise_sd: float = Field(default=0.005, ge=0)  # of a run's final loss between seeds, nats per token; a guess
    divergence_multiple: float = Field(default=16.0, gt=1)  # of the best learning rate of the cell; a guess
    seconds_per_trial: float = Field(default=0.0, ge=0)  # sleep that stands for training


def half_life(beta2: float, batch_tokens: float) -> float:
    """Tokens after which a squared gradient counts half in AdamW's average (one step's for beta2 = 0)."""
    return batch_tokens * math.log(2) / -math.log(beta2) if beta2 > 0 else batch_tokens


class SyntheticTrainer:
    """Emits the planted curve. Resumes where it was, like a real one."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = read_options(SyntheticOptions, options, "synthetic")

    @property
    def version(self) -> str:
        """Covers every option but the sleep, which decides no result."""
        decisive = self.options.model_dump_json(exclude={"seconds_per_trial"})
        return f"synthetic-{VERSION}-{hashlib.sha256(decisive.encode()).hexdigest()[:16]}"

    def train(self, spec: TrialSpec, session: Session) -> None:
        """Emit a point at each evaluation, sleeping in between if asked to."""
        checkpoint = session.workspace / CHECKPOINT_FILE
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        session.resumed_at(done)
        for tokens in spec.eval_tokens:
            if tokens <= done:
                continue
            done = self._sleep(spec, session, checkpoint, done, tokens)
            point = CurvePoint(
                tokens=tokens,
                loss=self._loss(spec, tokens),
                time=time.time(),
                learning_rate=spec.settings.learning_rate,
                flops=float(spec.scale.flops_per_token() * tokens),
            )
            session.emit(point)
            if self.options.seconds_per_trial:
                _save(checkpoint, tokens)

    def _sleep(self, spec: TrialSpec, session: Session, checkpoint: Path, done: int, tokens: int) -> int:
        """Stand for the training from `done` to `tokens`; leaves with a checkpoint when asked to."""
        rate = spec.tokens / self.options.seconds_per_trial if self.options.seconds_per_trial else math.inf
        began = time.monotonic()
        while True:
            left = (tokens - done) / rate - (time.monotonic() - began)
            if session.should_stop():
                trained = 0 if math.isinf(rate) else int((time.monotonic() - began) * rate)
                _save(checkpoint, min(done + trained, tokens - 1))
                raise TrialPaused(f"asked to leave before {tokens:,} tokens")
            if left <= 0:
                return tokens
            time.sleep(min(left, _NAP_S))

    def _loss(self, spec: TrialSpec, tokens: int) -> float:
        params, settings, law = spec.scale.params, spec.settings, self.options.law
        limit = self.options.divergence_multiple * law.optimum(params, spec.tokens).learning_rate
        if settings.learning_rate > limit and tokens > spec.eval_tokens[0]:
            return math.nan
        noise = random.Random(f"{params} {spec.tokens} {settings} {spec.seed}").gauss(0, self.options.noise_sd)  # noqa: S311
        return law.loss(params, tokens, settings, spec.scale.sequence_length) + noise


def _save(checkpoint: Path, tokens: int) -> None:
    new = checkpoint.with_suffix(".new")
    new.write_text(str(tokens))
    new.replace(checkpoint)
