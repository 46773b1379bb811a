"""The planted law, its noise, its divergence, and resuming."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import InputError
from search_spaces.space import HyperParameters
from trainers.api import TrialPaused
from trainers.session import TrialSession, run_trial
from trainers.synthetic import SyntheticLaw, SyntheticTrainer, half_life


def run(trainer, spec, folder, attempt=1, stop=lambda: False):
    with TrialSession(spec=spec, attempt=attempt, workspace=folder, deliver=lambda _: None, stop=stop) as session:
        return run_trial(trainer, spec, session), session.curve


def best_settings(law: SyntheticLaw, params: float, tokens: float, sequence_length: int) -> HyperParameters:
    best = law.optimum(params, tokens)
    batch = max(1, round(best.batch_tokens / sequence_length))
    beta2 = 2 ** -(batch * sequence_length / best.beta2_half_life)
    return HyperParameters(learning_rate=best.learning_rate, batch_size=batch, beta2=beta2)


@given(params=st.floats(1e4, 1e12), tokens=st.floats(1e6, 1e13))
def test_the_optimum_is_where_the_loss_is_least(params, tokens):
    law = SyntheticLaw()
    settings = best_settings(law, params, tokens, 1)
    least = law.loss(params, tokens, settings, 1)
    assert least == pytest.approx(law.optimum(params, tokens).loss, rel=1e-4)
    for other in (
        replace(settings, learning_rate=2 * settings.learning_rate),
        replace(settings, learning_rate=settings.learning_rate / 2),
        replace(settings, batch_size=2 * settings.batch_size),
        replace(settings, beta2=settings.beta2**2),
    ):
        assert law.loss(params, tokens, other, 1) > least


def test_a_learning_rate_too_large_costs_more_than_one_too_small():
    law = SyntheticLaw()
    settings = best_settings(law, 1e8, 2e9, 128)
    high = law.loss(1e8, 2e9, replace(settings, learning_rate=2 * settings.learning_rate), 128)
    low = law.loss(1e8, 2e9, replace(settings, learning_rate=settings.learning_rate / 2), 128)
    assert high > low


def test_the_default_loss_is_chinchillas():
    assert SyntheticLaw().optimum(70e9, 1.4e12).loss == pytest.approx(1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28)


def test_the_half_life_is_that_of_the_average():
    assert 0.98 ** (half_life(0.98, 4096) / 4096) == pytest.approx(0.5)


def test_the_seed_decides_the_noise(make_spec, tmp_path):
    trainer = SyntheticTrainer({"noise_sd": 0.01})
    losses = [run(trainer, make_spec(seed=seed), tmp_path / str(seed))[0].final_loss for seed in range(200)]
    again = run(trainer, make_spec(seed=3), tmp_path / "again")[0].final_loss
    assert again == losses[3]
    assert statistics.stdev(losses) == pytest.approx(0.01, rel=0.2)
    spec = make_spec()
    exact = trainer.options.law.loss(spec.scale.params, spec.tokens, spec.settings, spec.scale.sequence_length)
    assert statistics.fmean(losses) == pytest.approx(exact, abs=0.003)


def test_far_above_the_best_learning_rate_a_trial_diverges(make_spec, tmp_path):
    trainer = SyntheticTrainer({"divergence_multiple": 4})
    spec = make_spec()
    best = trainer.options.law.optimum(spec.scale.params, spec.tokens).learning_rate
    assert not run(trainer, make_spec(learning_rate=3.9 * best), tmp_path / "below")[0].diverged
    assert run(trainer, make_spec(learning_rate=4.1 * best), tmp_path / "above")[0].diverged


def test_a_paused_trial_goes_on_where_it_was(make_spec, tmp_path):
    trainer, spec = SyntheticTrainer({"seconds_per_trial": 0.4}), make_spec()
    asked = iter([False] * 12)
    with pytest.raises(TrialPaused):
        run(trainer, spec, tmp_path / "paused", stop=lambda: next(asked, True))
    result, curve = run(trainer, spec, tmp_path / "paused", attempt=2)
    whole, undisturbed = run(trainer, spec, tmp_path / "whole")
    assert [(p.tokens, p.loss) for p in curve] == [(p.tokens, p.loss) for p in undisturbed]
    assert result.repeated_tokens == 0
    assert whole.seconds == pytest.approx(0.4, abs=0.2)


def test_the_version_covers_what_decides_the_result():
    plain = SyntheticTrainer({}).version
    assert SyntheticTrainer({"seconds_per_trial": 3}).version == plain
    assert SyntheticTrainer({"noise_sd": 0.1}).version != plain
    assert SyntheticTrainer({"law": {"irreducible_loss": 2}}).version != plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_sdd": 1}, "unknown key 'noise_sdd'; did you mean 'noise_sd'"),
        ({"noise_sd": -1}, "noise_sd is -1.*greater than or equal to 0"),
        ({"law": {"irreducible_loss": "much"}}, "law.irreducible_loss is 'much'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        SyntheticTrainer(options)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert SyntheticTrainer({"noise_sd": "3e-4"}).options.noise_sd == 3e-4
