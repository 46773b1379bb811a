"""The whole trainer: curves, divergence, refusals, identity."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.errors import InputError
from search_spaces.space import HyperParameters
from trainers import registry
from trainers.api import CurvePoint, Prepares, Trainer, TrialDiverged, TrialPaused
from trainers.lm import kernels
from trainers.lm.evaluation import held_out_counts, held_out_loss
from trainers.lm.loop import course_of
from trainers.lm.trainer import LMTrainer
from trainers.session import TrialSession, run_trial


@pytest.fixture(scope="module")
def trainer(options) -> LMTrainer:
    return LMTrainer(options)


def train(trainer, spec, session_in, workspace: Path):
    session = session_in(workspace)
    trainer.train(spec, session)
    return session.points


def test_it_is_a_trainer_that_prepares(trainer) -> None:
    assert isinstance(trainer, Trainer)
    assert isinstance(trainer, Prepares)


def test_a_curve_has_its_points_and_falls(trainer, spec, session_in, tmp_path) -> None:
    spec = replace(spec, tokens=320 * 128, eval_tokens=tuple(128 * k for k in (40, 80, 160, 320)), served_tokens=())
    points = train(trainer, spec, session_in, tmp_path)
    assert [point.tokens for point in points] == list(spec.eval_tokens)
    assert points[-1].loss < points[0].loss < math.log(256)
    last = points[-1]
    assert last.flops == 6 * spec.scale.params * spec.tokens
    assert last.learning_rate == spec.settings.learning_rate
    assert 0 < last.train_loss < math.log(256)
    assert last.grad_norm > 0
    assert last.tokens_per_second > 0
    assert 0 < last.loss_stderr < 1
    assert last.epoch == pytest.approx(spec.tokens / trainer.data.epoch_tokens(32))


def test_a_longer_run_passes_through_a_shorter_ones_points(trainer, spec, session_in, tmp_path) -> None:
    """What lets one run serve all cells under a constant schedule."""
    served = (20 * 128,)
    short = replace(spec, tokens=20 * 128, eval_tokens=(20 * 128,), served_tokens=served)
    long = replace(spec, tokens=40 * 128, eval_tokens=(20 * 128, 40 * 128), served_tokens=(*served, 40 * 128))
    assert course_of(short, trainer.options).warmup_tokens == course_of(long, trainer.options).warmup_tokens
    short_points = train(trainer, short, session_in, tmp_path / "short")
    long_points = train(trainer, long, session_in, tmp_path / "long")
    assert short_points[0].train_loss == long_points[0].train_loss


def test_the_registry_builds_it_and_a_session_runs_it_to_its_result(options, spec, tmp_path) -> None:
    """Asked to leave after the first look, then run again by a second attempt."""
    trainer = registry.build("lm", {**options, "checkpoint_seconds": 0.0})
    heard: list[CurvePoint] = []
    how = {"spec": spec, "workspace": tmp_path, "deliver": heard.extend}
    with TrialSession(attempt=1, stop=lambda: True, **how) as session, pytest.raises(TrialPaused):
        run_trial(trainer, spec, session)
    with TrialSession(attempt=2, stop=lambda: False, **how) as session:
        result = run_trial(trainer, spec, session)
    assert (result.tokens, result.diverged, result.repeated_tokens) == (spec.tokens, False, 0)
    assert result.final_loss == heard[-1].loss


def test_a_diverged_trial_is_a_result(options, spec, tmp_path) -> None:
    wild = replace(spec, settings=HyperParameters(learning_rate=1e4, batch_size=4, beta2=0.95))
    with TrialSession(spec=wild, attempt=1, workspace=tmp_path, deliver=lambda _: None, stop=lambda: False) as session:
        assert run_trial(LMTrainer(options), wild, session).diverged


def test_seeds_differ_and_equal_specs_do_not(trainer, spec, session_in, tmp_path) -> None:
    losses = [
        train(trainer, replace(spec, seed=seed), session_in, tmp_path / name)[-1].loss
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_two_epochs_are_recorded(options, spec, session_in, tmp_path) -> None:
    trainer = LMTrainer({**options, "epochs": 2})
    batches = int(1.5 * trainer.data.epoch_tokens(32)) // (64 * 32)
    spec = replace(spec, settings=replace(spec.settings, batch_size=64), tokens=batches * 64 * 32)
    spec = replace(spec, eval_tokens=(spec.tokens,), served_tokens=())
    assert 1.4 < train(trainer, spec, session_in, tmp_path)[-1].epoch < 1.6


def test_a_huge_learning_rate_diverges(trainer, spec, session_in, tmp_path) -> None:
    wild = replace(spec, settings=HyperParameters(learning_rate=1e4, batch_size=4, beta2=0.95))
    with pytest.raises(TrialDiverged):
        train(trainer, wild, session_in, tmp_path)


def test_uneven_points_are_refused(trainer, spec, session_in, tmp_path) -> None:
    with pytest.raises(InputError, match="100 tokens are not a whole number of batches of 128"):
        train(trainer, replace(spec, eval_tokens=(100, spec.tokens)), session_in, tmp_path)


def test_more_tokens_than_the_corpus_has_are_refused(trainer, spec, session_in, tmp_path) -> None:
    with pytest.raises(InputError, match="epochs: 17"):
        train(trainer, replace(spec, tokens=128 * 8000, eval_tokens=(128 * 8000,)), session_in, tmp_path)


def test_version_follows_what_decides_a_curve(options, trainer) -> None:
    assert LMTrainer({**options, "epochs": 7, "micro_batch": 2}).version == trainer.version
    assert LMTrainer({**options, "beta1": 0.8}).version != trainer.version
    assert LMTrainer({**options, "validation_tokens": 2048}).version != trainer.version


def test_warming_up_leaves_the_random_state_alone(trainer) -> None:
    before = torch.get_rng_state()
    trainer.warm_up()
    assert torch.equal(before, torch.get_rng_state())


def test_points_that_only_draw_the_curve_cost_at_most_a_twentieth(spec) -> None:
    for horizon in (10**5, 10**6, 10**7):
        tokens = horizon // 2048 * 2048
        evaluations = tuple(sorted({max(2048, int(tokens / 64 * 2 ** (k / 3)) // 2048 * 2048) for k in range(18)}))
        for served in ((), (evaluations[8], tokens), (evaluations[4], evaluations[10], tokens)):
            trial = replace(spec, tokens=tokens, eval_tokens=(*evaluations, tokens), served_tokens=served)
            counts = held_out_counts(trial, available=2048)
            drawn = sum(count for at, count in counts.items() if at not in (*served, tokens))
            assert drawn * 32 / 3 <= 0.05 * tokens  # a forward pass is a third of a step
            assert {counts[at] for at in (*served, tokens)} == {2048}  # the whole set, at every scale
            assert set(counts) <= {*evaluations, tokens}


def test_points_depend_on_lengths_alone(spec) -> None:
    other = replace(spec, settings=HyperParameters(learning_rate=1.0, batch_size=1, beta2=0.5), seed=9, key="x")
    assert held_out_counts(spec, 100) == held_out_counts(other, 100)


def test_held_out_loss_is_the_mean_over_its_sequences(trainer, scale) -> None:
    from trainers.lm.device import autocast
    from trainers.lm.model import build_model

    model, held_out, cpu = build_model(scale, 0), trainer.data.held_out(32), torch.device("cpu")
    measured = held_out_loss(model, held_out, 127, cpu, autocast(cpu))
    tokens = held_out.batch(0, 127)
    with torch.no_grad():
        logits = model(input_ids=tokens[:, :-1]).logits
    every = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)
    assert measured.mean == pytest.approx(every.mean().item(), rel=1e-5)
    assert measured.stderr == pytest.approx((every.std() / math.sqrt(127)).item(), rel=1e-4)


def test_the_probe_takes_another_kernel_only_if_exact() -> None:
    x, weight = torch.randn(64, 128), torch.randn(96, 128)
    assert kernels.relative_error(kernels.Kernel.WHEEL, x, weight) < 1e-6
    chosen = kernels.fastest()
    assert kernels.relative_error(chosen, x, weight) < 2e-6
    assert chosen is kernels.fastest()


def watch_linear_layers(model: torch.nn.Module) -> list[str]:
    """The kernel of the moment, each time a linear layer has run or has got its gradient."""
    seen: list[str] = []

    def note(*_: object) -> None:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(note)
            module.register_full_backward_hook(note)
    return seen


@pytest.mark.parametrize("kernel", list(kernels.Kernel))
def test_a_kernel_is_on_in_linear_layers_and_off_in_attention_and_afterwards(kernel, scale) -> None:
    from trainers.lm.model import build_model

    before = torch.backends.mkldnn.matmul.fp32_precision
    deeper = replace(scale, depth=2)
    tokens = torch.randint(0, 256, (2, 33), generator=torch.Generator().manual_seed(0))
    gradients = []
    for chosen in (kernels.Kernel.WHEEL, kernel):
        model = build_model(deeper, 0, kernels.attention(chosen))
        seen = watch_linear_layers(model)
        with kernels.using(chosen):
            logits = model(input_ids=tokens[:, :-1]).logits
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        assert set(seen) == {chosen.value}
        assert torch.backends.mkldnn.matmul.fp32_precision == before
        gradients.append([weight.grad for weight in model.parameters()])
    tolerance = (
        {"rtol": 1e-3, "atol": 1e-5} if kernel is not kernels.Kernel.ONEDNN_BF16 else {"rtol": 0.1, "atol": 0.01}
    )
    for plain, switched in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, switched, **tolerance)
