"""A real S3 protocol server in a process of its own (moto's), for tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from servers import LOOPBACK, free_port

_UP_S = 60.0


@contextmanager
def s3_server(log: Path, bucket: str) -> Iterator[dict[str, str]]:
    """The environment with which clients reach the server, which has the bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
    url = f"http://{LOOPBACK}:{port}"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait(port, log)
            _ask(port, "PUT", f"/{bucket}")
            yield {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            process.kill()


def _wait(port: int, log: Path) -> None:
    deadline = time.monotonic() + _UP_S
    while True:
        try:
            _ask(port, "GET", "/")
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no S3 server within {_UP_S:g} s: {log.read_text()[-500:]}") from None
            time.sleep(0.1)
        else:
            return


def _ask(port: int, method: str, path: str) -> None:
    with closing(HTTPConnection(LOOPBACK, port, timeout=10)) as connection:
        connection.request(method, path)
        connection.getresponse().read()
