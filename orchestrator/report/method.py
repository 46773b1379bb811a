"""How the numbers of a page were made: the context, the conventions, and the noise."""

from __future__ import annotations

from orchestrator.numbers import count, number
from orchestrator.report.data import ReportData
from orchestrator.report.html import definitions
from orchestrator.report.style import percent

_PARAMS = {
    "standard": "matrix parameters with the output head, without input embeddings",
    "non_embedding": "matrix parameters without embeddings and output head",
    "total": "all parameters",
}
_FLOPS = {
    "standard": "6 params tokens",
    "kaplan": "6 non-embedding params tokens",
    "attention": "6 params tokens, and attention",
}


def method_section(data: ReportData) -> str:
    """Names and what they are, those that are known."""
    context = data.context
    entries = [
        ("params", _PARAMS.get(context.params_count, context.params_count)),
        ("FLOP", _FLOPS.get(context.flops_count, context.flops_count)),
        ("loss", "nats per token, on the held-out set where the sweep has one"),
        ("corpus", context.corpus),
        ("tokenizer", context.tokenizer),
        ("vocabulary", count(context.vocab_size) if context.vocab_size else None),
        ("sequence", f"{context.sequence_length} tokens" if context.sequence_length else None),
        ("schedule", context.schedule),
        ("warmup", context.warmup),
        ("weight decay", None if context.weight_decay is None else number(context.weight_decay)),
        ("seed noise", _noise(data)),
        (
            "optima",
            "minima of a quadratic in log settings whose curvature all cells share; never the luckiest run",
        ),
        ("loss laws", "fitted to the loss at each cell's fitted optimum, where there is one; else to the lowest loss"),
        ("intervals", "from joint draws of all parameters of a law; noise between seeds is in them"),
        ("scalesweep", context.version),
    ]
    return definitions([(name, text) for name, text in entries if text])


def _noise(data: ReportData) -> str | None:
    noise = data.context.noise_sd
    return None if noise is None else f"{percent(noise)} of the loss between runs that differ by their seed alone"
