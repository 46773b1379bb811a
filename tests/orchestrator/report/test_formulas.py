"""Laws as formulas with their numbers, in HTML."""

import pytest

from orchestrator.laws.registry import NAMES
from orchestrator.laws.result import Estimate, FittedLaw
from orchestrator.report.formulas import formulas

KAPLAN = {"N_c": 8.8e13, "alpha_N": 0.076, "D_c": 5.4e13, "alpha_D": 0.095, "C_c": 1.6e7, "alpha_C": 0.057}
BATCH = {"S_c": 2100.0, "alpha_S": 0.76, "B_star": 2e8, "alpha_B": 0.25}
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
LAWS = {
    "chinchilla": (HOFFMANN, "L(N, D) = 1.69 + 406 / N<sup>0.34</sup> + 411 / D<sup>0.28</sup>"),
    "overtraining": (
        {"E": 1.8, "a": 150.0, "b": 160.0, "eta": 0.14},
        "L(C, M) = 1.8 + (150 · M<sup>0.14</sup> + 160 · M<sup>−0.14</sup>) / C<sup>0.14</sup>, M = D / N",
    ),
    "kaplan-n": (KAPLAN, "L(N) = (8.8 × 10<sup>13</sup> / N)<sup>0.076</sup>"),
    "kaplan-d": (KAPLAN, "L(D) = (5.4 × 10<sup>13</sup> / D)<sup>0.095</sup>"),
    "kaplan-nd": (
        KAPLAN,
        "L(N, D) = [(8.8 × 10<sup>13</sup> / N)<sup>0.8</sup> + 5.4 × 10<sup>13</sup> / D]<sup>0.095</sup>",
    ),
    "kaplan-c": (KAPLAN, "L(C) = (1.6 × 10<sup>7</sup> / C)<sup>0.057</sup>"),
    "kaplan-ns": (
        KAPLAN | BATCH,
        "L(N, S<sub>min</sub>) = (8.8 × 10<sup>13</sup> / N)<sup>0.076</sup> + (2100 / S<sub>min</sub>)<sup>0.76</sup>",
    ),
    "critical-batch": (BATCH, "B<sub>crit</sub>(L) = 2 × 10<sup>8</sup> / L<sup>4</sup> tokens"),
    "trajectory": (
        KAPLAN | BATCH,
        "L(N, S, B) = (8.8 × 10<sup>13</sup> / N)<sup>0.076</sup> "
        "+ [(2100 / S) (1 + 2 × 10<sup>8</sup> / (B · L<sup>4</sup>))]<sup>0.76</sup>",
    ),
    "compute-only": ({"intercept": 6.5, "slope": 0.09}, "L(C) = 6.5 − 0.09 · ln C"),
    "downstream": ({"k": 2.2, "gamma": 0.71, "epsilon": 0.86}, "error(L) = 0.86 − 2.2 · e<sup>−0.71 L</sup>"),
    "data-constrained": (
        HOFFMANN | {"R_D": 15.4, "R_N": 5.3},
        "L = 1.69 + 406 / N′<sup>0.34</sup> + 411 / D′<sup>0.28</sup>",
    ),
    "envelope": ({"k": 0.1, "a": 0.5, "kd": 1.7, "b": 0.5}, "N*(C) = 0.1 · C<sup>0.5</sup>"),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_written_with_its_numbers(name: str) -> None:
    values, expected = LAWS[name]
    assert name in NAMES
    parameters = {parameter: Estimate(value=value) for parameter, value in values.items()}
    assert formulas(FittedLaw(name=name, form="", parameters=parameters))[0] == expected


def test_the_law_of_least_compute_stands_below_where_it_was_fitted() -> None:
    values = KAPLAN | {"C_c_min": 3.1e8, "alpha_C_min": 0.05}
    parameters = {parameter: Estimate(value=value) for parameter, value in values.items()}
    lines = formulas(FittedLaw(name="kaplan-c", form="", parameters=parameters))
    assert lines[1] == "L(C<sub>min</sub>) = (3.1 × 10<sup>8</sup> / C<sub>min</sub>)<sup>0.05</sup>"


def test_a_law_of_another_name_is_its_form() -> None:
    assert formulas(FittedLaw(name="theirs", form="a < b", parameters={})) == ["a &lt; b"]
