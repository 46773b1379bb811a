"""Pulls every plug of a cluster of three pretended hosts while sweeps run, and counts what came of it.

Run as `python tests/faults/campaign.py [ROW ...] [--times N] [--folder DIR] [--seed N]`, as root. Each row is a kind of
fault, as often as the table of rows says, in real sweeps of tiny language models under Ray, with Postgres and MLflow.
What a row found is kept in the folder: a row in which all held is not run again. Exit code 1 where anything that must
hold does not, 2 where there can be no such hosts. All rows take somewhat more than an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import rows_clock
import rows_drivers
import rows_files
import rows_head
import rows_nodes
import rows_servers
import rows_walk
from hosts import missing
from ordeal import Finding
from stage import Stage, stage

_FIRST = "undisturbed"  # what the others are held against
Ran = Callable[[Stage, int, random.Random], Iterator[Finding]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A kind of fault, and how often it comes at least."""

    run: Ran
    times: int
    ends_stage: bool = False  # nobody else can use the hosts after it

    @property
    def title(self) -> str:
        """What is done."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


ROWS = {
    _FIRST: Row(run=rows_drivers.undisturbed, times=1),
    "driver": Row(run=rows_drivers.killed, times=20),
    "worker": Row(run=rows_nodes.workers_killed, times=20),
    "node": Row(run=rows_nodes.nodes_lost, times=10),
    "head": Row(run=rows_head.heads_killed, times=5),
    "disk-lost": Row(run=rows_head.disks_lost, times=5),
    "mlflow": Row(run=rows_servers.mlflow_stopped, times=3),
    "mlflow-gone": Row(run=rows_servers.mlflow_gone, times=3),
    "postgres": Row(run=rows_servers.postgres_stopped, times=3),
    "link": Row(run=rows_nodes.links_cut, times=3),
    "disk-full": Row(run=rows_head.disk_full, times=3),
    "damage": Row(run=rows_files.damaged, times=10),
    "twins": Row(run=rows_drivers.twins, times=10),
    "sigterm": Row(run=rows_drivers.terminated, times=5),
    "clock": Row(run=rows_clock.clock_off, times=2),
    "walk": Row(run=rows_walk.walk, times=1, ends_stage=True),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a row."""

    row: str
    times: int
    seed: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def held(self) -> bool:
        """Whether everything held that must."""
        return all(finding.holds is not False for finding in self.findings)


def kept(folder: Path) -> dict[str, Result]:
    """The last result of each row."""
    found: dict[str, Result] = {}
    path = folder / "results.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        body = json.loads(line)
        body["findings"] = tuple(Finding(**finding) for finding in body["findings"])
        found[body["row"]] = Result(**body)
    return found


class Stages:
    """The stage that rows share, with new nodes for each; after a row in which something broke, another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ExitStack()
        self._stage: Stage | None = None

    def take(self) -> Stage:
        """One whose head, servers and two nodes are up."""
        if self._stage is None:
            root = self._folder / f"stage-{int(time.time())}"
            self._stage = self._open.enter_context(stage(root, self._folder, _say))
            return self._stage
        for host in self._stage.nodes:
            self._stage.renew_node(host)
        for host in self._stage.nodes:
            self._stage.await_ray(host)
        return self._stage

    def drop(self) -> None:
        """Take it down."""
        self._stage = None
        self._open.close()


def perform(name: str, times: int, seed: int, stages: Stages) -> Result:
    """One row. Whatever goes wrong in it is a finding."""
    began, findings = time.monotonic(), []
    try:
        for finding in ROWS[name].run(stages.take(), times, random.Random(f"{seed} {name}")):
            findings.append(finding)
            _say(f"  {_line(finding)}")
    except Exception as error:  # noqa: BLE001 - a row that breaks is a finding, and the others go on
        findings.append(Finding(what="broke off", found=f"{type(error).__name__}: {error}", holds=False))
        _say(f"  {_line(findings[-1])}\n{traceback.format_exc()}")
    seconds = time.monotonic() - began
    result = Result(row=name, times=times, seed=seed, seconds=round(seconds, 1), findings=tuple(findings))
    if ROWS[name].ends_stage or not result.held:
        stages.drop()
    return result


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _line(finding: Finding) -> str:
    verdict = {True: "holds", False: "BROKEN", None: ""}[finding.holds]
    return f"{verdict:7}{finding.what:62} {finding.found}"


def table(results: Sequence[Result]) -> str:
    """A line a row, and under it what broke."""
    lines = [f"{'row':13}{'times':>6}{'seconds':>9}  {'holds':>9}"]
    for result in results:
        held = [finding.holds for finding in result.findings if finding.holds is not None]
        lines.append(
            f"{result.row:13}{result.times:>6}{result.seconds:>9.0f}  {f'{sum(held)}/{len(held)}':>9}"
            f"  {ROWS[result.row].title}"
        )
        lines += [f"    {_line(finding)}" for finding in result.findings if finding.holds is False]
    lines.append(f"{'in all':13}{'':6}{sum(result.seconds for result in results):>9.0f}")
    return "\n".join(lines)


def campaign(names: Sequence[str], times: int | None, seed: int, folder: Path) -> int:
    """The rows that have not held yet; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = Stages(folder)
    try:
        for name in names:
            _perform_once(name, times, seed, folder, stages)
    finally:
        stages.drop()
    results = [result for name, result in kept(folder).items() if name in names]
    _say(f"seed {seed}, {folder}\n{table(results)}")
    return 0 if all(result.held for result in results) else 1


def _perform_once(name: str, times: int | None, seed: int, folder: Path, stages: Stages) -> None:
    """A row, unless it has held before; what came of it goes to the folder."""
    row = ROWS[name]
    wanted = min(times, row.times) if times else row.times
    done = kept(folder).get(name)
    if done is not None and done.held and done.times >= wanted:
        _say(f"{name}: held before")
        return
    _say(f"{name}: {row.title} ({wanted} times)")
    result = perform(name, wanted, seed, stages)
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all without one")
    parser.add_argument("--times", type=int, help="at most so many faults a row, for a trial of the campaign itself")
    parser.add_argument("--folder", type=Path, help="where results are kept; with them, it goes on there")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no row is named {', '.join(sorted(unknown))}")
    if reason := missing():
        sys.stderr.write(f"there can be no pretended hosts here: {reason}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    wanted = [_FIRST, *(name for name in ROWS if name in (arguments.rows or ROWS) and name != _FIRST)]
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="campaign-"))
    return campaign(wanted, arguments.times, arguments.seed, folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
