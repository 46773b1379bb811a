"""Which laws a design can identify, and what to add for the others.

The answer is about the design alone: a law that is identified here may still come out weak, because of
noise, or because an optimum lies on an edge. Held-out searches count: they are measured in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from search_spaces.axis import Fixed, PowersOfTwo
from search_spaces.plan import Cell, Search, SweepPlan

# Two points draw every power law; a third can contradict it.
_LEAST_SCALES = 3
# With fewer, an interval over scales has no degree of freedom to speak of.
_SCALES_FOR_INTERVALS = 4
# tokens_per_param of a scale must span this, or the tokens exponent is not told from the params exponent.
_RATIO_SPAN = 4.0
_ROUNDED = 0.95  # horizons are whole batches, so a span of 4 may come out a little shorter
# Compute over which an optimal size is followed: it doubles while compute grows 4 times (N* ~ C^0.5).
_BUDGET_SPAN = 4.0
# Compute over which E is told from A·C^-alpha. A guess; even 2000 times moves E by 0.4 (Porian et al. 2024).
_FRONTIER_SPAN = 10.0
# L(N) is for converged models. Kaplan et al. 2020 gave their largest one 87 tokens per parameter
# (250,000 steps of 2^19 tokens, 1.5e9 parameters).
_CONVERGED_RATIO = 80.0
# A hyperbola between steps and tokens needs batch sizes on both sides of its bend; each its own best
# learning rate. Guesses.
_LEAST_BATCHES = 4
_TRIALS_PER_BATCH = 3
# Constants of L(C, M): E, a, b, eta; one cell more than that can contradict it.
_LEAST_CELLS = 5


@dataclass(frozen=True, kw_only=True)
class Identifiable:
    """Whether a design can identify a law: what it rests on, or what is lacking and what to add."""

    law: str
    yes: bool
    reason: str


@dataclass(frozen=True)
class _Design:
    plan: SweepPlan

    @property
    def scales(self) -> int:
        return len(self.plan.scales)

    @property
    def continuous(self) -> bool:
        return self.plan.schedule.serves_shorter

    def cells(self, scale: str) -> list[Cell]:
        return [cell for cell in self.plan.cells if cell.scale.name == scale]

    def few_scales(self, least: int = _LEAST_SCALES) -> str:
        return f"{_count(self.scales, 'scale')}; add scales until there are {least}" if self.scales < least else ""

    def few_cells(self, least: int = _LEAST_CELLS) -> str:
        cells = len(self.plan.cells)
        if cells >= least:
            return ""
        return f"{_count(cells, 'cell')}; add scales or tokens_per_param until there are {least}"

    def few_ratios(self, least: int = _LEAST_SCALES) -> str:
        """What is lacking for a tokens exponent on so many scales."""
        spread = 0
        for scale in self.plan.scales:
            ratios = [cell.tokens_per_param for cell in self.cells(scale.name)]
            spread += max(ratios) >= _RATIO_SPAN * min(ratios) * _ROUNDED
        if spread >= least:
            return ""
        return (
            f"tokens_per_param spans {_RATIO_SPAN:g} times on {_count(spread, 'scale')}; "
            f"give at least {_count(least, 'scale')} two or more, such as 5 and 20"
        )

    def few_converged(self) -> str:
        converged = sum(
            any(cell.tokens_per_param >= _CONVERGED_RATIO for cell in self.cells(scale.name))
            for scale in self.plan.scales
        )
        if converged >= _LEAST_SCALES:
            return ""
        return (
            f"{_count(converged, 'scale')} trained near convergence; "
            f"give at least {_LEAST_SCALES} a tokens_per_param of {_CONVERGED_RATIO:g} or more"
        )

    def no_curve(self) -> str:
        if self.continuous:
            return ""
        return (
            f"under the {self.plan.schedule} schedule only the ends of runs are measurements; "
            "use the constant schedule, whose curves are"
        )

    def narrow_overlap(self, sizes: int, span: float) -> str:
        """What is lacking for so many sizes to be comparable at equal compute over a span of it."""
        reached = self._overlap(sizes)
        if reached >= span * (1 - 1e-9):
            return ""
        found = f"share compute over {reached:.2g} times" if reached > 1 else "share no compute"
        return (
            f"{sizes} sizes {found}, where {span:g} times are needed; "
            "give the smaller scales larger and the larger scales smaller tokens_per_param, or put scales closer"
        )

    def few_batches(self) -> str:
        """What is lacking for the trade-off between steps and tokens on one scale."""
        best = max(self.plan.searches, key=_batch_sizes)
        batches = _batch_sizes(best)
        trials = max(search.trials for search in self.plan.searches if _batch_sizes(search) == batches)
        if batches < _LEAST_BATCHES:
            return f"{_count(batches, 'batch size')} at one scale; search at least {_LEAST_BATCHES} powers of two"
        if trials < _TRIALS_PER_BATCH * batches:
            return (
                f"{trials} trials for {batches} batch sizes at one scale; "
                f"give one scale {_TRIALS_PER_BATCH * batches} or more"
            )
        return ""

    def few_trials(self) -> str:
        """What is lacking for a minimum in each searched setting."""
        for search in self.plan.searches:
            needed = 2 * _searched(search) + 1  # a height, and a place and a curvature for each setting
            if search.trials < needed:
                return f"{search.name} has {_count(search.trials, 'trial')}; give every search {needed} or more"
        return ""

    def nothing_searched(self) -> str:
        if any(_searched(search) for search in self.plan.searches):
            return ""
        return "every setting is fixed; search the learning rate, the batch size or beta2"

    def few_trials_together(self) -> str:
        """What is lacking for one fit of all runs: a level per search, one curvature, a law per setting."""
        settings = max(map(_searched, self.plan.searches))
        needed = len(self.plan.searches) + settings * (settings + 1) // 2 + 3 * settings
        trials = sum(search.trials for search in self.plan.searches)
        return f"{trials} trials for {needed} constants; give the searches more trials" if trials < needed else ""

    def _overlap(self, sizes: int) -> float:
        """Factor of compute over which at least so many scales have measured points; 1 where none."""
        ranges = [self._compute(scale.name) for scale in self.plan.scales]
        edges = sorted({edge for pair in ranges for edge in pair})
        return math.prod(
            high / low
            for low, high in pairwise(edges)
            if sum(first <= low and high <= last for first, last in ranges) >= sizes
        )

    def _compute(self, scale: str) -> tuple[int, int]:
        """The least and the most compute at which a scale's loss is measured, in FLOP.

        From the shortest cell to the longest: points before only draw the curve, on fewer held-out tokens.
        """
        cells = self.cells(scale)
        shortest, longest = min(c.tokens for c in cells), max(c.tokens for c in cells)
        per_token = cells[0].scale.flops_per_token()
        return shortest * per_token, longest * per_token


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _searched(search: Search) -> int:
    return sum(not isinstance(axis, Fixed) for axis in search.space.axes().values())


def _batch_sizes(search: Search) -> int:
    axis = search.space.batch_size
    return len(axis.values()) if isinstance(axis, PowersOfTwo) else 1


def _hyperparameters(design: _Design) -> tuple[str, ...]:
    return (design.nothing_searched(), design.few_scales(), design.few_trials())


def _surface(design: _Design) -> tuple[str, ...]:
    return (design.few_scales(), design.few_ratios())


def _critical_batch(design: _Design) -> tuple[str, ...]:
    return (design.no_curve(), design.few_batches())


def _kaplan_ns(design: _Design) -> tuple[str, ...]:
    return (design.few_scales(), *_critical_batch(design))


@dataclass(frozen=True)
class _Rule:
    """A law, what a design lacks for it (empty where nothing), and what the law then rests on."""

    law: str
    lacks: Callable[[_Design], tuple[str, ...]]
    basis: str


_RULES = (
    _Rule("hyperparameters", _hyperparameters, "an optimum per cell, a power law over {scales}"),
    _Rule(
        "hyperparameters.tokens_exponent",
        lambda d: (*_hyperparameters(d), d.few_ratios()),
        "several tokens_per_param on enough scales tell tokens from params",
    ),
    _Rule("joint", lambda d: (*_hyperparameters(d), d.few_trials_together()), "one fit of {trials}"),
    _Rule("chinchilla", _surface, "{cells} of {scales}"),
    _Rule(
        "envelope",
        lambda d: (d.no_curve(), d.few_scales(), d.narrow_overlap(2, _BUDGET_SPAN)),
        "curves of {scales} that cross in compute",
    ),
    _Rule("isoflop", lambda d: (d.narrow_overlap(3, _BUDGET_SPAN),), "budgets that three sizes or more reach"),
    _Rule("isoflop-akima", lambda d: (d.narrow_overlap(3, _BUDGET_SPAN),), "budgets that three sizes or more reach"),
    _Rule(
        "frontier",
        lambda d: (d.few_scales(), d.narrow_overlap(2, _FRONTIER_SPAN)),
        "the best loss at each compute, from {scales}",
    ),
    _Rule("kaplan-n", lambda d: (d.few_scales(), d.few_converged()), "{scales}, three or more near convergence"),
    _Rule(
        "kaplan-c",
        lambda d: (d.few_scales(), d.narrow_overlap(2, _BUDGET_SPAN)),
        "the best loss at each compute, from {scales}",
    ),
    _Rule("kaplan-nd", _surface, "{cells} of {scales}; tokens stand for the size of the data set"),
    _Rule("kaplan-ns", _kaplan_ns, "curves of {scales}, steps corrected by the critical batch size"),
    _Rule("critical-batch", _critical_batch, "several batch sizes of one scale, compared at equal loss"),
    _Rule("trajectory", _kaplan_ns, "curves of {scales} at several batch sizes"),
    _Rule("overtraining", lambda d: (d.few_scales(), d.few_ratios(least=1), d.few_cells()), "{cells} of {scales}"),
    _Rule(
        "compute-only",
        lambda d: (d.few_scales(2), d.few_ratios(least=1), d.few_cells()),
        "{cells} that split compute between params and tokens differently",
    ),
    _Rule(
        "adaptive",
        lambda d: (d.no_curve(), d.few_scales(2), d.narrow_overlap(2, _BUDGET_SPAN)),
        "curves of {scales} that cross in compute",
    ),
)

# Laws that need what no sweep measures, and where to fit them from.
_FROM_TABLES = {
    "kaplan-d": (
        "a sweep reads fresh text; fit this law from a table of one large model trained to its best on several "
        "subsets of the corpus (column unique_tokens)"
    ),
    "downstream": ("a sweep measures loss alone; fit this law from a table with the downstream error (column error)"),
    "data-constrained": (
        "a plan does not say how often text is repeated; fit this law from a table of runs with several numbers "
        "of epochs (column unique_tokens)"
    ),
}


def identifiable(plan: SweepPlan) -> tuple[Identifiable, ...]:
    """For every law, whether the plan's design can identify it, and why or what to add."""
    design = _Design(plan)
    answers = tuple(_answer(rule, design) for rule in _RULES)
    return answers + tuple(Identifiable(law=law, yes=False, reason=why) for law, why in _FROM_TABLES.items())


def _answer(rule: _Rule, design: _Design) -> Identifiable:
    lacking = [text for text in rule.lacks(design) if text]
    if lacking:
        return Identifiable(law=rule.law, yes=False, reason="; ".join(dict.fromkeys(lacking)))
    basis = rule.basis.format(
        scales=_count(design.scales, "scale"),
        cells=_count(len(design.plan.cells), "cell"),
        trials=_count(sum(search.trials for search in design.plan.searches), "trial"),
    )
    few = design.scales < _SCALES_FOR_INTERVALS and rule.law != "critical-batch"
    return Identifiable(law=rule.law, yes=True, reason=basis + ("; intervals need a fourth scale" if few else ""))
