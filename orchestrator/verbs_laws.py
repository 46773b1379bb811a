"""The verbs `fit` and `predict`. What they need is imported when they run, so that --help answers at once."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

Verbs = "argparse._SubParsersAction[argparse.ArgumentParser]"

# Compute for which the page gives advice, as multiples of the largest run's.
_ADVICE_FACTORS = (4, 16)
# Sequences of most published rules, in tokens; only Marin's depends on it.
_USUAL_SEQUENCE = 2048


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
    add("--out", type=Path, metavar="DIR", help="write laws.json and report.html there")
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
    from orchestrator.law_sources import groups, load
    from orchestrator.lawfile import LawSet, to_json
    from orchestrator.laws.registry import fit_laws

    options = _options(arguments)
    runs = load(arguments.source, options, _readers())
    names = None if arguments.law in ([], ["auto"]) else arguments.law
    parts = groups(runs, options)
    sets = {}
    for group, part in parts.items():
        report = fit_laws(part.records, names=names)
        sets[group] = LawSet(context=part.context, laws=report.laws, not_fitted=report.not_fitted)
    if arguments.out:
        _write(arguments.out, arguments.source, parts, sets)
    if arguments.json:
        _say(json.dumps(to_json(sets, with_draws=False), indent=2, allow_nan=False))
    else:
        _say(_fit_text(arguments.source, runs, sets))
    return 0
