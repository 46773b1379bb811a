"""How often variable projection misses the best optimum that anything finds, on random problems.

Run as `python tests/benchmarks/varpro_against_lbfgs.py [PROBLEMS] [STARTS]`; 300 problems take some
minutes, nearly all of it in L-BFGS. Each of its end points is polished by our Newton too, so that it
is judged by the basins it finds and not by where it stops.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from orchestrator.laws.newton import HUBER_DELTA, Samples, polish
from orchestrator.laws.powers_objective import Objective
from orchestrator.laws.result import Floats
from orchestrator.laws.varpro import SumOfPowers, VariableProjection

MISSED = 1e-6  # difference of two objectives that counts as a miss


def random_problem(rng: np.random.Generator) -> SumOfPowers:
    """A Chinchilla-like table: 9 to 250 points, noise 0.1 to 2 %, exponents 0.1 to 0.9, sometimes no offset."""
    points = int(np.exp(rng.uniform(np.log(9), np.log(251))))
    noise = np.exp(rng.uniform(np.log(0.001), np.log(0.02)))
    span = rng.uniform(1.5, 5, size=2)  # natural logs of the range of params and of tokens
    x = rng.uniform(size=(2, points)) * span[:, None]
    if rng.random() < 0.5:  # a grid of few sizes, each at several horizons
        x[0] = np.round(x[0] / span[0] * 5) / 5 * span[0]
    parts = np.concatenate([rng.uniform(0, 3, size=1), rng.uniform(0.2, 3, size=2)])
    exponents = rng.uniform(0.1, 0.9, size=2)
    loss = parts[0] + (parts[1:, None] * np.exp(-exponents[:, None] * x)).sum(axis=0)
    loss *= np.exp(noise * rng.standard_normal(points))
    return SumOfPowers(quantities=np.exp(x) * np.array([[1e6], [1e8]]), loss=loss, shared=(0, 1))


def lbfgs_value(theta: Floats, objective: Objective) -> tuple[float, Floats]:
    """The objective of one parameter vector with its gradient, for scipy."""
    residuals, parts = objective.residuals(theta[None])
    score = np.clip(residuals[0], -HUBER_DELTA, HUBER_DELTA)
    size = np.abs(residuals[0])
    inside = np.minimum(size, HUBER_DELTA)
    shares = parts[:, 0] @ score
    gradient = np.array([score.sum() - shares.sum(), *shares, *(-((parts[:, 0] * objective.x) @ score))])
    return 1e3 * float((inside * (size - inside / 2)).sum()), 1e3 * gradient


def many_start_lbfgs(objective: Objective, starts: int, rng: np.random.Generator) -> float:
    """The lowest value that L-BFGS reaches from random starts, each end polished."""
    box = list(zip(objective.lower, objective.upper, strict=True))
    ends = []
    for _ in range(starts):
        start = np.concatenate([rng.uniform(-4, 1, size=3), rng.uniform(0.02, 2, size=2)])
        found = minimize(lbfgs_value, start, args=(objective,), jac=True, method="L-BFGS-B", bounds=box)
        ends.append(found.x)
    _, values = polish(objective, np.array(ends), Samples.weighted(np.ones((starts, objective.log_loss.size))))
    return float(values.min())


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """By how much each way lies above the best known value, and how long both took in all."""

    ours: Floats
    lbfgs: Floats
    our_seconds: float
    lbfgs_seconds: float


def compare(problems: int, starts: int, seed: int = 0) -> Comparison:
    """Fit the same random problems both ways."""
    rng = np.random.default_rng(seed)
    values, seconds = np.empty((problems, 2)), np.zeros(2)
    for at in range(problems):
        problem = random_problem(rng)
        begun = time.perf_counter()
        fit = VariableProjection(problem)
        middle = time.perf_counter()
        values[at] = fit.best.objective[0], many_start_lbfgs(fit.objective, starts, rng)
        seconds += middle - begun, time.perf_counter() - middle
    above = values - values.min(axis=1, keepdims=True)
    return Comparison(ours=above[:, 0], lbfgs=above[:, 1], our_seconds=seconds[0], lbfgs_seconds=seconds[1])


def main(problems: int = 300, starts: int = 30) -> None:
    """Write the figures out."""
    found = compare(problems, starts)
    for name, above, seconds in (
        ("variable projection", found.ours, found.our_seconds),
        (f"L-BFGS, {starts} starts", found.lbfgs, found.lbfgs_seconds),
    ):
        missed = int((above > MISSED).sum())
        each = f"{1e3 * seconds / problems:.1f} ms each"
        sys.stdout.write(f"{name}: {missed} of {problems} missed, worst by {above.max():.2e}, {each}\n")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
