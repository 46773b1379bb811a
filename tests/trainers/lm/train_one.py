"""Train one trial in a child process for each attempt, killed at its step: what the kill test runs.

Arguments: a JSON file with options and spec, the workspace, then the step to be killed at for each
attempt (0: none). Prints how each child ended. The imports are paid once, the children are forked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.api import CurvePoint, TrialSpec
from trainers.lm.trainer import LMTrainer


class FileSession:
    def __init__(self, workspace: Path, attempt: int, kill_at: int) -> None:
        self.workspace = workspace
        self.attempt = attempt
        self._kill_at = kill_at
        self._steps = 0

    def emit(self, point: CurvePoint) -> None:
        with (self.workspace / "points.jsonl").open("a") as lines:
            lines.write(json.dumps({"attempt": self.attempt, **asdict(point)}) + "\n")

    def should_stop(self) -> bool:
        """Asked after every step, because the test sets checkpoint_seconds to 0."""
        self._steps += 1
        if self._steps == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def resumed_at(self, tokens: int) -> None:
        with (self.workspace / "resumed.jsonl").open("a") as lines:
            lines.write(f"{tokens}\n")


def train(job: dict, workspace: Path, attempt: int, kill_at: int) -> None:
    spec = dict(job["spec"])
    spec["scale"] = ModelScale(**spec["scale"])
    spec["settings"] = HyperParameters(**spec["settings"])
    spec["eval_tokens"], spec["served_tokens"] = tuple(spec["eval_tokens"]), tuple(spec["served_tokens"])
    LMTrainer(job["options"]).train(TrialSpec(**spec), FileSession(workspace, attempt, kill_at))


def main() -> None:
    job, workspace = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    LMTrainer(job["options"]).warm_up()
    for attempt, kill_at in enumerate(map(int, sys.argv[3:]), start=1):
        child = os.fork()
        if child == 0:
            train(job, workspace, attempt, kill_at)
            os._exit(0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
