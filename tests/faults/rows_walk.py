"""The section of deploy/README.md on machines by hand, line by line, on three hosts."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hosts import Host
from ordeal import Finding
from stage import RAYLET, Stage, within
from what_holds import history_of, running

_REPOSITORY = Path(__file__).resolve().parents[2]
_SECTION = re.compile(r"^## Machines by hand\n(.*?)^## ", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(?:bash|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BLOCKS = ("secrets", "database", "head", "node", "sweep file", "run", "elsewhere", "end")
_PAUSED = 130
_STEP_S, _SWEEP_S = 120.0, 420.0
_DATABASE_USER = "postgres"  # Postgres refuses root


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The blocks of the section, with this stage's address and folder in them."""

    stage: Stage
    folder: Path  # what the README calls /shared; blocks are run below it
    blocks: dict[str, str]

    def do(self, what: str, host: Host, *, user: str | None = None, timeout_s: float = _STEP_S) -> tuple[int, str]:
        """Run a block on a host, to its end; its exit code, and what it wrote."""
        log = self.folder / f"{what}-{host.name}.log"
        with log.open("wb") as out:  # not a pipe, which what it leaves running would keep open
            process = self.start(what, host, out.fileno(), user=user)
            code = process.wait(timeout_s)
        return code, log.read_text()

    def start(self, what: str, host: Host, out: int, *, user: str | None = None) -> subprocess.Popen[bytes]:
        """Begin a block on a host."""
        become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--") if user else ()
        place = self.folder / (user or "work")
        script = f"cd '{place}'\n{self.blocks[what]}"
        return subprocess.Popen(
            [*host.prefix, *become, "bash", "-e", "-c", script],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        """A person's own: nothing that the section has to set."""
        return {name: value for name, value in self.stage.env.items() if not name.startswith("RAY_AUTH")}


def walk(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """Machines by hand, as deploy/README.md has it: doctor, run, status and pause from another host."""
    for host in (stage.a, *stage.nodes):  # the stage's own cluster and servers go
        host.power_off()
        host.boot()
    folder = Path(tempfile.mkdtemp(prefix="walk-"))
    folder.chmod(0o755)
    try:
        yield from _walked(Walk(stage=stage, folder=folder, blocks=_blocks(stage, folder)))
    finally:
        for host in (stage.a, *stage.nodes):
            host.power_off()
        shutil.rmtree(folder, ignore_errors=True)


def _blocks(stage: Stage, folder: Path) -> dict[str, str]:
    section = _SECTION.search((_REPOSITORY / "deploy" / "README.md").read_text())
    blocks = _BLOCK.findall(section[1]) if section else []
    assert len(blocks) == len(_BLOCKS), f"{len(blocks)} blocks in the section, {len(_BLOCKS)} are known here"
    texts = (block.replace("FIRST", stage.a.address).replace("/shared", str(folder)) for block in blocks)
    return dict(zip(_BLOCKS, texts, strict=True))


def _walked(walk: Walk) -> Iterator[Finding]:
    a, (b, c), folder = walk.stage.a, walk.stage.nodes, walk.folder
    (folder / "work").mkdir()
    (folder / "work" / "deploy").symlink_to(_REPOSITORY / "deploy")
    (folder / _DATABASE_USER).mkdir()
    yield _step("secrets", walk.do("secrets", a))
    owner = pwd.getpwnam(_DATABASE_USER)
    for path in (folder / "secrets.sh", folder / _DATABASE_USER):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    yield _step("database", walk.do("database", a, user=_DATABASE_USER))
    yield _step("MLflow server, Ray's head", walk.do("head", a))
    within(lambda: _listens(a, 5000), _STEP_S, lambda: (folder / "work" / "mlflow.log").read_text()[-2000:])
    for host in (b, c):
        yield _step(f"node {host.name}", walk.do("node", host))
    (folder / "mine.yaml").write_text(walk.blocks["sweep file"])
    yield from _swept(walk)
    for host in (c, b, a):
        yield _step(f"ray stop on {host.name}", walk.do("end", host))
    left = [pid for host in (a, b, c) for pid, command in host.processes().items() if RAYLET in command]
    yield Finding(what="walk: raylets left", found=str(len(left)), holds=not left)
    yield _secret(folder)


def _swept(walk: Walk) -> Iterator[Finding]:
    """Doctor and run, status and pause from another host, and on to the end."""
    run_dir, log = walk.folder / "work" / "mine", walk.folder / "run.log"
    with log.open("wb") as out:
        process = walk.start("run", walk.stage.a, out.fileno())
    within(lambda: process.poll() is not None or bool(running(run_dir)), _SWEEP_S, lambda: log.read_text()[-3000:])
    said = log.read_text()
    yield Finding(what="walk: doctor", found=_end(said.partition("preparing")[0]), holds="all is well" in said)
    yield _step("status and pause from another host", walk.do("elsewhere", walk.stage.b))
    code = process.wait(_STEP_S)
    yield Finding(
        what="walk: the driver paused", found=f"exit code {code}: {_end(log.read_text())}", holds=code == _PAUSED
    )
    yield _step("doctor, and on to the end", walk.do("run", walk.stage.a, timeout_s=_SWEEP_S))
    trials = history_of(run_dir).trials.values()
    over = sum(trial.state.measured for trial in trials)
    yield Finding(what="walk: trials measured", found=f"{over} of {len(trials)}", holds=over == len(trials) > 0)


def _listens(host: Host, port: int) -> bool:
    with suppress(subprocess.SubprocessError):
        host.run("bash", "-c", f"exec 3<>/dev/tcp/{host.address}/{port}", timeout_s=5.0)
        return True
    return False


def _step(what: str, ended: tuple[int, str]) -> Finding:
    code, said = ended
    return Finding(what=f"walk: {what}", found=f"exit code {code}: {_end(said)}", holds=code == 0)


def _end(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:150] if lines else ""


def _secret(folder: Path) -> Finding:
    """Whether one of the secrets stands anywhere but in its own file."""
    secrets = re.findall(r"[0-9a-f]{40,}", (folder / "secrets.sh").read_text())
    places = [path for top in ("work", "mine-storage") for path in (folder / top).rglob("*") if path.is_file()]
    places += folder.glob("*.log")
    found = [path.name for path in places if any(secret.encode() in path.read_bytes() for secret in secrets)]
    return Finding(what="walk: files with a secret in them", found=", ".join(found) or "none", holds=not found)
