"""A trial as the laws that guide a search see it: one run at its search's horizon."""

from __future__ import annotations

from orchestrator.laws.records import RunRecord
from orchestrator.trial import Trial
from search_spaces.plan import Search

# An axis of beta2 may begin at zero, whose half-life has no logarithm.
LEAST_BETA2 = 0.01


def search_record(trial: Trial, search: Search) -> RunRecord:
    """The trial's settings and final loss (None where it has none), the batch in tokens."""
    cell, settings = search.cell, trial.settings
    return RunRecord(
        run_id=trial.key,
        params=float(cell.scale.params),
        tokens=float(cell.tokens),
        loss=trial.loss,
        learning_rate=settings.learning_rate,
        batch_tokens=float(settings.batch_size * cell.scale.sequence_length),
        beta2=max(settings.beta2, LEAST_BETA2),
    )
