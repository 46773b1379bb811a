"""A user's own training script, in any language, as a subprocess.

The script gets the trial as JSON in $SCALESWEEP_TRIAL, appends a line {"tokens": ..., "loss": ...} for each
evaluation to $SCALESWEEP_CURVE, keeps its checkpoints in the folder $SCALESWEEP_CHECKPOINTS and may read the
number of this start in $SCALESWEEP_ATTEMPT. When asked to leave it gets SIGTERM. What it prints is kept for
messages, without the secrets of its environment, and never read for results.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from trainers.api import Cause, Session, TrialFailed, TrialPaused, TrialSpec
from trainers.curve_file import CurveFile
from trainers.options import Options, read_options
from trainers.placeholders import fill, words_of
from trainers.process import ERRORS_FILE, Process, find_program, last_lines

VERSION = "1"  # raise by hand whenever equal options would give other curves
TRIAL_FILE, CURVE_FILE, CHECKPOINTS = "trial.json", "curve.jsonl", "checkpoints"
_LOOK_EVERY_S = 0.1  # how often the curve file and the request to leave are looked at
# How long a script may take to write its checkpoint after SIGTERM. A guess: minutes at a gigabyte a second.
_GRACE_S = 60.0
_KILLED = 128 + signal.SIGKILL


class CommandOptions(Options):
    """What the `command` trainer takes. `version` is to be raised whenever equal trials would differ."""

    command: str = Field(min_length=1)
    env: Mapping[str, str] = {}
    timeout_s: float | None = Field(default=None, gt=0)
    version: str | None = None

    @field_validator("command")
    @classmethod
    def _is_a_command(cls, command: str) -> str:
        words_of(command)
        return command


class CommandTrainer:
    """Runs the command once a trial, in the trial's own folder and in a process group of its own.

    Raises InputError where the program is not there or a placeholder is not known.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = read_options(CommandOptions, options, "command")
        self._words = words_of(self.options.command)
        self._folder = Path.cwd()
        self._program = find_program(self._words[0], self._folder)

    @property
    def version(self) -> str:
        """The declared one, else a hash of the command and of the files that it names."""
        if self.options.version is not None:
            return f"command-{VERSION}-{self.options.version}"
        parts = [self.options.command.encode(), json.dumps(dict(self.options.env), sort_keys=True).encode()]
        parts += [path.read_bytes() for word in self._words if (path := self._folder / word).is_file()]
        digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        return f"command-{VERSION}-{digest[:16]}"

    def train(self, spec: TrialSpec, session: Session) -> None:
        """Start the command and follow its curve file until it ends."""
        folder = session.workspace
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        (folder / TRIAL_FILE).write_text(json.dumps(spec.as_json(), indent=1))
        curve = CurveFile(folder / CURVE_FILE)
        for point in curve.earlier:
            session.emit(point)
        if not curve.earlier or curve.earlier[-1].tokens < spec.tokens:
            self._run(spec, session, curve)

    def _run(self, spec: TrialSpec, session: Session, curve: CurveFile) -> None:
        arguments, folder = self._arguments(spec), session.workspace
        with Process(arguments, folder=folder, env=self._environment(session), grace_s=_GRACE_S) as process:
            code, reached = self._follow(process, curve, session)
        if reached >= spec.tokens:
            return
        if session.should_stop():
            raise TrialPaused(f"asked to leave at {reached:,} tokens")
        if code != 0:
            raise self._crashed(code, folder)
        raise TrialFailed(
            Cause.USER_ERROR,
            f"the command ended well, but {curve.path} goes to {reached:,} of {spec.tokens:,} tokens; it must "
            'append a line {"tokens": ..., "loss": ...} at each of eval_tokens in $SCALESWEEP_TRIAL',
        )

    def _follow(self, process: Process, curve: CurveFile, session: Session) -> tuple[int, int]:
        """Emit what appears in the curve file until the process ends; its exit code and the tokens reached."""
        began, reached, stopped = time.monotonic(), 0, False
        while True:
            code = process.wait(_LOOK_EVERY_S)
            for point in curve.new_points():
                if not reached:
                    session.resumed_at(curve.earlier_than(point.tokens))
                session.emit(point)
                reached = point.tokens
            if code is not None:
                return code, reached
            if stopped:
                return _KILLED, reached
            if self.options.timeout_s is not None and time.monotonic() - began > self.options.timeout_s:
                raise TrialFailed(Cause.TIMED_OUT, f"the command ran longer than timeout_s: {self.options.timeout_s:g}")
            if session.should_stop():
                process.stop()
                stopped = True

    def _arguments(self, spec: TrialSpec) -> list[str]:
        words = [fill(word, spec) for word in self._words[1:]]
        # Files of the user's own folder are named as he sees them; the command runs in the trial's.
        return [self._program] + [str(self._folder / w) if (self._folder / w).is_file() else w for w in words]

    def _environment(self, session: Session) -> dict[str, str]:
        folder = session.workspace.absolute()
        return {
            **self.options.env,
            "SCALESWEEP_TRIAL": str(folder / TRIAL_FILE),
            "SCALESWEEP_CURVE": str(folder / CURVE_FILE),
            "SCALESWEEP_CHECKPOINTS": str(folder / CHECKPOINTS),
            "SCALESWEEP_ATTEMPT": str(session.attempt),
        }

    def _crashed(self, code: int, folder: Path) -> TrialFailed:
        last = last_lines(folder / ERRORS_FILE)
        if code in {_KILLED, -signal.SIGKILL}:
            return TrialFailed(Cause.WORKER_LOST, f"the command was killed (perhaps out of memory)\n{last}")
        return TrialFailed(Cause.USER_ERROR, f"{shlex.join(self._words)} ended with exit code {code}\n{last}")
