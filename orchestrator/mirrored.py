"""A tracker whose ended trials are copied to a mirror, too."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.ports import Mirror, Tracker
from orchestrator.trial import Trial
from search_spaces.plan import Search
from trainers.api import CurvePoint


class MirroredTracker:
    """See orchestrator.ports.Tracker; where to look is the tracker's."""

    def __init__(self, tracker: Tracker, mirror: Mirror) -> None:
        self._tracker = tracker
        self._mirror = mirror

    @property
    def url(self) -> str:
        """Where to look."""
        return self._tracker.url

    @property
    def pending(self) -> int:
        """Calls that have not arrived at the one or the other."""
        return self._tracker.pending + self._mirror.pending

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Show the trial, and copy it once it has ended."""
        self._tracker.trial_changed(trial, search)
        self._mirror.trial_changed(trial, search)

    def points(self, key: str, points: Sequence[CurvePoint]) -> None:
        """Add points to the trial's run."""
        self._tracker.points(key, points)

    def regrets(self, regrets: Mapping[str, float]) -> None:
        """Relative loss above the cell's fitted best, by trial key."""
        self._tracker.regrets(regrets)

    def facts(self, tags: Mapping[str, str]) -> None:
        """Tags of the sweep's own run."""
        self._tracker.facts(tags)

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """The sweep's own run."""
        self._tracker.summarise(note, metrics, artifacts)

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left to both, for so long at most together."""
        deadline = time.monotonic() + timeout_s
        delivered = self._tracker.close(timeout_s)
        return self._mirror.close(max(1.0, deadline - time.monotonic())) and delivered
