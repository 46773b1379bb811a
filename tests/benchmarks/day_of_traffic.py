"""A day of a sweep's traffic in minutes: does the driver's memory grow, or the number of its open files?

    .venv/bin/python tests/benchmarks/day_of_traffic.py            # about five minutes
    .venv/bin/python tests/benchmarks/day_of_traffic.py --trials 50 --points 200 --samples 8

The trials stay the same, so that nothing needs to be remembered; points of their curves come again and
again, go to the curve files, through the tracker into a real local store and to a storage, and the status is
computed as often as a driver and a `status --watch` would. The clock is simulated. Exit code 1 where anything grows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import tiny

from orchestrator.curves import write_points
from orchestrator.ledger import History, Proposed, Started
from orchestrator.status import as_json, sweep_status
from orchestrator.steering import Steering
from orchestrator.storage.recorder import Pace, Recorder
from orchestrator.storage.store import open_store
from orchestrator.tracking.uploader import MlflowTracker
from orchestrator.trial import Reason, trial_key
from search_spaces.plan import SweepPlan
from trainers.api import CurvePoint

# After warm-up, caches of SQLAlchemy and malloc's arenas still move by this much. MiB; seen: below 1.
TOLERANCE_MIB = 4.0
_WARM_UP = 0.4  # of the samples
_PATIENCE_S = 300.0
_BATCH = 2  # points that arrive together
_PACE = Pace(copy_every_s=0.1, look_every_s=0.2)  # of the copy in storage
_BATCH_S = 120.0  # from one to the next, simulated seconds


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The process at one moment."""

    points: int
    rss_mib: float
    handles: int


def sample(points: int) -> Sample:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(points=points, rss_mib=pages * 4096 / 2**20, handles=len(list(Path("/proc/self/fd").iterdir())))


def begun(plan: SweepPlan, count: int) -> History:
    """So many trials of the plan's searches, all running."""
    history = History()
    for number in range(count):
        search = plan.searches[number % len(plan.searches)]
        settings = search.space.centre
        key = trial_key(search=search, settings=settings, seed=number, trainer_version="traffic")
        scale, tokens = search.cell.scale.name, search.cell.tokens
        history.apply(
            Proposed(
                time=float(number),
                key=key,
                number=number,
                scale=scale,
                tokens=tokens,
                settings=settings,
                seed=number,
                reason=Reason.SAMPLER,
            )
        )
        history.apply(Started(time=float(number), key=key, attempt=1))
    return history


def traffic(folder: Path, *, trials: int, points: int, samples: int) -> Iterator[Sample]:
    """So many points for each of so many trials; a sample now and then, when all of them have arrived."""
    sweep = tiny.sweep()
    plan = sweep.plan()
    history = begun(plan, trials)
    steering = Steering(plan=plan, goal=sweep.goal())
    tracker = MlflowTracker(uri=None, folder=folder, plan=plan, sweep_id="traffic")
    rounds = points // _BATCH
    with Recorder(open_store(str(folder / "storage")), folder, _PACE):
        for number in range(rounds):
            now = 1e9 + _BATCH_S * number
            for trial in history.trials.values():
                batch = _batch(number, now)
                write_points(folder, trial.key, trial.attempt, batch)
                if number % 10 == 0:
                    moved = replace(trial, attempt=trial.attempt + number)
                    tracker.trial_changed(moved, plan.search_of(trial.scale, trial.tokens))
                tracker.points(trial.key, batch)
            as_json(sweep_status(plan, history, now=now, steering=steering))
            if (number + 1) % max(1, rounds // samples) == 0:
                _settle(lambda: tracker.pending == 0)
                yield sample((number + 1) * _BATCH * trials)
    if not tracker.close(_PATIENCE_S):
        raise TimeoutError(f"{tracker.pending} calls were not delivered")


def _batch(number: int, now: float) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(tokens=1000 * (number * _BATCH + k), loss=3.0, time=now + k, train_loss=3.0, learning_rate=1e-3)
        for k in range(1, _BATCH + 1)
    )


def _settle(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the store did not keep up")
        time.sleep(0.05)


def growth(found: Sequence[Sample]) -> tuple[float, int]:
    """MiB and handles by which the last third of the samples lies above the first after warm-up."""
    warm = found[int(len(found) * _WARM_UP) :]
    last = warm[-max(1, len(warm) // 3) :]
    return min(s.rss_mib for s in last) - warm[0].rss_mib, min(s.handles for s in last) - warm[0].handles


def main() -> int:
    """Print the samples and what grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--points", type=int, default=1440, help="of each trial: one a minute")
    parser.add_argument("--samples", type=int, default=20)
    given = parser.parse_args()
    found: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        for each in traffic(Path(folder), trials=given.trials, points=given.points, samples=given.samples):
            found.append(each)
            sys.stdout.write(f"{each.points:>9,} points   {each.rss_mib:8.1f} MiB   {each.handles:4d} open files\n")
            sys.stdout.flush()
    mib, handles = growth(found)
    sys.stdout.write(f"after warm-up: {mib:+.1f} MiB, {handles:+d} open files\n")
    return 1 if mib > TOLERANCE_MIB or handles > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
