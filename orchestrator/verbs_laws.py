"""The verbs `fit` and `predict`. What they need is imported when they run, so that --help answers at once."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import InputError, ScalesweepError

if TYPE_CHECKING:
    from orchestrator.law_sources import Readers, Runs
    from orchestrator.lawfile import LawSet, LawSets
    from orchestrator.laws.records import RunRecord
    from orchestrator.report.data import Advice, ReportData
    from orchestrator.tables.reader import TableOptions

# Compute for which the page gives advice, as multiples of the largest run's.
_ADVICE_FACTORS = (4, 16)


def add_fit(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The arguments of `scalesweep fit`."""
    text = "laws from a run folder, an MLflow experiment or any table of runs"
    parser = verbs.add_parser("fit", help=text, description=text)
    parser.add_argument("source", metavar="SOURCE", help="a run folder, mlflow:EXPERIMENT, or a CSV or Parquet table")
    add = parser.add_argument
    add("--column", action="extend", nargs="+", default=[], metavar="CANONICAL=THEIRS", help="what a column is called")
    add("--batch-unit", choices=("sequences", "tokens"), help="what the table counts a batch in")
    add("--seq-len", type=int, metavar="TOKENS", help="tokens of a sequence")
    add("--params-count", choices=("standard", "non_embedding", "total"), help="what N means in the table")
    add("--where", metavar="EXPR", help="rows to keep, such as \"tokens / params > 5 and config == 'tuned'\"")
    add("--group", metavar="COLUMN", help="fit each value of this column apart")
    add("--law", action="append", default=[], metavar="NAME", help="only this law (repeatable; default: all)")
    add("--out", type=Path, metavar="DIR", help="write laws.json, runs.parquet and report.html there")
    add("--json", action="store_true", help="print what laws.json has, without the draws")
    parser.set_defaults(verb=fit)


def add_predict(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The arguments of `scalesweep predict`."""
    text = "settings, loss and shape at a size that was not trained"
    parser = verbs.add_parser("predict", help=text, description=text)
    parser.add_argument("laws", type=Path, metavar="LAWS.json", help="what `fit --out` or a sweep wrote")
    add = parser.add_argument
    add("--params", metavar="N", help="model size, such as 7B; any one or two of the three")
    add("--tokens", metavar="D", help="training tokens, such as 1.4T")
    add("--flops", metavar="C", help="training compute in FLOP, such as 1e21")
    add("--group", metavar="VALUE", help="which group's laws, if they were fitted with --group")
    add("--seq-len", type=int, metavar="TOKENS", help="tokens of a sequence in the target run")
    add("--target", action="append", default=[], metavar="KEY=VALUE", help="the target's context: schedule=cosine")
    add("--json", action="store_true", help="for programs")
    add("--format", choices=("text", "transformers"), default="text", help="transformers: settings ready to paste")
    parser.set_defaults(verb=predict)


def fit(arguments: argparse.Namespace) -> int:
    """Fit laws, print them, and write them where --out says."""
    from orchestrator.law_sources import groups, load, with_noise
    from orchestrator.lawfile import LawSet, to_json
    from orchestrator.laws.registry import fit_laws

    options = _options(arguments)
    runs = load(arguments.source, options, _readers())
    names = None if arguments.law in ([], ["auto"]) else arguments.law
    parts = groups(runs, options)
    reports = {group: fit_laws(part.records, curves=part.curves, names=names) for group, part in parts.items()}
    sets = {
        group: LawSet(
            context=with_noise(parts[group].context, report.laws), laws=report.laws, not_fitted=report.not_fitted
        )
        for group, report in reports.items()
    }
    _check_fitted(arguments.source, runs.records, sets)
    for note in runs.notes:
        sys.stderr.write(f"note: {note}\n")
    if arguments.out:
        _write(arguments.out, arguments.source, parts, sets)
    if arguments.json:
        _say(json.dumps(to_json(sets, with_draws=False), indent=2, allow_nan=False))
    else:
        _say(_fit_text(arguments.source, runs, sets))
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Print what the laws say of one size."""
    from orchestrator.lawfile import plain
    from orchestrator.laws.predict import predict as predict_with
    from orchestrator.numbers import parse_number
    from orchestrator.postprocess import as_json
    from orchestrator.prediction_text import prediction_text
    from orchestrator.transformers_text import training_code

    sizes = {name: getattr(arguments, name) for name in ("params", "tokens", "flops")}
    known = {name: parse_number(text, name=f"--{name}") for name, text in sizes.items() if text is not None}
    if not known:
        raise InputError("give one or two of --params, --tokens and --flops, such as --params 7B")
    fitted = _law_set(arguments.laws, arguments.group)
    prediction = predict_with(fitted.laws, fitted.context, **known, target=_target(arguments))
    if arguments.json:
        _say(json.dumps(plain(as_json(prediction)), indent=2, allow_nan=False))
    elif arguments.format == "transformers":
        _say(training_code(prediction, fitted.context, arguments.seq_len))
    else:
        _say(prediction_text(prediction))
    return 0


def _check_fitted(source: str, records: Sequence[RunRecord], sets: LawSets) -> None:
    """Raise InputError where nothing at all could be fitted, with each reason once."""
    if any(fitted.laws for fitted in sets.values()):
        return
    names: dict[str, list[str]] = {}
    for name, why in (item for fitted in sets.values() for item in fitted.not_fitted.items()):
        names.setdefault(why, []).append(name)
    reasons = "; ".join(f"{why} ({', '.join(dict.fromkeys(laws))})" for why, laws in names.items())
    raise InputError(f"{source}: no law can be fitted{_unusable(records)}: {reasons}")


def _unusable(records: Sequence[RunRecord]) -> str:
    """Why the first points that no law can use are none, in brackets."""
    from orchestrator.laws.selection import select

    try:
        excluded = select(records, ("params", "tokens", "loss"), law="any law").excluded
    except InputError:  # a column is missing: each law says so
        return ""
    if not excluded:
        return ""
    runs = len({record.run_id for record in records})
    return f" ({len(excluded)} of {runs} runs are left out, {excluded[0].run!r} since {excluded[0].reason})"


def _options(arguments: argparse.Namespace) -> TableOptions:
    from orchestrator.tables.reader import BatchUnit, ParamsCount, TableOptions

    return TableOptions(
        columns=_pairs(arguments.column, "--column", "canonical=theirs, such as learning_rate=lr"),
        batch_unit=arguments.batch_unit and BatchUnit(arguments.batch_unit),
        sequence_length=arguments.seq_len,
        params_count=arguments.params_count and ParamsCount(arguments.params_count),
        where=arguments.where,
        group=arguments.group,
    )


def _pairs(given: Sequence[str], option: str, expected: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, mark, value = text.partition("=")
        if not (key and mark and value):
            raise InputError(f"{option} {text!r}: expected {expected}")
        if key in found:
            raise InputError(f"{option} {text!r}: {key} was given before as {found[key]!r}; give it once")
        found[key] = value
    return found


def _target(arguments: argparse.Namespace) -> dict[str, object]:
    """What the target's context is said to be; numbers as numbers."""
    pairs = _pairs(arguments.target, "--target", "key=value, such as schedule=cosine")
    target: dict[str, object] = {key: _typed(value) for key, value in pairs.items()}
    return target if arguments.seq_len is None else {**target, "sequence_length": arguments.seq_len}


def _typed(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _readers() -> Readers:
    from orchestrator.law_sources import Readers

    return Readers(run_folder=_read_run_folder, experiment=_read_experiment)


def _read_run_folder(path: Path) -> Runs:
    from orchestrator import ledger
    from orchestrator.collect import collect, collect_curves
    from orchestrator.law_sources import Runs
    from orchestrator.runfolder import RunFolder

    folder, trials = RunFolder(path), list(ledger.read(path).trials.values())
    records, context = collect(folder, trials)
    return Runs(records=tuple(records), context=context, curves=tuple(collect_curves(folder, trials)))


def _read_experiment(experiment: str, columns: Mapping[str, str]) -> Sequence[RunRecord]:
    """From the store that MLflow's own variable names, or else from its default, mlflow.db in this folder."""
    from orchestrator.tracking.reader import read_experiment

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not Path("mlflow.db").is_file():
        raise InputError(
            f"mlflow:{experiment}: there is no mlflow.db in this folder; "
            "set MLFLOW_TRACKING_URI, such as sqlite:///runs/laptop/mlflow.db or http://HOST:5000"
        )
    return read_experiment(uri or "sqlite:///mlflow.db", experiment, columns)


def _law_set(path: Path, group: str | None) -> LawSet:
    from orchestrator import lawfile
    from search_spaces.nearest import nearest

    sets = lawfile.read(path)
    if group in sets:
        return sets[group]
    if group is None:
        raise InputError(f"{path} has laws of groups; choose one with --group: {', '.join(map(str, sets))}")
    if None in sets:
        raise InputError(f"{path} was fitted without groups; leave out --group {group}")
    names = [str(name) for name in sets]
    raise InputError(f"{path} has no group {group!r}{nearest(group, names)}; it has {', '.join(names)}")


def _write(folder: Path, source: str, parts: Mapping[str | None, Runs], sets: LawSets) -> None:
    """laws.json, the runs, and a page for each group."""
    from orchestrator import lawfile
    from orchestrator.files import write_atomically
    from orchestrator.report.page import render
    from orchestrator.tables.kept import CURVES_FILE, RUNS_FILE, write_records

    pages = {_page_name(group): group for group in sets}
    if len(pages) < len(sets):
        raise InputError(
            "two groups would have one page's name; rename them so that letters and digits tell them apart"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lawfile.write(folder / "laws.json", sets)
        write_records(folder / RUNS_FILE, [record for part in parts.values() for record in part.records])
        curves = [record for part in parts.values() for record in part.curves or ()]
        if curves:
            write_records(folder / CURVES_FILE, curves)
        else:
            (folder / CURVES_FILE).unlink(missing_ok=True)
        for name, group in pages.items():
            write_atomically(folder / name, render(_report(source, group, parts[group], sets[group])).encode())
    except OSError as error:
        raise InputError(f"--out {folder}: cannot write there: {error.strerror}; give another folder") from error


def draw(path: Path) -> list[Path]:
    """Draw the pages of a laws.json again, from it and the tables beside it; returns their paths.

    Raises InputError where it or the runs.parquet is not there.
    """
    from orchestrator import lawfile
    from orchestrator.files import write_atomically
    from orchestrator.law_sources import Runs
    from orchestrator.report.page import render
    from orchestrator.tables.kept import CURVES_FILE, RUNS_FILE, read_records

    sets = lawfile.read(path)
    records = read_records(path.with_name(RUNS_FILE))
    curves_file = path.with_name(CURVES_FILE)
    curves = read_records(curves_file) if curves_file.exists() else None
    pages = []
    for group, fitted in sets.items():
        page = path.with_name(_page_name(group))
        whole = None if curves is None else _of_group(curves, group)
        runs = Runs(records=_of_group(records, group), curves=whole, context=fitted.context)
        data = _report(str(path), group, runs, fitted)
        write_atomically(page, render(data).encode())
        pages.append(page)
    return pages


def _of_group(records: Sequence[RunRecord], group: str | None) -> tuple[RunRecord, ...]:
    return tuple(record for record in records if group is None or record.group == group)


def _page_name(group: str | None) -> str:
    return "report.html" if group is None else f"report-{re.sub(r'[^A-Za-z0-9.]+', '-', group)}.html"


def _report(source: str, group: str | None, runs: Runs, fitted: LawSet) -> ReportData:
    from orchestrator.report.data import ReportData

    return ReportData(
        title=Path(source).name + (f", {group}" if group else ""),
        context=fitted.context,
        records=runs.records,
        points=runs.curves,
        laws=fitted.laws,
        not_fitted=fitted.not_fitted,
        advice=tuple(_advice(runs, fitted)),
    )


def _advice(runs: Runs, fitted: LawSet) -> Iterator[Advice]:
    """What to do with a few times the compute of the largest run."""
    from orchestrator.laws.predict import predict as predict_with
    from orchestrator.report.data import Advice

    largest = max((record.flops for record in runs.records if record.flops), default=None)
    if largest is None:
        return
    for factor in _ADVICE_FACTORS:
        try:
            prediction = predict_with(fitted.laws, fitted.context, flops=factor * largest)
        except ScalesweepError:  # no law says how to spend compute
            return
        yield Advice(title=f"{factor} times the largest run's compute", prediction=prediction)


def _fit_text(source: str, runs: Runs, sets: LawSets) -> str:
    from orchestrator.formulas import laws_text

    ids = {record.run_id for record in runs.records}
    lines = [f"{source}: {len(ids)} runs, {len(runs.records)} points, N is {runs.context.params_count} params"]
    for group, fitted in sets.items():
        lines += ["", *([f"== {group} =="] if group is not None else [])]
        lines.append(laws_text(fitted.laws, fitted.not_fitted))
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
