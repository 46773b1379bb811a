import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws.predict import Context, predict
from orchestrator.laws.predicted_settings import SettingDraws
from orchestrator.laws.regret import compute_lost, settings_regret, size_regret
from orchestrator.laws.result import Estimate, FittedLaw, Status

VALUES = {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.35, "beta": 0.37}
NORMAL = np.random.default_rng(0).standard_normal((4000, 3))


def law(name, values, **others):
    return FittedLaw(name=name, form="", parameters={key: Estimate(value=x) for key, x in values.items()}, **others)


CHINCHILLA = law("chinchilla", VALUES)
FRONTIER = law("frontier", {"A": 100.0, "alpha": 0.1, "E": 1.7})


def curved(skew=0.0):
    rows = [
        {"setting": "learning_rate", "skew": skew, "learning_rate": 0.02, "batch_tokens": 0.005},
        {"setting": "batch_tokens", "skew": 0.0, "learning_rate": 0.005, "batch_tokens": 0.01},
    ]
    return law("hyperparameters", {}, tables={"curvature": rows})


def around(value, spread, place):
    draws = value * np.exp(spread * NORMAL[:, place])
    return SettingDraws(value=value, mean=draws, single=draws)


FOUND = {"learning_rate": around(1e-3, 0.2, 0), "batch_tokens": around(1e5, 0.3, 1)}


def test_the_expected_regret_of_a_quadratic_is_half_the_trace():
    regret, left_out = settings_regret(curved(), FOUND, {}, 1e7, 2e8)
    assert regret.loss == pytest.approx(0.5 * (0.02 * 0.2**2 + 0.01 * 0.3**2), rel=0.05)
    assert regret.loss_high > 2 * regret.loss
    assert regret.compute is None
    assert left_out == ()


def test_skew_makes_a_learning_rate_that_is_too_high_the_dearer_one():
    shifted = {"learning_rate": around(1e-3, 1e-6, 0)}
    costs = []
    for away in (-0.5, 0.5):
        draws = np.full(10, 1e-3 * np.exp(-away))
        shifted = {"learning_rate": SettingDraws(value=1e-3, mean=draws, single=draws)}
        regret, left_out = settings_regret(curved(skew=1.0), shifted, {}, 1e7, 2e8)
        costs.append(regret.loss)
        assert left_out == ("batch_tokens",)
    assert costs[1] > 1.2 * costs[0]


def test_without_a_curvature_nothing_is_said():
    assert settings_regret(law("hyperparameters", {}), FOUND, {}, 1e7, 2e8) == (None, ())


@given(st.floats(0.01, 0.95))
def test_compute_lost_inverts_the_loss_law(part):
    params, tokens = 1e8, 2e9
    root = (1 - part) ** 0.5
    cheap = 1.8 + 480 * (params * root) ** -0.35 + 2085 * (tokens * root) ** -0.37
    whole = 1.8 + 480 * params**-0.35 + 2085 * tokens**-0.37
    excess = np.log(np.array([cheap / whole, 1.0]))
    assert compute_lost({"chinchilla": CHINCHILLA}, excess, params, tokens) == pytest.approx([part, 0], abs=1e-9)

    flops = 6 * params * tokens
    ratio = (100 * (flops * (1 - part)) ** -0.1 + 1.7) / (100 * flops**-0.1 + 1.7)
    assert compute_lost({"frontier": FRONTIER}, np.log([ratio]), params, tokens) == pytest.approx([part], abs=1e-9)


def test_no_law_of_the_loss_no_compute():
    failed = FittedLaw(**{**vars(CHINCHILLA), "status": Status.FAILED})
    assert compute_lost({"chinchilla": failed}, np.array([0.1]), 1e8, 2e9) is None


def test_the_regret_of_a_size_is_that_of_training_it_instead_of_the_best():
    flops = 1e20
    ratio = (0.35 * 480 / (0.37 * 2085)) ** (1 / 0.72)
    best = ratio * (flops / 6) ** (0.37 / 0.72)
    none = size_regret(np.full(5, best), {"chinchilla": CHINCHILLA}, best, flops / 6 / best, 0.95)
    assert none.loss == pytest.approx(0.0, abs=1e-12)

    def loss(params):
        return 1.8 + 480 * params**-0.35 + 2085 * (flops / 6 / params) ** -0.37

    twice = size_regret(np.full(5, best), {"chinchilla": CHINCHILLA}, 2 * best, flops / 12 / best, 0.95)
    assert twice.loss == pytest.approx(loss(2 * best) / loss(best) - 1, rel=1e-9)
    assert 0 < twice.compute < 1


def test_a_prediction_says_what_its_settings_and_its_size_could_cost():
    draws = {name: value * (1 + 0.002 * NORMAL[:500, place % 3]) for place, (name, value) in enumerate(VALUES.items())}
    rates = {"learning_rate.coefficient": 1e-3 * np.exp(0.2 * NORMAL[:500, 0])}
    settings = law(
        "hyperparameters",
        {"learning_rate.coefficient": 1e-3},
        draws=rates,
        tables={"curvature": curved().tables["curvature"]},
    )
    laws = {"chinchilla": law("chinchilla", VALUES, draws=draws), "hyperparameters": settings}
    found = predict(laws, Context(), flops=1e19)
    assert found.regrets["settings"].loss == pytest.approx(0.5 * 0.02 * 0.2**2, rel=0.2)
    assert 0 < found.regrets["size"].loss < found.regrets["size"].loss_high < 1e-2
    assert 0 < found.regrets["size"].compute < found.regrets["size"].compute_high < 0.5
    assert any("leaves out batch_tokens" in word for word in found.warnings)
