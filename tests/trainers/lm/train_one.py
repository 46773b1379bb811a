"""Train one trial in a process of its own, appending each point to a file: what the kill test kills.

Arguments: a JSON file with options, spec and attempt; the workspace; the step to be killed at (0: none).
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
from trainers.lm import loop
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
        """Asked after every step, because the test sets the waits to nothing."""
        self._steps += 1
        if self._steps == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def resumed_at(self, tokens: int) -> None:
        with (self.workspace / "resumed.jsonl").open("a") as lines:
            lines.write(f"{tokens}\n")


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    spec = job["spec"]
    spec["scale"] = ModelScale(**spec["scale"])
    spec["settings"] = HyperParameters(**spec["settings"])
    spec["eval_tokens"], spec["served_tokens"] = tuple(spec["eval_tokens"]), tuple(spec["served_tokens"])
    loop.CHECKPOINT_SECONDS = job["checkpoint_seconds"]
    loop.ASK_SECONDS = 0.0
    session = FileSession(Path(sys.argv[2]), job["attempt"], kill_at=int(sys.argv[3]))
    LMTrainer(job["options"]).train(TrialSpec(**spec), session)


if __name__ == "__main__":
    main()
