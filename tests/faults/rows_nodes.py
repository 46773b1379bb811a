"""Faults of workers and nodes: killed, gone, joined, cut off."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from random import Random

from hosts import Host
from ordeal import Finding, Ordeal, ordeals
from stage import RAYLET, UP_S, Stage, within

_JOINED_S = 60.0  # a node that joined must train by then: a worker takes 5 to 20 s to start here


def workers_killed(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """SIGKILL of a worker; its trial goes on from its checkpoint on another."""
    for ordeal in ordeals(stage, "worker", chance, times, each=10, samplers=("random", "tpe")):
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                driver.until(lambda: bool(stage.workers()), "worker", UP_S)
                victim = chance.choice(stage.workers())
                ordeal.hit("worker killed", lambda pid=victim: os.kill(pid, signal.SIGKILL))
            ordeal.await_end(driver)
        yield from ordeal.findings()


def nodes_lost(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """SIGKILL of a raylet, and a node that leaves while another joins, in turn."""
    joined: list[float] = []
    for ordeal in ordeals(stage, "node", chance, times, each=5, samplers=("random", "tpe")):
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                host = chance.choice(stage.nodes)
                _lose(stage, ordeal, host, raylet_alone=len(ordeal.hits) % 2 == 0)
                joined += _trains(stage, ordeal, host)
            ordeal.await_end(driver)
        yield from ordeal.findings()
    yield Finding(
        what="nodes that joined trained",
        found=f"{len(joined)} of {times}, after {max(joined, default=0.0):.1f} s at most",
        holds=bool(joined),
    )


def _lose(stage: Stage, ordeal: Ordeal, host: Host, *, raylet_alone: bool) -> None:
    starts = stage.starts(host)
    if raylet_alone:
        ordeal.hit(f"raylet of {host.name} killed", lambda: host.kill_processes(RAYLET))
    else:
        ordeal.hit(f"node {host.name} gone, another joins", host.power_off)
        stage.renew_node(host)
        starts = 0
    stage.await_ray(host, starts + 1)


def _trains(stage: Stage, ordeal: Ordeal, host: Host) -> list[float]:
    """Seconds until a worker runs on a node that has just joined; none where the others had no work left for it."""
    seconds = within(
        lambda: bool(stage.workers(host)) or not ordeal.has_work, _JOINED_S, lambda: f"worker on {host.name}"
    )
    return [seconds] if stage.workers(host) else []


def links_cut(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """A node's network cut and healed, for 5 s and for 60 s in turn: its worker lives on and must harm nothing."""
    for ordeal in ordeals(stage, "link", chance, 2 * times, each=2):
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                seconds = 5 if len(ordeal.hits) % 2 == 0 else 60
                host = chance.choice([each for each in stage.nodes if stage.workers(each)] or stage.nodes)
                ordeal.hit(f"network of {host.name} cut for {seconds} s", host.cut)
                time.sleep(seconds)
                host.heal()
            ordeal.await_end(driver)
        yield from ordeal.findings()
