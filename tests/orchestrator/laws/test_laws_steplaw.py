"""Step Law's published grid: settings from a law of the smaller cells must be nearly the best in the larger ones."""

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from orchestrator.laws import hyperparameters
from orchestrator.laws.predict import Context, predict


def regret(runs, learning_rate, batch_tokens):
    """Relative loss above the best of a cell's smoothed surface."""
    places = np.log2([[run.learning_rate, run.batch_tokens] for run in runs])
    low, high = places.min(axis=0), places.max(axis=0)
    loss = np.log([run.loss for run in runs])
    surface = RBFInterpolator(places - low, np.minimum(loss, loss.min() + 0.12), smoothing=0.5)
    sides = [np.linspace(0, side, 61) for side in high - low]
    best = surface(np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)).min()
    target = np.clip(np.log2([learning_rate, batch_tokens]), low, high) - low
    return float(np.expm1(surface(target[None])[0] - best))


def test_held_out_regret_and_exponents(steplaw):
    cells = {}
    for run in steplaw:
        cells.setdefault((run.params, run.tokens), []).append(run)
    ranked = sorted(cells, key=lambda cell: cell[0] * cell[1])
    law = hyperparameters.fit([run for cell in ranked[:-5] for run in cells[cell]], draws=50)
    regrets = []
    for params, tokens in ranked[-5:]:
        found = predict({"hyperparameters": law}, Context(), params=params, tokens=tokens)
        regrets.append(regret(cells[params, tokens], found.value("learning_rate"), found.value("batch_tokens")))
    assert np.mean(regrets) < 0.0010
    assert law.value("learning_rate.params_exponent") == pytest.approx(-0.713, abs=0.1)
    assert law.value("learning_rate.tokens_exponent") == pytest.approx(0.307, abs=0.06)
    assert law.value("batch_tokens.tokens_exponent") == pytest.approx(0.571, abs=0.1)
