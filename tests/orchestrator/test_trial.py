"""A trial's states and its identity."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from orchestrator.trial import IllegalTransitionError, Trial, TrialState, spec_of, trial_key
from search_spaces.axis import Fixed
from search_spaces.plan import Cell, Search
from search_spaces.scale import Architecture, ModelScale
from search_spaces.space import HyperParameters, SearchSpace
from trainers.api import TrialResult

SCALE = ModelScale(name="s1", depth=2, width=32, ffn_width=64, heads=2, vocab_size=256, sequence_length=128)
SPACE = SearchSpace(learning_rate=Fixed(3e-4), batch_size=Fixed(8), beta2=Fixed(0.98))
SETTINGS = HyperParameters(learning_rate=3e-4, batch_size=8, beta2=0.98)
LEGAL = {
    (TrialState.WAITING, TrialState.RUNNING),
    (TrialState.WAITING, TrialState.FAILED),
    (TrialState.RUNNING, TrialState.WAITING),
    (TrialState.RUNNING, TrialState.COMPLETED),
    (TrialState.RUNNING, TrialState.DIVERGED),
    (TrialState.RUNNING, TrialState.FAILED),
}


def key(scale: ModelScale = SCALE, tokens: int = 2048, shortest: int = 1024, **changes: object) -> str:
    cells = (Cell(scale=scale, tokens=shortest), Cell(scale=scale, tokens=tokens))
    search = Search(cell=cells[-1], serves=cells, space=SPACE, trials=1)
    return trial_key(**{"search": search, "settings": SETTINGS, "seed": 0, "trainer_version": "v1"} | changes)


@pytest.mark.parametrize(("before", "after"), list(product(TrialState, TrialState)))
def test_only_legal_moves_are_made(make_trial, before: TrialState, after: TrialState) -> None:
    trial: Trial = replace(make_trial(1), state=before)
    if (before, after) in LEGAL:
        assert trial.moved(after, message="said").state is after
        assert trial.moved(after, message="said").message == "said"
    else:
        with pytest.raises(IllegalTransitionError, match=f"cannot go from {before} to {after}"):
            trial.moved(after)


def test_what_ends_and_what_measures() -> None:
    assert {state for state in TrialState if state.ended} == {
        TrialState.COMPLETED,
        TrialState.DIVERGED,
        TrialState.FAILED,
    }
    assert {state for state in TrialState if state.measured} == {TrialState.COMPLETED, TrialState.DIVERGED}


def test_only_a_completed_trial_has_a_loss(make_trial) -> None:
    assert make_trial(1, loss=3.0).loss == 3.0
    result = TrialResult(final_loss=3.0, diverged=True, tokens=10, seconds=1.0)
    assert replace(make_trial(1), state=TrialState.DIVERGED, result=result).loss is None
    assert make_trial(1).loss is None


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 4096},
        {"shortest": 512},
        {"seed": 1},
        {"trainer_version": "v2"},
        {"settings": replace(SETTINGS, learning_rate=3.0001e-4)},
        {"settings": replace(SETTINGS, batch_size=16)},
        {"settings": replace(SETTINGS, beta2=0.981)},
        {"scale": replace(SCALE, depth=3)},
        {"scale": replace(SCALE, width=36)},
        {"scale": replace(SCALE, ffn_width=65)},
        {"scale": replace(SCALE, heads=4)},
        {"scale": replace(SCALE, vocab_size=257)},
        {"scale": replace(SCALE, sequence_length=64)},
        {"scale": replace(SCALE, architecture=Architecture.GPT2)},
        {"scale": replace(SCALE, tied=True)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_key_has_everything_that_decides_the_result(changes: dict[str, object]) -> None:
    assert key(**changes) != key()


def test_the_key_has_nothing_else() -> None:
    assert key(scale=replace(SCALE, name="other")) == key()
    # On every machine and in every version: a run folder outlives both.
    assert key() == "38513f2ed984ca61"


def test_a_worker_gets_what_the_search_says(make_trial, small_search: Search) -> None:
    trial = make_trial(3)
    spec = spec_of(trial, small_search)
    assert (spec.key, spec.seed, spec.settings) == (trial.key, trial.seed, trial.settings)
    assert (spec.scale, spec.tokens) == (small_search.cell.scale, small_search.cell.tokens)
    assert spec.eval_tokens == small_search.eval_tokens
    assert spec.eval_tokens[-1] == spec.tokens == spec.served_tokens[-1]
