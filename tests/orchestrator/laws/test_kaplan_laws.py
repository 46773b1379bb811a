"""Kaplan's laws of the converged loss: published values, planted truth, coverage, and honest weakness."""

import time
from dataclasses import replace

import numpy as np
import pytest
from planted_tables import ladder_runs

from orchestrator.laws import kaplan_c, kaplan_d, kaplan_n, kaplan_nd
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from search_spaces.errors import FitError, MissingColumnError

PF_DAY = 8.64e19  # FLOP
PLANTED = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}
POWER_LAWS = (kaplan_n, kaplan_d, kaplan_c)
EVERY_LAW = (*POWER_LAWS, kaplan_nd)


def planted_runs(seed, *, sizes=8, horizons=8, noise=0.005, curves=False, params=(1e6, 1e9), tokens=(2e7, 2e10)):
    """Runs on Kaplan's L(N, D); with `curves` the horizons of a size are points of one run."""
    return ladder_runs(
        np.random.default_rng(seed),
        lambda size, count: float(kaplan_nd.loss(PLANTED, size, count)),
        params=np.geomspace(*params, sizes),
        tokens=lambda _: np.geomspace(*tokens, horizons),
        noise=noise,
        curves=curves,
    )


def converged_runs(seed, **more):
    """So many tokens that only the size limits the loss."""
    return planted_runs(seed, params=(1e6, 3e8), tokens=(1e11, 1e13), **more)


def large_runs(seed, **more):
    """So large that only the tokens limit the loss."""
    return planted_runs(seed, params=(1e10, 1e13), **more)


def isoflop_runs(seed, *, noise=0.002, budgets=10, sizes=7):
    """Equal compute, with the lowest loss (C_c / C)^0.057 at N = sqrt(C / 120)."""
    rng = np.random.default_rng(seed)
    records = []
    for flops in np.geomspace(1e16, 1e21, budgets):
        for shift in np.linspace(-1.2, 1.2, sizes) + rng.uniform(-0.15, 0.15):
            size = np.sqrt(flops / 120) * np.exp(shift)
            loss = (1.6e7 * PF_DAY / flops) ** 0.057 * (1 + 0.01 * shift**2) * np.exp(noise * rng.standard_normal())
            records.append(
                RunRecord(
                    run_id=f"{flops:.4g} {shift:.4g}",
                    params=float(size),
                    tokens=float(flops / (6 * size)),
                    flops=float(flops),
                    loss=float(loss),
                )
            )
    return records


CASES = (
    (kaplan_n, converged_runs, {"alpha_N": 0.076, "N_c": 6.4e13}),
    (kaplan_d, large_runs, {"alpha_D": 0.103, "D_c": 1.8e13}),
    (kaplan_c, isoflop_runs, {"alpha_C": 0.057, "C_c": 1.6e7 * PF_DAY}),
    (kaplan_nd, planted_runs, PLANTED),
)


def test_published_constants_give_the_reference_values():
    of_size = kaplan_n.loss({"alpha_N": 0.076, "N_c": 8.8e13}, [1e6, 1e7, 1e8, 1e9])
    assert of_size == pytest.approx([4.0159, 3.3712, 2.8300, 2.3756], abs=5e-5)
    of_data = kaplan_d.loss({"alpha_D": 0.095, "D_c": 5.4e13}, [1e8, 1e9, 1e10])
    assert of_data == pytest.approx([3.5041, 2.8156, 2.2624], abs=5e-5)
    assert kaplan_c.loss({"alpha_C": 0.057, "C_c": 1.6e7 * PF_DAY}, PF_DAY) == pytest.approx(2.5742, abs=5e-5)
    assert kaplan_c.loss({"alpha_C": 0.050, "C_c": 3.1e8 * PF_DAY}, PF_DAY) == pytest.approx(2.6581, abs=5e-5)
    assert kaplan_nd.loss(PLANTED, 1e8, 1e9) == pytest.approx(2.9567, abs=5e-5)


def test_the_surface_has_the_right_limits():
    params, tokens = np.geomspace(1e5, 1e9, 5), np.geomspace(1e7, 1e11, 5)
    assert kaplan_nd.loss(PLANTED, params, 1e80) == pytest.approx(kaplan_n.loss(PLANTED, params))
    assert kaplan_nd.loss(PLANTED, 1e80, tokens) == pytest.approx(kaplan_d.loss(PLANTED, tokens))


def test_formulas_take_draws():
    drawn = {name: np.array([[value], [1.01 * value]]) for name, value in PLANTED.items()}
    assert kaplan_nd.loss(drawn, [1e7, 1e8, 1e9], 1e9).shape == (2, 3)
    assert kaplan_n.loss(drawn, [1e7, 1e8, 1e9]).shape == (2, 3)


@pytest.mark.parametrize(("law", "runs", "truth"), CASES)
def test_planted_parameters_come_back(law, runs, truth):
    fitted = law.fit(runs(0, noise=0.001), draws=300)
    assert fitted.status is Status.OK, fitted.reason
    for name, value in truth.items():
        tolerance = 0.02 if name.startswith("alpha") else 0.4
        assert fitted.value(name) == pytest.approx(value, rel=tolerance), name
        assert len(fitted.draws[name]) == 300


@pytest.mark.parametrize(("law", "runs", "truth"), CASES)
def test_intervals_cover_planted_values_and_good_designs_are_not_called_weak(law, runs, truth):
    sweeps, held, weak = 60, 0, 0
    for seed in range(sweeps):
        fitted = law.fit(runs(seed), draws=300, seed=seed)
        weak += fitted.status is Status.WEAK
        held += sum(fitted.parameters[n].low <= value <= fitted.parameters[n].high for n, value in truth.items())
    assert held / (sweeps * len(truth)) >= 0.86
    assert weak <= 5


@pytest.mark.parametrize(
    ("law", "runs", "truth"),
    [
        (kaplan_n, converged_runs, {"alpha_N": 0.076, "N_c": 6.4e13}),
        (kaplan_nd, planted_runs, PLANTED),
    ],
)
def test_intervals_cover_where_points_share_their_runs_luck(law, runs, truth):
    sweeps, held = 40, 0
    for seed in range(sweeps):
        fitted = law.fit(runs(seed, curves=True), draws=300, seed=seed)
        held += sum(fitted.parameters[n].low <= value <= fitted.parameters[n].high for n, value in truth.items())
    assert held / (sweeps * len(truth)) >= 0.88


def test_predicted_losses_are_covered():
    """The loss of a size ten times the largest, and of twice the tokens there."""
    held = 0
    for seed in range(30):
        fitted = kaplan_nd.fit(planted_runs(seed), draws=400, seed=seed)
        low, high = np.quantile(kaplan_nd.loss(fitted.draws, 1e10, 4e10), [0.025, 0.975])
        held += low <= kaplan_nd.loss(PLANTED, 1e10, 4e10) <= high
    assert held >= 25


def test_sizes_that_are_not_converged_are_told():
    law = kaplan_n.fit(planted_runs(0, tokens=(2e7, 2e9)), draws=50)
    assert law.status is Status.WEAK
    assert "per doubling of tokens: not converged" in law.reason
    falls = [row["fall_per_doubling"] for row in law.tables["sizes"]]
    exact = [1 - kaplan_nd.loss(PLANTED, n, 2e9) / kaplan_nd.loss(PLANTED, n, 1e9) for n in (1e6, 1e9)]
    assert [falls[0], falls[-1]] == pytest.approx(exact, abs=0.015)


def test_a_single_horizon_does_not_tell_whether_it_has_converged():
    law = kaplan_n.fit(converged_runs(0, horizons=1), draws=50)
    assert law.status is Status.WEAK
    assert "nothing says that its loss has converged" in law.reason


def test_data_that_outgrow_the_sizes_are_told():
    law = kaplan_d.fit(planted_runs(0), draws=50)
    assert law.status is Status.WEAK
    assert "per doubling of params: not converged" in law.reason


def test_only_the_longest_horizon_of_each_size_enters_and_the_rest_is_listed():
    runs = converged_runs(0, noise=0.001)
    spoiled = [replace(run, loss=2 * run.loss) if run.tokens < 2e11 else run for run in runs]
    law = kaplan_n.fit(spoiled, draws=50)
    assert law.parameters == kaplan_n.fit(runs, draws=50).parameters
    assert law.runs_used == 8
    assert len(law.runs_excluded) == len(runs) - 8
    assert {exclusion.reason for exclusion in law.runs_excluded} == {"its size has a longer horizon"}


def test_replicates_of_the_longest_horizon_all_enter():
    runs = converged_runs(0) + [replace(run, run_id=f"again {run.run_id}") for run in converged_runs(1)]
    assert kaplan_n.fit(runs, draws=50).runs_used == 16


def test_the_data_law_reads_curves_where_token_counts_are_not_shared():
    """Curves from 1 to 300 tokens per param of ever larger sizes: no count is common to three."""
    rng = np.random.default_rng(0)
    runs = [
        RunRecord(
            run_id=f"{size:.3g}",
            params=float(size),
            tokens=float(tokens),
            loss=float(kaplan_d.loss(PLANTED, tokens) * (1 + 1e8 / size) * np.exp(0.0005 * rng.standard_normal())),
            schedule="constant",
        )
        for size in np.geomspace(1e10, 1.1e12, 9)
        for tokens in np.geomspace(size, 300 * size, 18)
    ]
    law = kaplan_d.fit(runs, draws=200)
    assert law.value("alpha_D") == pytest.approx(0.103, rel=0.01)
    counts = [row["tokens"] for row in law.tables["token_counts"]]
    assert np.diff(np.log2(counts)) == pytest.approx(np.ones(len(counts) - 1))


def test_one_curve_gives_a_weak_data_law():
    law = kaplan_d.fit(large_runs(0, curves=True), draws=50)
    assert law.status is Status.WEAK
    assert "all points are of one run" in law.reason


def test_an_irreducible_loss_bends_the_frontier_away_from_the_law():
    runs = [replace(run, loss=run.loss - 1.2) for run in isoflop_runs(0, noise=0.0005)]
    law = kaplan_c.fit(runs, draws=50)
    assert law.status is Status.WEAK
    assert "bend away from a power law" in law.reason


def test_params_without_embeddings_are_taken_where_every_run_has_them():
    runs = converged_runs(0)
    embedded = [replace(run, params=run.params + 1e7, non_embedding_params=run.params) for run in runs]
    law, plain = kaplan_n.fit(embedded, draws=50), kaplan_n.fit(runs, draws=50)
    assert law.parameters == plain.parameters
    assert "without embeddings" in law.form
    assert "as the table counts them" in plain.form
    partly = kaplan_n.fit([replace(embedded[0], non_embedding_params=None), *embedded[1:]], draws=50)
    assert "as the table counts them" in partly.form
    assert partly.valid["params"][0] > 1e7


def test_repeated_data_count_once_at_the_early_stop():
    """Every dataset is repeated up to 40 times; the loss rises again after the best epoch."""
    rng = np.random.default_rng(0)
    runs = [
        RunRecord(
            run_id=f"{size:.3g} {dataset:.3g}",
            params=float(size),
            tokens=float(epochs * dataset),
            unique_tokens=float(dataset),
            loss=float(kaplan_nd.loss(PLANTED, size, dataset) * (1 + 0.05 * np.log(epochs / 8) ** 2) * np.exp(luck)),
            schedule="constant",
        )
        for size in np.geomspace(1e6, 1e9, 7)
        for dataset in np.geomspace(2e7, 2e10, 7)
        for luck in [0.002 * rng.standard_normal()]
        for epochs in (1, 2, 4, 8, 16, 40)
    ]
    law = kaplan_nd.fit(runs, draws=200)
    assert law.tables["goodness"][0]["points_used"] == 49
    assert law.value("alpha_N") == pytest.approx(0.076, rel=0.03)
    assert law.value("alpha_D") == pytest.approx(0.103, rel=0.03)
    assert "unique tokens" in law.form
    assert max(row["tokens"] for row in kaplan_n.fit(runs, draws=20).tables["sizes"]) == pytest.approx(2e10)


def test_an_irreducible_loss_is_no_surface_of_kaplans_form():
    runs = [replace(run, loss=run.loss - 1.0) for run in planted_runs(0, noise=0.001)]
    law = kaplan_nd.fit(runs, draws=50)
    assert law.status is Status.WEAK
    assert "depart from this form" in law.reason


def test_one_bad_run_hardly_moves_the_surface():
    runs = planted_runs(0, noise=0.002)
    spoiled = [replace(run, loss=1.5 * run.loss) if at == 20 else run for at, run in enumerate(runs)]
    good, bad = kaplan_nd.fit(runs, draws=50), kaplan_nd.fit(spoiled, draws=50)
    assert bad.value("alpha_N") == pytest.approx(good.value("alpha_N"), rel=0.01)
    assert bad.value("alpha_D") == pytest.approx(good.value("alpha_D"), rel=0.01)


def test_a_table_where_only_size_matters_does_not_identify_the_data_term():
    runs = planted_runs(0, params=(1e4, 1e6), tokens=(1e13, 1e15))
    law = kaplan_nd.fit(runs, draws=50)
    assert law.status is Status.WEAK
    assert "alpha_D" in law.reason or "term" in law.reason


@pytest.mark.parametrize("law", EVERY_LAW)
def test_too_little_is_refused_with_what_was_needed(law):
    with pytest.raises(FitError, match=f"'{law.NAME}' needs at least 3|usable"):
        law.fit(planted_runs(0, sizes=2, horizons=1))


@pytest.mark.parametrize("law", EVERY_LAW)
def test_a_missing_column_is_named(law):
    with pytest.raises(MissingColumnError, match="'tokens'"):
        law.fit([RunRecord(run_id="1", params=1e6, loss=3.0)])


@pytest.mark.parametrize("law", EVERY_LAW)
def test_the_smallest_table_that_is_taken_is_weak(law):
    fitted = law.fit(planted_runs(0, sizes=3, horizons=3), draws=50)
    assert fitted.status is Status.WEAK
    assert "needed to trust it" in fitted.reason


@pytest.mark.parametrize("law", EVERY_LAW)
def test_losses_that_rise_or_stand_still_give_a_weak_law_with_finite_numbers(law):
    runs = planted_runs(0)
    for losses in (lambda run: 3.0, lambda run: 0.1 * run.tokens**0.05 * run.params**0.05):
        try:
            fitted = law.fit([replace(run, loss=float(losses(run))) for run in runs], draws=50)
        except FitError:
            continue
        assert fitted.status is Status.WEAK
        assert "bound" in fitted.reason or "absent" in fitted.reason


@pytest.mark.parametrize("law", EVERY_LAW)
def test_unusable_runs_are_listed(law):
    runs = planted_runs(0)
    broken = RunRecord(run_id="broken", params=1e7, tokens=1e8, loss=float("nan"))
    burst = RunRecord(run_id="burst", params=1e7, tokens=1e8, loss=9.0, status="diverged")
    found = law.fit([*runs, broken, burst], draws=20)
    assert {"broken", "burst"} <= {exclusion.run for exclusion in found.runs_excluded}
    assert found.parameters == law.fit(runs, draws=20).parameters


@pytest.mark.parametrize("law", EVERY_LAW)
def test_order_does_not_matter_and_the_seed_decides_the_draws(law):
    runs = planted_runs(2)
    one, other = law.fit(runs, draws=50), law.fit(runs[::-1], draws=50)
    assert one.parameters == other.parameters
    assert law.fit(runs, draws=50, seed=1).draws.keys() == one.draws.keys()
    assert any((law.fit(runs, draws=50, seed=1).draws[name] != one.draws[name]).any() for name in one.draws)


def test_many_curves_are_thinned_without_losing_their_spread():
    rng = np.random.default_rng(0)
    runs = []
    for number, size in enumerate(np.exp(rng.uniform(np.log(1e6), np.log(1e9), 300))):
        luck = 0.005 * rng.standard_normal()
        for tokens in np.geomspace(2 * size, 200 * size, 20):
            loss = kaplan_nd.loss(PLANTED, size, tokens) * np.exp(luck + 0.001 * rng.standard_normal())
            runs.append(
                RunRecord(run_id=f"{number}", params=size, tokens=tokens, loss=float(loss), schedule="constant")
            )
    start = time.process_time()
    law = kaplan_nd.fit(runs)
    assert time.process_time() - start < 10
    assert law.tables["goodness"][0]["points_used"] == 1500
    assert law.runs_used == 300
    assert law.value("alpha_N") == pytest.approx(0.076, rel=0.02)
    assert law.value("alpha_D") == pytest.approx(0.103, rel=0.02)
