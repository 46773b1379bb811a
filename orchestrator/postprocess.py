"""Recorded runs -> laws -> files: laws.json, the tables, report.html, and the words at the end of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import lawfile, sweep_text
from orchestrator.collect import collect, collect_curves
from orchestrator.curves import read_curve
from orchestrator.facts import why_ended, why_over
from orchestrator.files import write_atomically
from orchestrator.forecasts import Forecast
from orchestrator.laws import chinchilla, hyperparameters, joint
from orchestrator.laws.predict import Context, Prediction, predict
from orchestrator.laws.predicted import Predicted as PredictedQuantity
from orchestrator.laws.registry import FitReport, fit_laws
from orchestrator.laws.regret import Regret
from orchestrator.ledger import History, Predicted
from orchestrator.numbers import count
from orchestrator.report.data import Advice, Backtest, ReportData
from orchestrator.runfolder import RunFolder
from orchestrator.tables.kept import write_records
from orchestrator.trial import Reason, Trial, best_trial
from search_spaces.errors import ScalesweepError
from search_spaces.plan import Search, SweepPlan
from search_spaces.space import HyperParameters

# Sizes for which the report gives advice, as multiples of the largest scale.
_ADVICE_FACTORS = (2, 4, 16)
# Advice has at least one of these.
_WORTH_SAYING = {"learning_rate", "batch_tokens", "beta2", "loss"}
_SETTINGS = ("learning_rate", "batch_tokens", "beta2")
# A law in half-lives may give a beta2 that rounds to one, which no axis can place.
_BELOW_ONE = 1 - 1e-9


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished sweep says: on the terminal, in MLflow's note (Markdown), and as numbers."""

    text: str
    note: str
    metrics: Mapping[str, float]
    regrets: Mapping[str, float]  # trial_key -> relative loss above the fitted best of its longest cell


def postprocess(folder: RunFolder, history: History) -> Outcome:
    """Fit the laws of what has ended and write the run folder's laws, table and page."""
    sweep = folder.sweep()
    plan = sweep.plan()
    trials = list(history.trials.values())
    records, context = collect(folder, trials)
    points = collect_curves(folder, trials)
    fitted = fit_laws(records, curves=points)
    advice = tuple(_advice(plan, fitted, context, sweep.goal().target))
    backtests = tuple(_backtests(plan, history, fitted))
    laws = lawfile.LawSet(context=context, laws=fitted.laws, not_fitted=fitted.not_fitted)
    lawfile.write(folder.laws_file, {None: laws})
    write_records(folder.runs_file, records)
    write_records(folder.curves_file, points)
    data = ReportData(
        title=plan.name,
        context=context,
        records=records,
        points=points,
        laws=fitted.laws,
        not_fitted=fitted.not_fitted,
        advice=advice,
        backtests=backtests,
        plan=plan,
        trials=trials,
        curves={trial.key: read_curve(folder.path, trial.key) for trial in trials},
        ends={search.name: why for search in plan.searches if (why := why_over(search, history))},
        ended=why_ended(history),
    )
    _write_page(folder, data)
    return Outcome(
        text="\n\n".join([*sweep_text.ends(data), sweep_text.summary(laws, advice, backtests)]),
        note=sweep_text.note(data, laws),
        metrics=_metrics(backtests),
        regrets=dict(_regrets(plan, trials, fitted)),
    )


# The laws that say something of one cell's settings and loss: a held-out search waits for their fit.
_FORECASTING = (hyperparameters.NAME, joint.NAME, chinchilla.NAME)


def forecast_of(search: Search, trials: Sequence[Trial], folder: RunFolder) -> Forecast:
    """What laws fitted to these trials say of a search's cell: its settings, and its loss at them.

    A setting that no law predicts (its optima lie on an edge, say) is taken from the largest scale's best
    trial, with a warning.
    """
    records, context = collect(folder, trials)
    fitted = fit_laws(records, curves=(), names=_FORECASTING)
    said = predict(fitted.laws, context, params=float(search.cell.scale.params), tokens=float(search.cell.tokens))
    known = {name: said.value(name) for name in _SETTINGS if name in said.quantities}
    best = _best_of_largest(folder.sweep().plan(), trials)
    missing = [name for name in _SETTINGS if name not in known]
    warnings = said.warnings
    if missing and best is not None:
        warnings += (f"no law predicts {', '.join(missing)}: taken from the best trial of {best.scale}",)
    return Forecast(
        settings=_point(known, best, search),
        runs_used=len({record.run_id for record in records}),
        prediction=as_json(replace(said, warnings=warnings)),
    )


def _best_of_largest(plan: SweepPlan, trials: Sequence[Trial]) -> Trial | None:
    for other in reversed(plan.searches):
        best = best_trial([trial for trial in trials if trial.of(other)])
        if best is not None:
            return best
    return None


def _point(known: Mapping[str, float], best: Trial | None, search: Search) -> HyperParameters | None:
    """The predicted settings and, for those missing, the best known ones; moved into the search's space."""
    if best is None:
        return None
    length = search.cell.scale.sequence_length
    return search.space.at(
        {
            "learning_rate": known.get("learning_rate", best.settings.learning_rate),
            "batch_size": known["batch_tokens"] / length if "batch_tokens" in known else best.settings.batch_size,
            "beta2": min(known.get("beta2", best.settings.beta2), _BELOW_ONE),
        }
    )


def as_json(said: Prediction) -> dict[str, Any]:
    """A prediction as the ledger keeps it and `predict --json` prints it."""
    quantities = {name: dataclasses.asdict(found) for name, found in said.quantities.items()}
    regrets = {name: dataclasses.asdict(regret) for name, regret in said.regrets.items()}
    return {**quantities, "regret": regrets, "warnings": list(said.warnings)}


def _storable(said: Prediction) -> dict[str, Any]:
    """As `as_json`, with None for what is no finite number: the ledger is strict JSON."""
    return {name: lawfile.plain(found) for name, found in as_json(said).items()}


def from_json(body: Mapping[str, Any]) -> Prediction:
    """The inverse of `as_json`; what is no quantity is left out."""
    return Prediction(
        quantities={
            name: PredictedQuantity(**found)
            for name, found in body.items()
            if isinstance(found, Mapping) and found.get("value") is not None
        },
        regrets={name: Regret(**found) for name, found in body.get("regret", {}).items()},
        warnings=tuple(body.get("warnings", ())),
    )


def _advice(
    plan: SweepPlan, fitted: FitReport, context: Context, target: tuple[float, float] | None
) -> Iterator[Advice]:
    """What to use at the target, and at the next scales at the longest horizon of the ladder."""
    for title, (params, tokens) in _advised(plan, target):
        try:
            said = predict(fitted.laws, context, params=params, tokens=tokens)
        except ScalesweepError:  # nothing fitted can say anything at that size
            continue
        if not said.quantities.keys() & _WORTH_SAYING:
            continue
        yield Advice(title=title, prediction=said)


def _advised(plan: SweepPlan, target: tuple[float, float] | None) -> Iterator[tuple[str, tuple[float, float]]]:
    """Sizes (params, tokens) with their titles."""
    if target is not None:
        yield f"the target: {count(target[0])} params, {count(target[1])} tokens", target
    largest = plan.searches[-1].cell
    for factor in _ADVICE_FACTORS:
        params = float(factor * largest.scale.params)
        title = f"{factor} times the largest scale, {largest.tokens_per_param:.3g} tokens per parameter"
        yield title, (params, params * largest.tokens_per_param)


def _backtests(plan: SweepPlan, history: History, fitted: FitReport) -> Iterator[Backtest]:
    """Each prediction that was written down, with what was measured afterwards."""
    for event in history.of(Predicted):
        search = plan.search_of(event.scale, event.tokens)
        tried = [
            trial.loss
            for trial in history.trials.values()
            if trial.of(search) and trial.reason is Reason.PREDICTED and trial.loss is not None
        ]
        best = _optimum_row(fitted, search)
        measured = {
            name: float(best[name]) for name in ("learning_rate", "batch_tokens", "beta2") if best.get(name) is not None
        }
        regret = None
        if tried:
            measured["loss"] = sum(tried) / len(tried)
        if best.get("loss"):
            measured["best_loss"] = float(best["loss"])
            regret = measured["loss"] / measured["best_loss"] - 1 if tried else None
        yield Backtest(
            cell=search.name,
            written_at=event.time,
            prediction=from_json(event.prediction),
            runs_used=event.runs_used,
            measured=measured,
            regret=regret,
        )


def _optimum_row(fitted: FitReport, search: Search) -> Mapping[str, Any]:
    law = fitted.laws.get(hyperparameters.NAME)
    for row in law.tables.get("optima", ()) if law else ():
        near = abs(row["params"] / search.cell.scale.params - 1) + abs(row["tokens"] / search.cell.tokens - 1)
        if near < 1e-6:
            return row
    return {}


def _regrets(plan: SweepPlan, trials: Sequence[Trial], fitted: FitReport) -> Iterator[tuple[str, float]]:
    for trial in trials:
        best = _optimum_row(fitted, plan.search_of(trial.scale, trial.tokens)).get("loss")
        if trial.loss is not None and best:
            yield trial.key, trial.loss / best - 1


def _metrics(backtests: Sequence[Backtest]) -> dict[str, float]:
    """What is worth a chart between sweeps. The laws are in laws.json, which the tracker keeps as a file."""
    names = {test.cell: test.cell.replace("+", "") for test in backtests}  # 1e+03tpp: MLflow takes no plus
    return {f"backtest.{names[test.cell]}.regret": test.regret for test in backtests if test.regret is not None}


def _write_page(folder: RunFolder, data: ReportData) -> None:
    from orchestrator.report.page import render

    write_atomically(folder.report_file, render(data).encode())
