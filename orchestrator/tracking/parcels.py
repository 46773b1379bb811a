"""What one MLflow run has not got yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.tracking.runs import MetricPoint

# The key of the parent run; trial keys are never empty.
PARENT = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The sweep's own run."""

    note: str
    metrics: Mapping[str, float]
    artifacts: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class RunParcel:
    """What one run has not got yet, and how many calls brought it."""

    changed: bool = False  # whether the trial is to be written as it now stands
    metrics: tuple[MetricPoint, ...] = ()
    summary: Summary | None = None
    tags: Mapping[str, str] = field(default_factory=dict)  # of the parent run
    calls: int = 1

    def followed_by(self, later: RunParcel) -> RunParcel:
        """Both in one: metrics and tags add up, of the rest the later counts."""
        return RunParcel(
            changed=self.changed or later.changed,
            metrics=self.metrics + later.metrics,
            summary=later.summary or self.summary,
            tags={**self.tags, **later.tags},
            calls=self.calls + later.calls,
        )
