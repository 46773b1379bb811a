"""A reverse proxy on loopback that demands a bearer token, as gateways before an MLflow server do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
_PATIENCE_S = 30.0
_PASSED_ON = ("Content-Type", "Accept")


@contextmanager
def bearer_proxy(target: str, token: str) -> Iterator[str]:
    """The address of a proxy that hands requests with the token on to the target, and answers 401 to others."""

    class Handler(_Handler):
        upstream, expected = target, f"Bearer {token}"

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """`upstream` is the target's address, `expected` the header that lets a request in."""

    upstream: str
    expected: str

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != self.expected:
            self._answer(401, b"a token is needed", "text/plain")
            return
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        host = urlsplit(self.upstream).netloc
        with closing(HTTPConnection(host, timeout=_PATIENCE_S)) as upstream:
            try:
                upstream.request(self.command, self.path, body=body or None, headers=headers)
                found = upstream.getresponse()
                self._answer(found.status, found.read(), found.headers["Content-Type"])
            except OSError:
                self._answer(502, b"there is no server", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


for _method in ("POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)
