"""One optimizer step: however the batch is cut, it is the same step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.api import TrialDiverged
from trainers.lm.meter import Meter
from trainers.lm.model import build_model
from trainers.lm.optimizer import build_optimizer
from trainers.lm.step import Stepper, StepResult

SCALE = ModelScale(name="s", depth=1, width=16, ffn_width=32, heads=1, vocab_size=64, sequence_length=16)
SETTINGS = HyperParameters(learning_rate=1e-2, batch_size=8, beta2=0.95)


def make_stepper(model: nn.Module, *, micro_batch: int, z_loss: float = 0.0, grad_clip: float = 1.0) -> Stepper:
    return Stepper(
        model=model,
        optimizer=build_optimizer(model, SETTINGS, weight_decay=1e-4, beta1=0.9, eps=1e-8),
        device=torch.device("cpu"),
        grad_clip=grad_clip,
        z_loss=z_loss,
        micro_batch=micro_batch,
    )


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 64, (8, 17), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_parts_add_up_to_the_mean_over_the_batch(micro_batch, z_loss) -> None:
    whole, parts = build_model(SCALE, 0), build_model(SCALE, 0)
    one = make_stepper(whole, micro_batch=8, z_loss=z_loss).step(batch())
    many = make_stepper(parts, micro_batch=micro_batch, z_loss=z_loss).step(batch())
    torch.testing.assert_close(one.loss, many.loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.grad_norm, many.grad_norm, rtol=1e-4, atol=0)


class SmallMemory(nn.Module):
    """A model on a device that holds so many sequences, and fails in the middle of a batch."""

    def __init__(self, model: nn.Module, holds: int) -> None:
        super().__init__()
        self.model = model
        self.holds = holds

    def forward(self, input_ids: torch.Tensor, **how: object) -> object:
        if len(input_ids) > self.holds:
            raise torch.OutOfMemoryError("too many sequences")
        return self.model(input_ids=input_ids, **how)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    large, small = build_model(SCALE, 0), SmallMemory(build_model(SCALE, 0), holds=3)
    stepper = make_stepper(small, micro_batch=8)
    expected = make_stepper(large, micro_batch=8).step(batch())
    torch.testing.assert_close(stepper.step(batch()).grad_norm, expected.grad_norm, rtol=1e-4, atol=0)
    assert stepper.micro_batch == 2


def test_a_single_sequence_that_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        make_stepper(SmallMemory(build_model(SCALE, 0), holds=0), micro_batch=8).step(batch())


def test_the_z_loss_pulls_the_logits_normaliser_to_zero() -> None:
    sizes = {}
    for z_loss in (0.0, 1.0):
        model = build_model(SCALE, 0)
        stepper = make_stepper(model, micro_batch=8, z_loss=z_loss)
        for seed in range(30):
            stepper.step(batch(seed))
        with torch.no_grad():
            sizes[z_loss] = model(input_ids=batch(99)[:, :-1]).logits.logsumexp(-1).square().mean().item()
    assert sizes[1.0] < 0.1 * sizes[0.0]


def test_the_reported_norm_is_that_before_clipping() -> None:
    loose = make_stepper(build_model(SCALE, 0), micro_batch=8, grad_clip=1e9).step(batch())
    tight = make_stepper(build_model(SCALE, 0), micro_batch=8, grad_clip=1e-3).step(batch())
    assert loose.grad_norm.item() == tight.grad_norm.item() > 0.1


def result(loss: float) -> StepResult:
    return StepResult(loss=torch.tensor(loss), grad_norm=torch.tensor(2.0))


def test_the_meter_averages_an_interval() -> None:
    meter = Meter(uniform_loss=math.log(256))
    for loss in (5.0, 4.0, 3.0):
        meter.add(result(loss))
    assert (meter.train_loss, meter.grad_norm) == (4.0, 2.0)
    meter.next_interval()
    meter.add(result(1.0))
    assert meter.train_loss == 1.0
    resumed = Meter(uniform_loss=math.log(256))
    resumed.restore(meter.state())
    assert resumed.state() == meter.state()
    for one in (meter, resumed):
        one.add(result(3.0))
    assert resumed.train_loss == meter.train_loss == 2.0


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_diverges_before_a_point_or_a_checkpoint(loss) -> None:
    for look in (lambda meter: meter.train_loss, lambda meter: meter.state()):
        meter = Meter(uniform_loss=5.5)
        meter.add(result(loss))
        with pytest.raises(TrialDiverged, match="training loss is"):
            look(meter)


def test_a_loss_far_above_its_start_diverges_and_one_bad_batch_does_not() -> None:
    meter = Meter(uniform_loss=5.5)
    for loss in [5.0] * 7 + [30.0] + [5.0] * 8:
        meter.add(result(loss))
    with pytest.raises(TrialDiverged, match=r"guessing all tokens alike gives 5\.5"):
        for _ in range(8):
            meter.add(result(9.0))
