"""A sweep on fakes, which may be run again as a new driver on the same folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tiny
from fakes import FakePool, FakeProposer, FakeTracker

from orchestrator.forecasts import Forecast
from orchestrator.goal import Goal
from orchestrator.ledger import Ledger, read
from orchestrator.ports import Resources
from orchestrator.steering import Steering
from orchestrator.sweep import Ending, Ports, Requests, Sweep
from orchestrator.trial import Trial
from search_spaces.plan import Search, SweepPlan


def centre(search: Search, trials: tuple[Trial, ...]) -> Forecast:
    """Laws that always say the middle of the space."""
    return Forecast(settings=search.space.centre, runs_used=len(trials), prediction={"loss": {"value": 3.0}})


@dataclass
class Rig:
    """A sweep on fakes; `run` may be called again, as a new driver on the same folder."""

    folder: Path
    plan: SweepPlan = field(default_factory=lambda: tiny.sweep().plan())
    pool: FakePool = field(default_factory=FakePool)
    proposer: FakeProposer = field(default_factory=FakeProposer)
    tracker: FakeTracker = field(default_factory=FakeTracker)
    forecast: Callable[[Search, tuple[Trial, ...]], Forecast] = centre
    requests: Requests = field(default_factory=Requests)
    resources: Callable[[str], Resources] = lambda _: Resources()
    goal: Goal = field(default_factory=Goal)

    def run(self) -> Ending:
        with Ledger.open(self.folder) as ledger:
            return Sweep(
                plan=self.plan,
                folder=self.folder,
                ledger=ledger,
                ports=Ports(proposer=self.proposer, pool=self.pool, tracker=self.tracker, forecast=self.forecast),
                trainer_version="fake",
                resources=self.resources,
                steering=Steering(plan=self.plan, goal=self.goal),
                requests=self.requests,
            ).run()

    @property
    def trials(self) -> list[Trial]:
        return list(read(self.folder).trials.values())

    def of(self, kind):
        return read(self.folder).of(kind)


def one_search(folder: Path, trials: int = 3, **changes) -> Rig:
    """A sweep of one scale."""
    sweep = tiny.sweep(scales=1, trials=trials, replicates=changes.pop("replicates", 1))
    return Rig(folder, plan=sweep.plan(), **changes)
