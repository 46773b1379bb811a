import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws.records import RunRecord
from orchestrator.tables.counts import complete
from search_spaces.errors import InputError

SIZES = st.floats(1e3, 1e15)


NUMBERS = itertools.count()


def run(**values) -> RunRecord:
    return RunRecord(**{"run_id": f"run {next(NUMBERS)}"} | values)


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
    fitting = [run(tokens=1e6, batch_tokens=1000, steps=1000) for _ in range(9)]

    completed = complete([*fitting, run(tokens=1e6, batch_tokens=10, steps=1000)])

    assert completed.notes == (
        "batch_tokens * steps differs from tokens in 1 of 10 rows (by a factor of 100); "
        "is the batch in tokens everywhere?",
        "batch_tokens is not used in 1 of 10 rows: it seems to be in sequences there",
    )
    assert [record.batch_tokens for record in completed.records] == [1000] * 9 + [None]


def test_values_that_cannot_be_are_taken_as_not_known_and_said():
    completed = complete(
        [run(params=1e6, tokens=1e7, flops=-1.0, beta2=0.99), run(params=1e6, tokens=1e7, flops=6e13, beta2=1.5)]
    )

    assert [record.flops for record in completed.records] == [6e13, 6e13]
    assert [record.beta2 for record in completed.records] == [0.99, None]
    assert completed.notes == (
        "flops is taken as not known in 1 of 2 rows: -1 cannot be (1 to 1e+40)",
        "beta2 is taken as not known in 1 of 2 rows: 1.5 cannot be (1e-06 to 0.999999999)",
        "flops = 6 * params * tokens in 1 of 2 rows",
    )


def test_one_run_with_two_sizes_is_refused_and_two_losses_at_one_place_are_said():
    with pytest.raises(InputError, match=r"'a' has rows with params 1e\+06 and 2e\+06"):
        complete([run(run_id="a", params=1e6), run(run_id="a", params=2e6)])
    twice = [run(run_id="a", tokens=1e7, loss=loss) for loss in (3.0, 4.0)]
    assert complete(twice).notes == (
        "1 of 2 rows repeat the tokens of another row of the same run; does run_id name one run?",
    )


def test_counts_that_fit_are_not_spoken_of():
    completed = complete([run(params=1e6, tokens=1e7, flops=6e13, batch_tokens=1e4, steps=1000)])

    assert completed.notes == ()
