"""Joint draws of parameters from fits that leave out one group of units each.

For fits in which every unit has much weight and a refit costs much. The covariance is the jackknife's
(Efron and Stein 1981; with groups of units Kott 2001), which errs on the wide side; the draws are
Student's t around the estimate, so that their percentiles are the intervals: nothing widens them again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.laws.result import Floats

# So many fits at most. With more units each leaves out several, spread over the whole design. A guess.
MOST_GROUPS = 48


def left_out_weights(units: npt.NDArray[np.int64], count: int) -> Floats:
    """Weights (groups, points): zero for the points of the units that a group leaves out, else one.

    `units` numbers each point's unit, 0 to `count` - 1, so that fits to other points leave out the same.
    """
    groups = min(count, MOST_GROUPS)
    weights: Floats = (units[None, :] % groups != np.arange(groups)[:, None]).astype(float)
    return weights


def jackknife_covariance(left_out: Floats) -> Floats:
    """The covariance (p, p) of the estimate, from the fits (groups, p)."""
    moves = _moves(left_out)
    covariance: Floats = moves.T @ moves
    return covariance


def jackknife_draws(best: Floats, left_out: Floats, *, dof: float, draws: int, seed: int) -> Floats:
    """Draws (draws, p) around `best` (p,) from the fits (groups, p), with Student's t of `dof`."""
    rng, moves = np.random.default_rng(seed), _moves(left_out)
    spread = np.sqrt(dof / rng.chisquare(dof, size=(draws, 1)))
    drawn: Floats = best + spread * (rng.standard_normal((draws, len(moves))) @ moves)
    return drawn


def _moves(left_out: Floats) -> Floats:
    """Deviations (groups, p) whose squares sum to the jackknife's covariance."""
    groups = len(left_out)
    moves: Floats = np.sqrt((groups - 1) / groups) * (left_out - left_out.mean(axis=0))
    return moves
