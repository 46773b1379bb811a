"""A driver that is killed while MLflow makes its database leaves one that the next driver can use."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.tracking.store import connect, store_uri

CONNECT = """
import sys
from pathlib import Path
from orchestrator.tracking.store import connect, store_uri
connect(store_uri(None, Path(sys.argv[1])))
"""


def test_a_making_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with subprocess.Popen([sys.executable, "-c", CONNECT, str(tmp_path)], stderr=subprocess.DEVNULL) as making:
        while making.poll() is None and not (database.exists() and database.stat().st_size):
            time.sleep(0.001)
        making.send_signal(signal.SIGKILL)
    assert making.returncode == -signal.SIGKILL
    client = connect(store_uri(None, tmp_path))
    experiment = client.create_experiment("kept")
    assert not (tmp_path / "mlflow.db.unfinished").exists()
    again = connect(store_uri(None, tmp_path))
    assert again.get_experiment(experiment).name == "kept"
