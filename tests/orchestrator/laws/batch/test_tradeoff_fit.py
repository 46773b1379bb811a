import numpy as np
import pytest

from orchestrator.laws.batch_curves import batch_curves
from orchestrator.laws.level_readings import read_levels
from orchestrator.laws.tradeoff_fit import TradeoffFit


def test_the_scatter_is_the_noise_between_runs(curves):
    found = [TradeoffFit(read_levels(batch_curves(curves(s, sizes=3, noise=0.01), law="x"))).scale for s in range(30)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.01, rel=0.15)


def test_errors_of_a_level_are_those_of_the_hyperbola_fitted_to_noise(curves):
    """S_min and E_min of one level from many sweeps spread as each sweep says."""
    fits = [TradeoffFit(read_levels(batch_curves(curves(s, sizes=1, least=1e7), law="x"))) for s in range(60)]
    levels = [fit.levels() for fit in fits]
    exact = TradeoffFit(read_levels(batch_curves(curves(sizes=1, least=1e7, noise=0, point_noise=0), law="x"))).levels()
    middle = len(exact.log_loss) // 2

    def at(one):
        """The hyperbola nearest to the middle level, on the planted line to that level."""
        return int(np.argmin(np.abs(one.log_loss - exact.log_loss[middle])))

    tokens = np.array([one.log_steps[at(one)] + one.log_critical[at(one)] for one in levels])
    places = np.array([one.log_loss[at(one)] for one in levels])
    planted = np.interp(-places, -exact.log_loss, exact.log_steps + exact.log_critical)
    said = np.array([one.log_stderr[2, at(one)] for one in levels])
    assert np.std(tokens - planted) == pytest.approx(np.sqrt(np.mean(np.square(said))), rel=0.3)
