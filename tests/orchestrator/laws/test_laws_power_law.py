import numpy as np
import pytest
from scipy import stats

from orchestrator.laws.power_law import Optima, fit_power_law, identifiable_terms

EXPONENTS = np.array([-0.36, 0.12])


def optima(rng, *, scales=6, ratios=(5, 10, 20), error=0.1, scatter=0.0, exponents=EXPONENTS, shared=False):
    """Cells with known errors; `scatter` is a scale's own luck, `shared` errors are half common to a scale."""
    scale = np.repeat(np.arange(scales), len(ratios))
    params = np.log(3e5) + 0.7 * scale
    tokens = params + np.tile(np.log(ratios), scales)
    covariance = error**2 * np.eye(scale.size)
    if shared:
        covariance = 0.5 * covariance + 0.5 * error**2 * (scale[:, None] == scale)
    luck = scatter * rng.standard_normal(scales)[scale]
    value = -6 + np.column_stack([params, tokens]) @ exponents + luck
    value = value + rng.multivariate_normal(np.zeros(scale.size), covariance)
    return Optima(
        log_params=params,
        log_tokens=tokens,
        value=value,
        covariance=covariance,
        scale=scale,
        edge=np.zeros(scale.size, dtype=np.int64),
        pooled_scales=shared,
    )


@pytest.mark.parametrize(
    "design",
    [{}, {"shared": True}, {"scales": 4}, {"scatter": 0.1, "shared": True}, {"scales": 8, "ratios": (20,)}],
)
def test_95_percent_intervals_cover_the_planted_exponents(design):
    rng = np.random.default_rng(7)
    exponents = EXPONENTS if len(design.get("ratios", (1, 2))) > 1 else np.array([-0.36, 0.0])
    covered, claims = 0, 0
    for _ in range(120):
        law = fit_power_law(optima(rng, exponents=exponents, **design))
        half = stats.t.ppf(0.975, law.dof) * np.sqrt(np.diag(law.covariance))
        for term, value, width in zip(law.terms, law.coefficients[1:], half[1:], strict=True):
            truth = exponents[("params", "tokens").index(term)]
            covered += abs(value - truth) <= width
            claims += 1
    assert 0.90 <= covered / claims <= 1 - 0.005 * (not design.get("shared"))
    assert claims >= 120


def test_a_design_along_one_line_does_not_tell_tokens_from_params():
    rng = np.random.default_rng(0)
    assert identifiable_terms(optima(rng, ratios=(20,))) == ("params",)
    assert identifiable_terms(optima(rng)) == ("params", "tokens")
    assert identifiable_terms(optima(rng, scales=1, ratios=(2, 5, 10, 20))) == ("tokens",)


def test_one_scale_with_other_tokens_is_not_enough_to_tell_them_apart():
    rng = np.random.default_rng(0)
    line = optima(rng, ratios=(20,))
    tokens = line.log_tokens.copy()
    tokens[0] += 2.0
    assert identifiable_terms(Optima(**{**vars(line), "log_tokens": tokens})) == ("params",)


def test_a_term_that_is_not_there_is_mostly_dropped_and_a_real_one_is_kept():
    rng = np.random.default_rng(1)
    real = [fit_power_law(optima(rng)).terms for _ in range(30)]
    assert real.count(("params", "tokens")) >= 27
    none = [fit_power_law(optima(rng, exponents=np.array([-0.36, 0.0]), error=0.3)).terms for _ in range(30)]
    assert all("params" in terms for terms in none)


def test_edges_are_bounds_and_remove_the_bias_of_leaving_them_out():
    rng = np.random.default_rng(2)
    with_bounds, left_out = [], []
    for _ in range(25):
        data = optima(rng, error=0.3, exponents=np.array([0.0, 0.5]))
        limit = np.quantile(data.value, 0.3)
        cut = data.value < limit
        censored = Optima(**{**vars(data), "value": np.maximum(data.value, limit), "edge": np.where(cut, -1, 0)})
        with_bounds.append(line(fit_power_law(censored)))
        known = {name: value[~cut] for name, value in vars(data).items() if name not in {"covariance", "pooled_scales"}}
        rest = Optima(**known, covariance=data.covariance[np.ix_(~cut, ~cut)], pooled_scales=False)
        left_out.append(line(fit_power_law(rest)))
    assert abs(np.mean(with_bounds) - 0.5) < 0.06
    assert np.mean(left_out) < 0.5 - 0.08


def line(law):
    """Rise of the law along one tokens_per_param."""
    return law.coefficients[1:].sum()


def test_two_points_are_no_law():
    rng = np.random.default_rng(3)
    assert fit_power_law(optima(rng, scales=2, ratios=(20,))) is None
