"""The law `trajectory`: the loss at every step of any size at any batch size.

Su et al. 2024 (arXiv:2403.06563) with the formulas of Kaplan et al. 2020 (arXiv:2001.08361):

    L = (N_c / N)^alpha_N + [(S_c / S) (1 + B_star / (B L^(1/alpha_B)))]^alpha_S

solved for L; no offset, as there. Their recipe fits stage by stage from small runs, several of them at
several batch sizes; here the stages give the start and all six parameters are then fitted at once to
the tuned curves without their warmup (in stages is the law `kaplan-ns`). N is non_embedding_params
where every run has it, else params; `form` says which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.laws import critical_batch, kaplan_ns
from orchestrator.laws.batch_curves import CURVE_COLUMNS, batch_curves
from orchestrator.laws.loss_curve_fit import LossCurveFit
from orchestrator.laws.loss_curve_form import TOLERANCE, Terms, solve
from orchestrator.laws.loss_curve_law import FEWEST_SCALES, curve_law
from orchestrator.laws.loss_points import Parameters, need
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats

NAME = "trajectory"
FORM = "(N_c / params)^alpha_N + [(S_c / steps) (1 + B_star / (batch_tokens loss^(1/alpha_B)))]^alpha_S"
COLUMNS = CURVE_COLUMNS
PARAMETERS = ("N_c", "alpha_N", "S_c", "alpha_S", "B_star", "alpha_B")


def loss(parameters: Parameters, params: npt.ArrayLike, steps: npt.ArrayLike, batch_tokens: npt.ArrayLike) -> Floats:
    """Loss in nats per token after so many steps of a batch in tokens; all arguments broadcast."""
    exponents = (np.asarray(parameters[name], float) for name in ("alpha_N", "alpha_S", "alpha_B"))
    heights = (np.log(np.asarray(parameters[name], float)) for name in ("N_c", "S_c", "B_star"))
    places = (np.log(np.asarray(quantity, float)) for quantity in (params, steps, batch_tokens))
    (alpha_N, alpha_S, alpha_B), (size, pace, ratio) = exponents, (h - p for h, p in zip(heights, places, strict=True))
    terms = Terms(size=alpha_N * size, steps=alpha_S * pace, power=alpha_S, ratio=ratio, fall=1 / alpha_B)
    value: Floats = np.exp(solve(terms, np.logaddexp(terms.size, terms.steps), TOLERANCE).log_loss)
    return value


def converged_loss(parameters: Parameters, params: npt.ArrayLike) -> Floats:
    """Loss in nats per token that a size tends to, L(N) = (N_c / N)^alpha_N; all arguments broadcast."""
    return kaplan_ns.loss(parameters, params, np.inf)


def steps_to(parameters: Parameters, params: npt.ArrayLike, loss: npt.ArrayLike, batch_tokens: npt.ArrayLike) -> Floats:
    """Steps of a batch to reach a loss, S_min (1 + B_crit(L) / B); infinite where the size never does."""
    above = 1 + critical_batch.critical_batch(parameters, loss) / np.asarray(batch_tokens, float)
    steps: Floats = kaplan_ns.least_steps_to(parameters, params, loss) * above
    return steps


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 sizes, or where no critical batch can be fitted."""
    curves = batch_curves(records, law=NAME)
    need(NAME, {"sizes": (curves.scales, FEWEST_SCALES)})
    fitted = LossCurveFit(curves, critical_batch.fit_tradeoff(curves, law=NAME), staged=False)
    return curve_law(fitted, name=NAME, form=FORM, names=PARAMETERS, confidence=confidence, seed=seed, draws=draws)
