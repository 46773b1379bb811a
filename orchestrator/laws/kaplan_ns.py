"""The law `kaplan-ns`: L(N, S_min) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S.

Kaplan et al. 2020 (arXiv:2001.08361), equation 1.6 and section 5.2, in stages as there: the critical
batch from the hyperbolas (critical_batch.py), then S_min = S / (1 + B_crit(L) / B), then this law on the
tuned curves without their warmup. N is non_embedding_params where every run has it, as Kaplan's N,
else params; `form` says which. Every jackknife sample runs through all stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.laws import critical_batch
from orchestrator.laws.batch_curves import CURVE_COLUMNS, batch_curves
from orchestrator.laws.loss_curve_fit import LossCurveFit
from orchestrator.laws.loss_curve_law import FEWEST_SCALES, curve_law
from orchestrator.laws.loss_points import Parameters, need
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats

NAME = "kaplan-ns"
FORM = "(N_c / params)^alpha_N + (S_c / least_steps)^alpha_S"
COLUMNS = CURVE_COLUMNS
PARAMETERS = ("alpha_N", "alpha_S", "N_c", "S_c")


def loss(parameters: Parameters, params: npt.ArrayLike, least_steps: npt.ArrayLike) -> Floats:
    """Loss in nats per token after S_min steps at a batch far above the critical; all arguments broadcast."""
    N_c, alpha_N, S_c, alpha_S = (np.asarray(parameters[name], float) for name in ("N_c", "alpha_N", "S_c", "alpha_S"))
    value: Floats = (N_c / np.asarray(params, float)) ** alpha_N + (S_c / np.asarray(least_steps, float)) ** alpha_S
    return value


def least_steps_to(parameters: Parameters, params: npt.ArrayLike, loss: npt.ArrayLike) -> Floats:
    """S_min to reach a loss at this size, infinite where the size never does; all arguments broadcast."""
    N_c, alpha_N, S_c, alpha_S = (np.asarray(parameters[name], float) for name in ("N_c", "alpha_N", "S_c", "alpha_S"))
    above = np.asarray(loss, float) - (N_c / np.asarray(params, float)) ** alpha_N
    reached = above > 0
    steps: Floats = np.where(reached, S_c * np.where(reached, above, 1.0) ** (-1 / alpha_S), np.inf)
    return steps


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 sizes, or where no critical batch can be fitted."""
    curves = batch_curves(records, law=NAME)
    need(NAME, {"sizes": (curves.scales, FEWEST_SCALES)})
    fitted = LossCurveFit(curves, critical_batch.fit_tradeoff(curves, law=NAME), staged=True)
    return curve_law(fitted, name=NAME, form=FORM, names=PARAMETERS, confidence=confidence, seed=seed, draws=draws)
