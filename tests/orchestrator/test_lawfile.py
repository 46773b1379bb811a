import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import lawfile
from orchestrator.lawfile import LawSet
from orchestrator.laws.predict import Context
from orchestrator.laws.result import Estimate, Exclusion, FittedLaw, Status
from orchestrator.laws.shape import LadderShape
from search_spaces.errors import InputError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | FINITE
ESTIMATES = st.builds(Estimate, value=FINITE, low=MAYBE, high=MAYBE, stderr=MAYBE)
CELLS = st.none() | st.booleans() | st.integers() | FINITE | st.text()
LAWS = st.builds(
    FittedLaw,
    name=st.just("chinchilla"),
    form=st.text(),
    parameters=st.dictionaries(st.text(), ESTIMATES, max_size=3),
    draws=st.dictionaries(st.text(), st.lists(st.floats(allow_infinity=False), max_size=4).map(np.array), max_size=3),
    status=st.sampled_from(Status),
    reason=st.text(),
    confidence=FINITE,
    valid=st.dictionaries(st.text(), st.tuples(FINITE, FINITE), max_size=2),
    runs_used=st.integers(0),
    runs_excluded=st.lists(st.builds(Exclusion, run=st.text(), reason=st.text()), max_size=2),
    objective=MAYBE,
    tables=st.dictionaries(st.text(), st.lists(st.dictionaries(st.text(), CELLS, max_size=2), max_size=2), max_size=2),
)
SHAPES = st.builds(
    LadderShape,
    params=FINITE,
    depth=st.integers(),
    width=st.integers(),
    heads=st.integers(),
    non_embedding_params=FINITE,
)
CONTEXTS = st.builds(
    Context,
    params_count=st.text(),
    tokenizer=st.none() | st.text(),
    vocab_size=st.none() | st.integers(),
    ladder=st.lists(SHAPES, max_size=2).map(tuple),
    weight_decay=MAYBE,
    tokens_per_param=st.none() | st.tuples(FINITE, FINITE),
    noise_sd=MAYBE,
)
SETS = st.builds(
    LawSet,
    context=CONTEXTS,
    laws=LAWS.map(lambda law: {"chinchilla": law}),
    not_fitted=st.dictionaries(st.text(), st.text(), max_size=2),
)


def a_set(**changes) -> LawSet:
    law = FittedLaw(name="frontier", form="A C^-alpha + E", parameters={"E": Estimate(value=1.8)}, **changes)
    return LawSet(context=Context(), laws={"frontier": law}, not_fitted={"chinchilla": "one scale only"})


def same(left: LawSet, right: LawSet) -> bool:
    """Equal but for the draws, which are arrays, and those equal too."""
    laws = [(left.laws[name], right.laws[name]) for name in left.laws]
    draws_equal = all(
        one.draws.keys() == other.draws.keys()
        and all(np.array_equal(one.draws[key], other.draws[key], equal_nan=True) for key in one.draws)
        for one, other in laws
    )
    fields = [name for name in FittedLaw.__dataclass_fields__ if name != "draws"]
    return (
        draws_equal
        and left.laws.keys() == right.laws.keys()
        and (left.context, left.not_fitted) == (right.context, right.not_fitted)
        and all(getattr(one, name) == getattr(other, name) for one, other in laws for name in fields)
    )


def through_text(sets: lawfile.LawSets) -> lawfile.LawSets:
    return lawfile.from_json(json.loads(json.dumps(lawfile.to_json(sets, with_draws=True), allow_nan=False)))


@settings(max_examples=25, deadline=None)
@given(one=SETS)
def test_everything_comes_back_exactly(one):
    back = through_text({None: one})

    assert list(back) == [None]
    assert same(one, back[None])


@settings(max_examples=25, deadline=None)
@given(first=SETS, second=SETS)
def test_groups_come_back_exactly(first, second):
    back = through_text({"a": first, "b": second})

    assert list(back) == ["a", "b"]
    assert same(first, back["a"])
    assert same(second, back["b"])


def test_file_has_the_documented_shape(tmp_path):
    path = tmp_path / "laws.json"
    lawfile.write(
        path, {None: a_set(draws={"E": np.array([1.7, 1.9])}, runs_excluded=[Exclusion(run="r", reason="x")])}
    )

    content = json.loads(path.read_text())

    assert content["schema"] == 1
    assert content["context"]["params_count"] == "standard"
    assert content["laws"]["frontier"]["draws"] == {"E": [1.7, 1.9]}
    assert content["laws"]["frontier"]["runs_excluded"] == [{"run": "r", "reason": "x"}]
    assert content["laws"]["frontier"]["parameters"]["E"] == {"value": 1.8, "low": None, "high": None, "stderr": None}
    assert same(
        lawfile.read(path)[None],
        a_set(draws={"E": np.array([1.7, 1.9])}, runs_excluded=[Exclusion(run="r", reason="x")]),
    )


def test_groups_stand_under_their_values():
    content = lawfile.to_json({"a": a_set(), "b": a_set()}, with_draws=False)

    assert content["groups"]["b"]["frontier"]["form"] == "A C^-alpha + E"
    assert content["contexts"]["a"]["flops_count"] == "standard"


def test_draws_are_left_out_on_request():
    content = lawfile.to_json({None: a_set(draws={"E": np.ones(3)})}, with_draws=False)

    assert "draws" not in content["laws"]["frontier"]


def test_numbers_that_are_not_finite_become_null():
    sets = {
        None: a_set(draws={"E": np.array([1.0, np.inf, np.nan])}, valid={"params": (1.0, math.inf)}, objective=math.nan)
    }

    text = json.dumps(lawfile.to_json(sets, with_draws=True), allow_nan=False)
    back = lawfile.from_json(json.loads(text))[None].laws["frontier"]

    assert back.objective is None
    assert np.array_equal(back.draws["E"], [1.0, np.nan, np.nan], equal_nan=True)
    assert back.valid["params"][0] == 1.0
    assert math.isnan(back.valid["params"][1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "schema is None"),
        ('{"schema": 2}', "schema is 2 where 1 was expected"),
        ('{"schema": 1}', "context is wrong: Field required"),
        ('{"schema": 1, "context": {}, "laws": {"x": {}}}', "laws.x.form is wrong"),
        ('{"schema": 1, "groups": {"a": {}}, "contexts": {}}', "no entry for the group 'a'"),
    ],
)
def test_what_is_no_law_file_is_refused_with_its_path(tmp_path, content, message):
    path = tmp_path / "laws.json"
    path.write_text(content)

    with pytest.raises(InputError, match=r"laws\.json") as error:
        lawfile.read(path)
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        lawfile.read(tmp_path / "laws.json")


def test_laws_of_all_runs_and_of_groups_are_not_mixed():
    with pytest.raises(InputError, match="write two"):
        lawfile.to_json({None: a_set(), "a": a_set()}, with_draws=True)
