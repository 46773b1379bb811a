import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.counts import complete
from orchestrator.laws.records import RunRecord
from search_spaces.errors import InputError

SIZES = st.floats(1e3, 1e15)


def run(**values) -> RunRecord:
    return RunRecord(run_id="a", **values)


@given(params=SIZES, tokens=SIZES)
def test_the_third_count_follows_from_the_other_two(params, tokens):
    flops = 6 * params * tokens
    counts = {"params": params, "tokens": tokens, "flops": flops}

    for missing, expected in counts.items():
        given_two = {name: value for name, value in counts.items() if name != missing}
        (record,) = complete([run(**given_two)]).records
        assert getattr(record, missing) == pytest.approx(expected, rel=1e-12)


def test_what_was_derived_is_said():
    completed = complete([run(params=1e6, tokens=1e7), run(params=1e6, flops=6e13), run(params=1e6)])

    assert completed.notes == (
        "flops = 6 * params * tokens in 1 of 3 rows",
        "tokens = flops / (6 * params) in 1 of 3 rows",
    )
    assert completed.records[2].flops is None


def test_given_flops_stand_and_their_difference_is_said():
    completed = complete([run(params=1e6, tokens=1e7, flops=9e13), run(params=1e6, tokens=1e7, flops=6.01e13)])

    assert completed.records[0].flops == 9e13
    assert completed.notes == (
        "flops differs from 6 * params * tokens in 1 of 2 rows (by a factor of 1.5); flops stands",
    )


def test_a_batch_in_sequences_is_refused_with_its_remedy():
    rows = [run(tokens=2048.0 * batch * 100, batch_tokens=batch, steps=100) for batch in (8, 16, 32)]

    with pytest.raises(InputError, match="--batch-unit sequences --seq-len 2048"):
        complete(rows)


def test_single_batches_that_do_not_fit_are_said():
    fitting = [run(tokens=1e6, batch_tokens=1000, steps=1000)] * 9

    completed = complete([*fitting, run(tokens=1e6, batch_tokens=10, steps=1000)])

    assert completed.notes == (
        "batch_tokens * steps differs from tokens in 1 of 10 rows (by a factor of 100); "
        "is the batch in tokens everywhere?",
    )


def test_counts_that_fit_are_not_spoken_of():
    completed = complete([run(params=1e6, tokens=1e7, flops=6e13, batch_tokens=1e4, steps=1000)])

    assert completed.notes == ()
