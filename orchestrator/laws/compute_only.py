"""The law `compute-only`: L = intercept - slope ln C, the loss from compute alone, with a test of that.

Guo 2024 (arXiv:2404.19484): performance follows the total compute C (`flops`), whatever its split into
params and tokens. The paper's own numbers are bits per character over public models; here the loss is in
nats per token. The claim contradicts Hoffmann's law, under which a wrong split by a factor f costs about
alpha beta ln(f)^2 / 2 of the reducible loss: at large C that is little of the loss and the claim looks
true, at small C it shows. So the likelihood-ratio test against adding ln(N / D) stands beside the law
(split_test.py), and where it rejects the law is weak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from orchestrator.laws.clustered_line import Line, clustered_line
from orchestrator.laws.loss_points import LossPoints, Parameters, loss_points, need
from orchestrator.laws.records import RunRecord
from orchestrator.laws.resample import interval
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.split_test import NestedTest, split_tests

NAME = "compute-only"
FORM = "intercept - slope ln(flops)"
COLUMNS = ("params", "tokens", "loss")
FEWEST_RUNS = 4
# Runs below which next to nothing is left to judge the line by. A guess.
SOUND_RUNS = 6


def loss(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """Loss in nats per token at this compute in FLOP; arguments broadcast."""
    intercept, slope = (np.asarray(parameters[name], float) for name in ("intercept", "slope"))
    value: Floats = intercept - slope * np.log(np.asarray(flops, float))
    return value


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the line and test it. Raises FitError below 4 runs or 3 values of compute.

    Table `tests`: what is added, the likelihood-ratio statistic, its degrees of freedom and p-value.
    """
    points = loss_points(records, law=NAME)
    budgets = len(np.unique(np.round(np.log(points.flops), 2)))
    need(NAME, {"runs": (points.runs, FEWEST_RUNS), "values of compute": (budgets, 3)})
    line = clustered_line(np.log(points.flops), points.loss, points.units)
    tests = split_tests(points, draws=draws, seed=seed)
    drawn = _parameters(line, line.draws(draws, seed))
    parameters = {
        name: interval(float(column[0]), drawn[name], confidence=confidence)
        for name, column in _parameters(line, line.coefficients[None]).items()
    }
    reasons = _weaknesses(points, line, parameters, tests, confidence)
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=line.objective,
        tables={"tests": [asdict(test) for test in tests]},
    )


def _parameters(line: Line, coefficients: Floats) -> dict[str, Floats]:
    at_centre, rise = coefficients.T
    return {"intercept": at_centre - rise * line.centre, "slope": -rise}


def _weaknesses(
    points: LossPoints, line: Line, parameters: dict[str, Estimate], tests: list[NestedTest], confidence: float
) -> list[str]:
    reasons = [f"only {points.runs} runs; {SOUND_RUNS} are needed to trust it"] if points.runs < SOUND_RUNS else []
    slope = parameters["slope"]
    if slope.low is None or slope.low <= 0:
        reasons.append("the slope is not told from zero")
    if line.bend is not None and line.bend.matters:
        reasons.append(f"the loss bends in ln C, by {line.bend.size:.2g} nats: the line ends where the runs end")
    if not tests:
        return [*reasons, "whether the split into params and tokens matters was not tested: too few runs or one split"]
    widest = tests[-1]
    if widest.p_value < 1 - confidence:
        reasons.append(
            f"the split matters: adding {widest.adds} gives a likelihood-ratio statistic of {widest.statistic:.3g} "
            f"with {widest.degrees_of_freedom} degrees of freedom, p = {widest.p_value:.2g}"
        )
    return reasons
