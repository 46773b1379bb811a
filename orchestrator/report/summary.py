"""What was swept and what came of it, in words and a few large numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orchestrator.laws.result import FittedLaw, Status
from orchestrator.numbers import count, number
from orchestrator.report.data import ReportData
from orchestrator.report.html import tiles
from orchestrator.report.runs import cells, scale_names
from orchestrator.report.style import percent, plural


def summary(data: ReportData) -> str:
    """Tiles with counts, then a sentence on what was swept and one on how far to trust the laws."""
    return (
        tiles(_counts(data))
        + f'<p class="lead">{escape(_swept(data))}</p><p>{escape(_trust(data))}{escape(_foretold(data))}</p>'
    )


def _counts(data: ReportData) -> list[tuple[str, str]]:
    runs = _statuses(data)
    flops = _flops(data)
    entries = [
        (str(len(scale_names(data))), "scales"),
        (str(len(cells(data))), "cells"),
        (f"{len(runs):,}", "trials" if data.trials else "runs"),
        (number(flops) if flops else "–", "FLOP in them"),
        (str(runs.count("diverged")), "diverged"),
        (str(runs.count("failed")), "failed"),
    ]
    unfinished = sum(not trial.state.ended for trial in data.trials)
    return [*entries, (str(unfinished), "not yet ended")] if unfinished else entries


def _statuses(data: ReportData) -> list[str]:
    """The state of each trial, or of each run of a foreign table."""
    if data.trials:
        return [trial.state.value for trial in data.trials]
    return list({record.run_id: record.status for record in data.records}.values())


def _flops(data: ReportData) -> float:
    """FLOP of all runs; of a run that is read at several token counts the most."""
    most: dict[str, float] = {}
    for record in data.records:
        if record.flops:
            most[record.run_id] = max(record.flops, most.get(record.run_id, 0.0))
    return sum(most.values())


def _swept(data: ReportData) -> str:
    sizes = list(scale_names(data))
    found = cells(data)
    if not sizes:
        return f"{plural(len(_statuses(data)), 'run')}; the table does not say how large the models were."
    text = (
        f"Models of {count(sizes[0])} to {count(sizes[-1])} params"
        if len(sizes) > 1
        else f"One size, {count(sizes[0])} params"
    )
    if found:
        ratios = sorted(cell.tokens_per_param for cell in found)
        text += f", trained for {count(min(c.tokens for c in found))} to {count(max(c.tokens for c in found))} tokens"
        text += f" ({number(ratios[0])} to {number(ratios[-1])} tokens per param)"
    best = _best(data)
    return f"{text}.{best}"


def _best(data: ReportData) -> str:
    losses = [(c.best_loss, c.name) for c in cells(data) if c.best_loss is not None]
    if not losses:
        return " Nothing has been measured yet."
    loss, name = min(losses)
    return f" The lowest loss is {number(loss, 4)} nats per token, in {name}."


def _trust(data: ReportData) -> str:
    """Which laws to trust, in one sentence each kind."""
    words = {
        Status.OK: "Carried by the data:",
        Status.WEAK: "Weak, each with its reason below:",
        Status.FAILED: "Failed:",
    }
    sentences = [
        f"{words[status]} {_names(laws)}."
        for status in Status
        if (laws := [law for law in data.laws.values() if law.status is status])
    ]
    if data.not_fitted:
        sentences.append(f"Not fitted: {', '.join(data.not_fitted)}.")
    return " ".join(sentences) or "No law was fitted."


def _foretold(data: ReportData) -> str:
    """How the settings that were predicted beforehand did."""
    regrets = [f"{test.cell}: {percent(test.regret)}" for test in data.backtests if test.regret is not None]
    return (
        f" Loss of the settings predicted beforehand, above the best found later: {', '.join(regrets)}."
        if regrets
        else ""
    )


def _names(laws: Sequence[FittedLaw]) -> str:
    return ", ".join(law.name for law in laws)
