"""What is said of a sweep as a whole: why searches ended, what was predicted, what stopped it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.ledger import Closed, History, Opened, Predicted, Settled
from orchestrator.numbers import number
from orchestrator.trial import Reason, Trial
from search_spaces.plan import Search, SweepPlan

CONTRADICTED = "the cell contradicts the laws of the others, which are left out of its search"
_PREDICTED = ("learning_rate", "batch_tokens", "beta2", "loss")
_DIGITS = 4


def why_over(search: Search, history: History) -> str:
    """Why the search gets no further proposals; empty while it does."""
    cell = search.cell
    for event in history.of(Settled):
        if (event.scale, event.tokens) == (cell.scale.name, cell.tokens):
            return f"settled: {event.why}"
    return "all of its trials were proposed" if len(searched(search, history)) >= search.trials else ""


def searched(search: Search, history: History) -> list[Trial]:
    """The search's trials, its replicates left out."""
    return [t for t in history.trials.values() if t.of(search) and t.reason is not Reason.REPLICATE]


def fell_back(search: Search, history: History) -> bool:
    """Whether a trial was proposed without the laws, since the cell contradicts them."""
    return any(trial.reason is Reason.FALLBACK for trial in searched(search, history))


def closed(history: History) -> Closed | None:
    """How the sweep ended, unless a driver has opened it again since."""
    last = next((event for event in reversed(history.events) if isinstance(event, Opened | Closed)), None)
    return last if isinstance(last, Closed) else None


def why_ended(history: History) -> str:
    """What stopped the sweep; empty while it goes on."""
    last = closed(history)
    if last is None:
        return ""
    if last.message:
        return last.message
    if last.how != "done":
        return f"it was {last.how}"
    return "every search is settled or has had all of its trials" if history.of(Settled) else "all trials were made"


def sweep_tags(plan: SweepPlan, history: History) -> dict[str, str]:
    """What a tracker shows of the sweep's own run, by name; later values replace earlier ones."""
    tags = dict(_of_searches(plan, history))
    for event in history.of(Predicted):
        tags[f"predicted {plan.search_of(event.scale, event.tokens).name}"] = _predicted(event)
    ended = why_ended(history)
    return tags | ({"ended": ended} if ended else {})


def _of_searches(plan: SweepPlan, history: History) -> Iterator[tuple[str, str]]:
    for search in plan.searches:
        if why := why_over(search, history):
            yield f"over {search.name}", why
        if fell_back(search, history):
            yield f"fallback {search.name}", CONTRADICTED


def _predicted(event: Predicted) -> str:
    known = [f"{name} {_interval(event.prediction[name])}" for name in _PREDICTED if name in event.prediction]
    return f"from {event.runs_used} runs: {', '.join(known) or 'no law says anything'}"


def _interval(found: Mapping[str, Any]) -> str:
    value, low, high = (found.get(name) for name in ("value", "low", "high"))
    if low is None or high is None:
        return number(value, _DIGITS)
    return f"{number(value, _DIGITS)} [{number(low, _DIGITS)}, {number(high, _DIGITS)}]"
