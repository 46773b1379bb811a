"""Laws in words on a terminal."""

from orchestrator.formulas import law_text
from orchestrator.laws.result import Estimate, FittedLaw, Status


def text_of(**parameters):
    return law_text(FittedLaw(name="frontier", form="A / flops^alpha + E", parameters=parameters))


def test_a_number_that_may_be_anything_is_not_determined():
    text = text_of(A=Estimate(value=9.9e10, low=4e-110, high=1e12), E=Estimate(value=1.7, low=1.5, high=1.9))
    assert "A = not determined, E = 1.7 [1.5, 1.9]" in text


def test_wide_intervals_and_those_that_hold_zero_are_printed():
    text = text_of(
        A=Estimate(value=1e3, low=1.0, high=9e5),
        E=Estimate(value=1.7, low=0.0, high=1.9),
        b=Estimate(value=0.1, low=-1, high=2),
    )
    assert "A = 1000 [1, 9e5]" in text
    assert "E = 1.7 [0, 1.9]" in text
    assert "b = 0.1 [-1, 2]" in text


def test_a_power_law_whose_coefficient_is_not_determined_keeps_its_exponents():
    law = FittedLaw(
        name="hyperparameters",
        form="",
        parameters={
            "learning_rate.coefficient": Estimate(value=2.0, low=1e-9, high=1e9),
            "learning_rate.params_exponent": Estimate(value=-0.7, low=-0.8, high=-0.6),
        },
        status=Status.WEAK,
        reason="3 scales",
    )
    assert "learning_rate = not determined * params^-0.7 [-0.8, -0.6]" in law_text(law)
