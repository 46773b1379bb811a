"""Keeps a Ray of this machine alone on the loopback interface."""

from __future__ import annotations

import os
import sys

# Read by Ray when it is imported, on every system whatever its name says: a cluster that is not to be joined from
# elsewhere has 127.0.0.1 as its address, and then all of its servers listen there only (ray 2.60).
_JOINABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def stay_on_loopback() -> None:
    """Let nobody from outside reach the Ray that this process is going to start.

    Without effect where Ray is imported already.
    """
    if "ray" not in sys.modules:
        os.environ.setdefault(_JOINABLE, "0")
