"""Three pretended hosts on one machine: network, process, mount and host-name namespaces of their own.

They are joined by a bridge in a namespace of its own, so the machine's own network is never touched. Everything
dies with the process that made them, whatever becomes of it. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from processes import alive, all_pids, child_of, command_of, namespace_of

_TOOLS = ("ip", "nsenter", "unshare", "setpriv", "mount")
_PATIENCE_S = 20.0
RAY_FOLDER = Path("/tmp/ray")  # where Ray keeps its session, and its only place for it
SCRATCH = RAY_FOLDER / "scratch"  # a host's own disk, which dies with it
# Dies with the campaign; --kill-child takes everything inside along.
_ALONE = ("setpriv", "--pdeathsig=KILL", "--", "unshare", "--fork", "--kill-child")
_HOST = (*_ALONE, "--net", "--pid", "--mount", "--mount-proc", "--uts", "--")
_INIT = f"""
set -e
hostname n$1; mount --bind "$2" /etc/hosts; ip link set lo up
mkdir -p {RAY_FOLDER}; mount -t tmpfs -o size=2g tmpfs {RAY_FOLDER}; mkdir {SCRATCH}
mount -t tmpfs -o size=1g tmpfs /dev/shm
echo up
while :; do sleep 3600 & wait $!; done
"""
_BRIDGE = "ip link add br0 type bridge && ip link set br0 up && ip link set lo up && echo up && exec sleep infinity"


def missing() -> str:
    """Why there can be no hosts here; empty if there can."""
    if os.geteuid() != 0:
        return "namespaces take root"
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    tried = subprocess.run([*_HOST, "true"], capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    return "" if tried.returncode == 0 else f"namespaces cannot be made here: {tried.stderr.strip()}"


@dataclass
class Host:
    """One pretended host. Use `hosts`."""

    name: str
    address: str
    bridge: int
    etc_hosts: Path
    _process: subprocess.Popen[str] | None = field(default=None, init=False)
    _init: int = field(default=0, init=False)

    def boot(self) -> Self:
        """Switch it on, with an empty disk of its own, and plug it into the bridge."""
        self._process = _up([*_HOST, "bash", "-c", _INIT, "host", self.name, str(self.etc_hosts)])
        self._init = child_of(self._process.pid)
        link = f"v{self.name}"
        self._on_bridge("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self._init))
        self._on_bridge("link", "set", link, "master", "br0", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        return self

    def power_off(self) -> None:
        """Pull the plug: everything on it is gone at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE_S)
            self._process = None
            with suppress(subprocess.CalledProcessError):  # it may have gone with the host already
                self._on_bridge("link", "del", f"v{self.name}")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run here. Its first child is the command."""
        return ("nsenter", "-t", str(self._init), "-n", "-p", "-m", "-u", "--")

    @property
    def disk(self) -> Path:
        """The host's files, as this machine sees them."""
        return Path(f"/proc/{self._init}/root")

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, timeout_s: float = _PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """A command here, to its end. Raises CalledProcessError where it fails."""
        return subprocess.run(
            [*self.prefix, *command], check=True, capture_output=True, text=True, timeout=timeout_s, env=env
        )

    def processes(self) -> dict[int, str]:
        """What runs here: command lines by process."""
        here = namespace_of(self._init)
        return {pid: command_of(pid) for pid in all_pids() if namespace_of(pid) == here and alive(pid)}

    def kill_processes(self, *names: str, number: signal.Signals = signal.SIGKILL) -> list[int]:
        """A signal to those whose command line has one of the names; which they were."""
        found = [pid for pid, command in self.processes().items() if any(name in command for name in names)]
        for pid in found:
            os.kill(pid, number)
        return found

    def cut(self) -> None:
        """Pull the network cable."""
        self._on_bridge("link", "set", f"v{self.name}", "down")

    def heal(self) -> None:
        """Put it back."""
        self._on_bridge("link", "set", f"v{self.name}", "up")

    def _on_bridge(self, *arguments: str) -> None:
        subprocess.run(
            ["nsenter", "-t", str(self.bridge), "-n", "--", "ip", *arguments],
            check=True,
            capture_output=True,
            timeout=_PATIENCE_S,
        )


@contextmanager
def hosts(*names: str) -> Iterator[Sequence[Host]]:
    """Running hosts with the addresses 10.77.0.1, .2, ...; gone at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
        table = Path(folder) / "hosts"
        addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=1)}
        table.write_text("127.0.0.1 localhost\n" + "".join(f"{at} n{name}\n" for name, at in addresses.items()))
        bridge = _up([*_ALONE, "--net", "--", "bash", "-c", _BRIDGE])
        made: list[Host] = []
        try:
            for name, address in addresses.items():
                host = Host(name=name, address=address, bridge=child_of(bridge.pid), etc_hosts=table)
                made.append(host)
                host.boot()
            yield made
        finally:
            for host in made:
                host.power_off()
            bridge.kill()
            bridge.wait(_PATIENCE_S)


def _up(command: Sequence[str]) -> subprocess.Popen[str]:
    """A process that has said that it is up. Raises TimeoutError with what it said instead."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _PATIENCE_S)
    said = process.stdout.readline() if ready else ""
    if said.strip() != "up":
        process.kill()
        raise TimeoutError(f"{command} did not come up: {said}{process.stdout.read()}")
    return process
