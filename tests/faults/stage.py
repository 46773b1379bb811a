"""Three hosts with a Ray cluster, Postgres and MLflow: where the campaign's sweeps run."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driven import COMMAND, WORKER, Case, Driver, driving, make_case, write_corpus
from hosts import SCRATCH, Host, hosts
from processes import alive
from servers import Mlflow, Postgres, mlflow_server, postgres

RAY = Path(sysconfig.get_path("scripts")) / "ray"
RAYLET = "raylet/raylet"  # the raylet's own program
_PORT = 6379
_LEAVE_S = 30.0
# Each of several nodes on one machine claims all its memory, where it is not told. Bytes.
_SIZES = ("--memory=2000000000", "--object-store-memory=80000000")
_STARTED = "Ray runtime started."  # what `ray start` says when a node is up
UP_S = 90.0
# Trials a scale, and their length: 4 to 16 s each, so that faults hit trials that have snapshots, and 45 s in all on
# two workers, more with faults.
TRIALS = 5
TOKENS_PER_PARAM = 20.0


@dataclass(kw_only=True)
class Stage:
    """Host a has Ray's head (without work), the driver, Postgres and MLflow; b and c take a trial each.

    `shared` is a folder of the whole campaign: corpus, its tokens, the sweep that nobody disturbed.
    """

    a: Host
    b: Host
    c: Host
    root: Path
    shared: Path
    env: Mapping[str, str]
    say: Callable[[str], None]
    postgres: Postgres = field(init=False)
    mlflow: Mlflow = field(init=False)
    tracking: str = field(default="", init=False)
    studies: str = field(default="", init=False)

    @property
    def nodes(self) -> tuple[Host, Host]:
        """The hosts that train."""
        return self.b, self.c

    @property
    def undisturbed(self) -> Path:
        """The run folder of the sweep that nobody disturbed."""
        return self.shared / "undisturbed" / "run"

    def start_head(self) -> None:
        """A Ray head that is started again whenever it dies."""
        self._keep_up(self.a, ["--head", f"--port={_PORT}", "--num-cpus=0", "--include-dashboard=false"])

    def start_node(self, host: Host) -> None:
        """A Ray node that joins again whenever it dies."""
        self._keep_up(host, [f"--address={self.a.address}:{_PORT}", "--num-cpus=1"])

    def renew_node(self, host: Host, prepare: Callable[[], object] = lambda: None) -> None:
        """Have a node take its leave of the head, if it is on, and switch on another; `await_ray` waits for it.

        `prepare` is called before Ray starts.
        """
        raylets = host.kill_processes(RAYLET, number=signal.SIGTERM)
        within(lambda: not any(map(alive, raylets)), _LEAVE_S, lambda: f"end of the raylet on {host.name}")
        host.power_off()
        host.boot()
        prepare()
        self.start_node(host)

    def _keep_up(self, host: Host, options: Sequence[str]) -> None:
        start = [str(RAY), "start", "--block", f"--node-ip-address={host.address}", *_SIZES, *options]
        loop = 'while :; do "$@"; sleep 1; done'
        with self.log_of(host).open("w") as log:
            subprocess.Popen(
                [*host.prefix, "bash", "-c", loop, "loop", *start],
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def log_of(self, host: Host) -> Path:
        """What the host's Ray says."""
        return self.root / f"ray-{host.name}.log"

    def starts(self, host: Host) -> int:
        """How often the host's Ray has come up since it was booted."""
        return self.log_of(host).read_text().count(_STARTED)

    def await_ray(self, host: Host, starts: int = 1, seconds: float = UP_S) -> None:
        """Wait until the host's Ray has come up so often. Raises AssertionError with its log if it does not."""
        within(lambda: self.starts(host) >= starts, seconds, lambda: f"Ray on {host.name}:\n{self.ray_said(host)}")

    def ray_said(self, host: Host) -> str:
        """The end of its Ray's log."""
        return self.log_of(host).read_text()[-3000:]

    def workers(self, *among: Host) -> list[int]:
        """The processes that train."""
        found = [each.processes() for each in among or self.nodes]
        return sorted(pid for each in found for pid, command in each.items() if command.startswith(WORKER))

    def case(self, name: str, sampler: str, **changes: Any) -> Case:
        """A sweep on these hosts, recorded on these servers."""
        root = self.root / name
        content = {
            "cluster": {"address": "auto"},
            "storage": str(root / "storage"),
            "tracking": {"uri": self.tracking},
            "studies": {"uri": self.studies},
        }
        return make_case(
            root,
            sampler=sampler,
            trials=TRIALS,
            tokens_per_param=TOKENS_PER_PARAM,
            corpus=write_corpus(self.shared / "corpus"),
            **(content | changes),
        )

    def driving(self, case: Case, folder: Path, *extra: str) -> AbstractContextManager[Driver]:
        """`scalesweep run` on host a."""
        return driving(case, folder, *extra, prefix=self.a.prefix, env=self.env)

    def scalesweep(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """What another verb says on host a. Raises CalledProcessError where it fails."""
        return self.a.run(str(COMMAND), *arguments, env=self.env, timeout_s=timeout_s).stdout

    def python(self, script: Path, *arguments: str, timeout_s: float = 120.0) -> str:
        """What a script of ours writes, run on host a."""
        command = (sys.executable, str(script), *arguments)
        return self.a.run(*command, env=self.env, timeout_s=timeout_s).stdout


@contextmanager
def stage(root: Path, shared: Path, say: Callable[[str], None]) -> Iterator[Stage]:
    """All of it, up; gone at the end of the block."""
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        a, b, c = stack.enter_context(hosts("a", "b", "c"))
        made = Stage(a=a, b=b, c=c, root=root, shared=shared, env=_environment(), say=say)
        made.start_head()
        database = stack.enter_context(postgres(root, a.address, 5432, prefix=a.prefix))
        made.postgres = database
        made.studies = database.create_database("studies")
        made.await_ray(a)
        for host in made.nodes:
            made.start_node(host)
        store = database.create_database("mlflow")
        made.mlflow = stack.enter_context(mlflow_server(root, store, a.address, 5000, prefix=a.prefix))
        made.tracking = made.mlflow.uri
        for host in made.nodes:
            made.await_ray(host)
        yield made


def _environment() -> dict[str, str]:
    ours = ("RAY_", "MLFLOW_", "SCALESWEEP_", "PG")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return inherited | {
        "PATH": f"{RAY.parent}:{inherited['PATH']}",  # as in an activated environment
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "SCALESWEEP_SCRATCH": str(SCRATCH),
    }


def within(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> float:
    """Wait for something; returns how long it took. Raises AssertionError if it does not come."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds:.0f} s: {what()}"
        time.sleep(0.05)
    return time.monotonic() - began
