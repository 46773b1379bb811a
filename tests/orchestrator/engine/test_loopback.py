"""A Ray of this machine alone can be reached from this machine alone."""

from __future__ import annotations

import json
import subprocess
import sys

_LISTENING = """
import json
from orchestrator.engine.loopback import stay_on_loopback

stay_on_loopback()
from orchestrator.engine.pool import RayPool
from orchestrator.ports import TrainerRef

pool = RayPool(trainer=TrainerRef(name="synthetic"), workers=1)
pool.start()
import psutil  # Ray brings it

me = psutil.Process()
family = [me, *me.children(recursive=True)]
addresses = [c.laddr.ip for each in family for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN]
pool.close()
print(json.dumps(addresses))
"""


def test_everything_listens_on_loopback() -> None:
    ran = subprocess.run([sys.executable, "-c", _LISTENING], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    addresses = json.loads(ran.stdout.splitlines()[-1])
    assert len(addresses) >= 4  # the head's servers, the driver and the worker
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
