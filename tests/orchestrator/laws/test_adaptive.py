"""The adaptive law: its formulas, the way down, and planted curves recovered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws import adaptive, chinchilla
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from orchestrator.laws.static_curves import flops_at, loss, marginal_cost
from orchestrator.laws.traversal import Shape, traverse
from search_spaces.errors import FitError, MissingColumnError

PLANTED = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
RATIOS = (1.0, 60.0)
SIZES = np.geomspace(2e6, 1e8, 8)


def static_runs(rng, *, noise=0.003, sizes=SIZES, points=12):
    """One run a size under a constant learning rate; its luck is shared along the curve."""
    records = []
    for params in sizes:
        luck = noise * rng.standard_normal()
        for tokens in params * np.geomspace(*RATIOS, points):
            own = luck + noise / 5 * rng.standard_normal()
            found = float(chinchilla.loss(PLANTED, params, tokens) * np.exp(own))
            name = f"{params:.4g}"
            records.append(RunRecord(run_id=name, params=params, tokens=tokens, loss=found, schedule="constant"))
    return records


def planted_shape(params):
    """At a fixed size the surface is a shape's curve with d = 0."""
    values = {"a": PLANTED["B"] * (6 * params) ** 0.37, "b": 0.37, "c": PLANTED["E"] + PLANTED["A"] * params**-0.35}
    return Shape(
        params=params,
        flops_per_token=6 * params,
        first_flops=6 * params**2 * RATIOS[0],
        last_flops=6 * params**2 * RATIOS[1],
        parameters={name: np.array([value]) for name, value in (values | {"d": 0.0}).items()},
    )


def planted_way(law, sizes=SIZES):
    """The true way down the law's own levels of loss."""
    lowest, highest = law.valid["loss"]
    return traverse([planted_shape(params) for params in sizes], np.geomspace(highest, lowest, adaptive.LEVELS))


positive = st.floats(0.01, 0.9)


@given(a=st.floats(1.0, 1e6), b=positive, c=st.floats(0.1, 3.0), d=st.floats(0.0, 1e12), flops=st.floats(1e12, 1e20))
def test_the_compute_to_a_loss_is_the_inverse_of_the_loss(a, b, c, d, flops):
    parameters = {"a": a, "b": b, "c": c, "d": d}
    reached = loss(parameters, flops)
    above = reached - c
    if above > 1e-6 * c:
        assert flops_at(parameters, reached) == pytest.approx(flops, rel=1e-6 / (b * above))


@given(b=positive, c=st.floats(0.1, 3.0), above=st.floats(0.05, 3.0))
def test_the_marginal_cost_is_the_slope_of_the_inverse(b, c, above):
    parameters = {"a": 3.0, "b": b, "c": c, "d": 7.0}
    step = 1e-4 * above
    slope = (flops_at(parameters, c + above - step) - flops_at(parameters, c + above + step)) / (2 * step)
    assert marginal_cost(parameters, c + above) == pytest.approx(slope, rel=1e-2 / b)


def test_no_compute_leads_below_the_offset():
    parameters = {"a": 3.0, "b": 0.3, "c": 2.0, "d": 0.0}
    assert np.isinf(flops_at(parameters, [2.0, 1.5])).all()
    assert np.isinf(marginal_cost(parameters, [2.0, 1.5])).all()


def test_the_way_down_trains_the_shape_of_least_marginal_cost_and_costs_its_integral():
    shapes = [planted_shape(params) for params in (2e6, 2e7, 2e8)]
    levels = np.geomspace(9.0, 4.2, 4000)
    way = traverse(shapes, levels)
    costs = np.stack([marginal_cost(shape.parameters, levels)[:, None].ravel() for shape in shapes])
    known = levels <= np.array([loss(shape.parameters, shape.first_flops) for shape in shapes])
    cheapest = np.argmin(np.where(known, costs, np.inf), axis=0)
    assert (way.shape[0, 1:] == cheapest[1:]).mean() > 0.995
    least = costs[cheapest, np.arange(len(levels))]
    integral = -np.diff(levels) * (least[1:] + least[:-1]) / 2
    assert way.flops[0, -1] - way.flops[0, 0] == pytest.approx(integral.sum(), rel=2e-3)
    assert way.tokens[0, -1] < way.flops[0, -1] / shapes[0].flops_per_token


def test_changing_the_shape_never_costs_more_than_the_best_static_one():
    way = planted_way(adaptive.fit(static_runs(np.random.default_rng(0)), draws=20))
    assert np.nanmin(way.saved) >= -1e-12
    assert np.nanmax(way.saved) > 0.05


def test_planted_savings_and_switches_come_back():
    law = adaptive.fit(static_runs(np.random.default_rng(1)), draws=200)
    way = planted_way(law)
    saved = law.parameters["saved"]
    assert law.status is Status.OK
    assert saved.low <= way.saved[0, -1] <= saved.high
    assert law.value("flops") == pytest.approx(way.flops[0, -1], rel=0.1)
    assert law.value("saved") == pytest.approx(1 - law.value("flops") / law.value("static_flops"))
    assert [row["params"] for row in law.tables["switches"]] == pytest.approx(SIZES[1:])
    for at, row in enumerate(law.tables["switches"], start=1):
        begun = way.first_level(at)[0] - 1
        assert row["loss_low"] * 0.999 <= way.loss[begun] <= row["loss_high"] * 1.001
        assert row["flops"] == pytest.approx(way.flops[0, begun], rel=0.5)


def test_shapes_come_back_with_their_parameters():
    law = adaptive.fit(static_runs(np.random.default_rng(2), noise=1e-4), draws=20)
    for row in law.tables["shapes"]:
        assert row["b"] == pytest.approx(0.37, abs=0.02)
        assert row["c"] == pytest.approx(PLANTED["E"] + PLANTED["A"] * row["params"] ** -0.35, rel=0.03)


def test_intervals_cover_the_planted_savings():
    covered = 0
    for sweep in range(14):
        law = adaptive.fit(static_runs(np.random.default_rng(sweep), noise=0.005), draws=80, seed=sweep)
        saved = law.parameters["saved"]
        covered += saved.low <= planted_way(law).saved[0, -1] <= saved.high
    assert covered >= 12


def test_the_same_table_gives_the_same_law():
    records = static_runs(np.random.default_rng(3))
    one, other = (adaptive.fit(order, draws=20) for order in (records, records[::-1]))
    assert one.parameters == other.parameters


def test_few_shapes_are_weak():
    law = adaptive.fit(static_runs(np.random.default_rng(4), sizes=SIZES[:3]), draws=50)
    assert law.status is Status.WEAK
    assert "only 3 scales" in law.reason


def test_a_shape_that_is_the_cheapest_everywhere_leaves_nothing_to_switch():
    records = static_runs(np.random.default_rng(5), sizes=SIZES[:1])
    worse = [
        RunRecord(run_id="worse", params=2e7, tokens=r.tokens, loss=r.loss * 1.1, schedule="constant")
        for r in records[5:]
    ]
    law = adaptive.fit([*records, *worse], draws=50)
    assert law.status is Status.WEAK
    assert "nothing to switch" in law.reason
    assert law.value("saved") == 0
    assert not law.tables["switches"]


def test_one_shape_is_refused():
    with pytest.raises(FitError, match="at least 2 shapes with 5 points"):
        adaptive.fit(static_runs(np.random.default_rng(6), sizes=SIZES[:1]))


def test_a_missing_column_is_named():
    with pytest.raises(MissingColumnError, match="'params'"):
        adaptive.fit([RunRecord(run_id="a", tokens=1e6, loss=3.0)])
