"""What a page is drawn from: everything already measured and fitted, nothing computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.laws.predict import Context, Prediction
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw
from orchestrator.trial import Trial
from search_spaces.plan import SweepPlan
from trainers.api import CurvePoint


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to use at a size that was not swept."""

    title: str  # for people: "4 times the largest scale"
    prediction: Prediction


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """A prediction for a scale, written down before its first trial, and what came of it.

    `measured` has the quantities of the prediction as they were found afterwards; it is empty until
    then. `regret` is the relative loss of the runs at the predicted settings above the cell's best.
    """

    cell: str
    written_at: float  # seconds since 1970
    prediction: Prediction
    runs_used: int
    measured: Mapping[str, float] = field(default_factory=dict)
    regret: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything a page shows. A foreign table has neither plan, trials nor curves.

    `points` are the records of whole curves, to which laws of curves were fitted, where `records` have
    the ends of cells alone; None where they are the same.
    """

    title: str
    context: Context
    records: Sequence[RunRecord]
    laws: Mapping[str, FittedLaw]
    points: Sequence[RunRecord] | None = None
    not_fitted: Mapping[str, str] = field(default_factory=dict)  # law -> why
    advice: Sequence[Advice] = ()
    backtests: Sequence[Backtest] = ()
    plan: SweepPlan | None = None
    trials: Sequence[Trial] = ()
    curves: Mapping[str, Sequence[CurvePoint]] = field(default_factory=dict)  # trial_key -> points
    ends: Mapping[str, str] = field(default_factory=dict)  # search -> why it got no further proposals
    ended: str = ""  # what stopped the sweep

    @property
    def whole_curves(self) -> Sequence[RunRecord]:
        """What laws of curves were fitted to."""
        return self.records if self.points is None else self.points

    @property
    def curve_note(self) -> str:
        """What a caption has to say of points of whole curves; a sentence after a space, or nothing."""
        if self.points is None:
            return ""
        return " Points before the end of a cell are measured on a part of the held-out set."
