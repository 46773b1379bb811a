"""The training loop of one trial: steps, points, checkpoints, and leaving when asked."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from search_spaces.errors import InputError
from search_spaces.scale import FlopsCount
from trainers.api import CurvePoint, Session, TrialPaused, TrialSpec
from trainers.lm import kernels
from trainers.lm.checkpoint import Checkpoint, CheckpointFolder
from trainers.lm.data import PreparedData
from trainers.lm.device import autocast
from trainers.lm.evaluation import held_out_counts, held_out_loss
from trainers.lm.meter import Meter
from trainers.lm.model import build_model
from trainers.lm.optimizer import build_optimizer, set_learning_rate
from trainers.lm.options import LMOptions
from trainers.lm.schedule import Course, default_warmup
from trainers.lm.state import load_tensors, tensors_of
from trainers.lm.step import Stepper

# Asking whether to stop may cost a message to another process, so it is not done more often.
_ASK_SECONDS = 0.2


@dataclass(kw_only=True)
class Progress:
    """Where a run stands, beside its tensors."""

    tokens: int
    meter: Meter
    points: list[CurvePoint]


class Run:
    """One attempt of one trial, from its checkpoint or its start to its horizon."""

    def __init__(
        self, *, spec: TrialSpec, options: LMOptions, data: PreparedData, session: Session, device: torch.device
    ) -> None:
        _check(spec, data, options)
        self._spec = spec
        self._session = session
        self._device = device
        self._course = course_of(spec, options)
        self._train = data.stream(spec.scale.sequence_length, spec.seed)
        self._epoch_tokens = data.epoch_tokens(spec.scale.sequence_length)
        self._held_out = data.held_out(spec.scale.sequence_length)
        self._counts = held_out_counts(spec, len(self._held_out))
        self._folder = CheckpointFolder(session.workspace, session.attempt)
        self._checkpoint_seconds = options.checkpoint_seconds
        self._saved_at = self._asked_at = time.monotonic()
        self._restore(options)

    def run(self) -> None:
        """Train to the horizon. Raises TrialDiverged, TrialPaused, TrialFailed."""
        with kernels.using(self._kernel):
            while self._progress.tokens < self._spec.tokens:
                self._step()
                if self._progress.tokens in self._counts:
                    self._emit()
                self._look_up()
        self._save()

    def _restore(self, options: LMOptions) -> None:
        spec, checkpoint = self._spec, self._folder.newest()
        state: Mapping[str, Any] = checkpoint.state if checkpoint else {}
        self._kernel = kernels.Kernel(state["kernel"]) if checkpoint else kernels.choose(self._device)
        self._model = build_model(spec.scale, spec.seed, kernels.attention(self._kernel)).to(self._device)
        self._optimizer = build_optimizer(
            self._model, spec.settings, weight_decay=options.weight_decay, beta1=options.beta1, eps=options.eps
        )
        self._stepper = Stepper(
            model=self._model,
            optimizer=self._optimizer,
            device=self._device,
            grad_clip=options.grad_clip,
            z_loss=options.z_loss,
            micro_batch=state.get("micro_batch") or options.micro_batch or spec.settings.batch_size,
        )
        self._progress = _progress(state, spec)
        if checkpoint:
            load_tensors(self._model, self._optimizer, checkpoint.tensors)
        for point in self._progress.points:
            self._session.emit(point)
        self._session.resumed_at(self._progress.tokens)

    def _step(self) -> None:
        start = time.perf_counter()
        progress, batch_size = self._progress, self._spec.settings.batch_size
        sample = progress.tokens // self._spec.scale.sequence_length
        after = progress.tokens + self._spec.batch_tokens
        set_learning_rate(self._optimizer, self._learning_rate(after))
        result = self._stepper.step(self._train.batch(sample, batch_size))
        progress.tokens = after
        progress.meter.add(result)
        progress.meter.seconds += time.perf_counter() - start

    def _learning_rate(self, tokens: int) -> float:
        return self._spec.settings.learning_rate * self._course.factor(tokens)

    def _emit(self) -> None:
        progress, spec = self._progress, self._spec
        before = progress.points[-1].tokens if progress.points else 0
        held_out = held_out_loss(
            self._model, self._held_out, self._counts[progress.tokens], self._device, autocast(self._device)
        )
        point = CurvePoint(
            tokens=progress.tokens,
            loss=held_out.mean,
            time=time.time(),
            train_loss=progress.meter.train_loss,
            learning_rate=self._learning_rate(progress.tokens),
            grad_norm=progress.meter.grad_norm,
            tokens_per_second=(progress.tokens - before) / progress.meter.seconds,
            flops=float(spec.scale.flops_per_token(FlopsCount.STANDARD) * progress.tokens),
            epoch=progress.tokens / self._epoch_tokens,
            loss_stderr=held_out.stderr,
        )
        progress.meter.next_interval()
        progress.points.append(point)
        self._session.emit(point)

    def _look_up(self) -> None:
        """Checkpoint where it is time to, and leave where asked."""
        now = time.monotonic()
        if now - self._saved_at >= self._checkpoint_seconds:
            self._save()
        if now - self._asked_at < min(_ASK_SECONDS, self._checkpoint_seconds):
            return
        self._asked_at = now
        if self._progress.tokens < self._spec.tokens and self._session.should_stop():
            self._save()
            raise TrialPaused(f"left at {self._progress.tokens:,} of {self._spec.tokens:,} tokens")

    def _save(self) -> None:
        progress = self._progress
        state = {
            "key": self._spec.key,
            "tokens": progress.tokens,
            "attempt": self._session.attempt,
            "kernel": self._kernel.value,
            "micro_batch": self._stepper.micro_batch,
            "meter": progress.meter.state(),
            "points": [asdict(point) for point in progress.points],
        }
        self._folder.save(Checkpoint(tensors=tensors_of(self._model, self._optimizer), state=state))
        self._saved_at = time.monotonic()


def course_of(spec: TrialSpec, options: LMOptions) -> Course:
    """The schedule of a trial, its warmup by default that of Porian et al. (2024)."""
    warmup = options.warmup_tokens
    if warmup is None:
        warmup = default_warmup(spec.scale.params, spec.shortest_tokens)
    return Course(schedule=options.schedule, warmup_tokens=warmup, horizon=spec.tokens)


def _progress(state: Mapping[str, Any], spec: TrialSpec) -> Progress:
    meter = Meter(uniform_loss=math.log(spec.scale.vocab_size))
    if not state:
        return Progress(tokens=0, meter=meter, points=[])
    meter.restore(state["meter"])
    return Progress(tokens=state["tokens"], meter=meter, points=[CurvePoint(**point) for point in state["points"]])


def _check(spec: TrialSpec, data: PreparedData, options: LMOptions) -> None:
    data.check(spec.scale, spec.tokens, options.epochs)
    uneven = [tokens for tokens in (*spec.eval_tokens, spec.tokens) if tokens % spec.batch_tokens]
    if uneven:
        raise InputError(
            f"{uneven[0]:,} tokens are not a whole number of batches of {spec.batch_tokens:,} tokens; "
            "horizons and evaluations must be multiples of the space's largest batch"
        )
