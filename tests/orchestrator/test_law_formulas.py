"""Laws in words on a terminal."""

from orchestrator.formulas import absent_laws, laws_text
from orchestrator.laws.result import Estimate, Exclusion, FittedLaw, Status


def law(name="frontier", *, parameters=None, **more):
    known = {"alpha": Estimate(value=0.3, low=0.2, high=0.4)} if parameters is None else parameters
    return FittedLaw(name=name, form="A / flops^alpha + E", parameters=known, **more)


def text_of(*laws, not_fitted=None):
    return laws_text({each.name: each for each in laws}, not_fitted or {})


def test_a_number_that_may_be_anything_is_not_determined():
    found = {"A": Estimate(value=9.9e10, low=4e-110, high=1e12), "E": Estimate(value=1.7, low=1.5, high=1.9)}
    assert text_of(law(parameters=found)) == "frontier  ok     A = not determined, E = 1.7 [1.5, 1.9]"


def test_wide_intervals_and_those_that_hold_zero_are_printed():
    found = {
        "A": Estimate(value=1e3, low=1.0, high=9e5),
        "E": Estimate(value=1.7, low=0.0, high=1.9),
        "b": Estimate(value=0.1, low=-1, high=2),
    }
    assert text_of(law(parameters=found)).endswith("A = 1000 [1, 9e5], E = 1.7 [0, 1.9], b = 0.1 [-1, 2]")


def test_a_power_law_whose_coefficient_is_not_determined_keeps_its_exponents():
    found = {
        "learning_rate.coefficient": Estimate(value=2.0, low=1e-9, high=1e9),
        "learning_rate.params_exponent": Estimate(value=-0.7, low=-0.8, high=-0.6),
    }
    text = text_of(law("hyperparameters", parameters=found, status=Status.WEAK, reason="3 scales"))
    first, second = text.splitlines()
    assert first == "hyperparameters  weak   learning_rate = not determined * params^-0.7 [-0.8, -0.6]"
    assert second.strip() == "(3 scales)"


def test_names_and_parameters_stand_in_columns():
    lines = text_of(law(), law("isoflop-akima", status=Status.WEAK, reason="2 sizes")).splitlines()
    assert lines[0].index("alpha") == lines[1].index("alpha") == lines[2].index("(2 sizes)")


def test_a_long_reason_is_cut_and_says_where_the_rest_is():
    reason = "; ".join(f"the interval of parameter {number} is wider than a factor of 10" for number in range(9))
    lines = text_of(law(status=Status.WEAK, reason=reason)).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 118 for line in lines)
    assert lines[-1].endswith("... more with --json)")


def test_a_law_without_a_parameter_says_why():
    assert text_of(law(parameters={}, status=Status.FAILED, reason="all optima lie on an edge")).splitlines() == [
        "frontier  failed (all optima lie on an edge)"
    ]


def test_runs_left_out_are_counted_once_with_the_laws_that_leave_them_out():
    diverged = [Exclusion(run=str(number), reason="diverged") for number in range(3)]
    own = Exclusion(run="8", reason="its size has a longer horizon")
    text = text_of(law("chinchilla", runs_excluded=diverged), law("kaplan-n", runs_excluded=[*diverged, own]))
    assert text.splitlines()[-2:] == [
        "left out: 3 diverged",
        "left out of kaplan-n: 1 its size has a longer horizon",
    ]


def test_laws_that_lack_the_same_stand_in_one_line():
    why = "needs the column 'batch_tokens'"
    absent = {name: f"the law '{name}' {why}" for name in ("critical-batch", "trajectory")}
    assert absent_laws(absent | {"joint": "no cell has enough runs"}) == [
        f"critical-batch, trajectory: {why}",
        "joint: no cell has enough runs",
    ]
    assert text_of(not_fitted=absent) == f"not fitted: critical-batch, trajectory: {why}"
