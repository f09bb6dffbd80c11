# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback that keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Sent:
    """One request with a body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Listener:
    """Where it listens, how it answers, what it got."""

    port: int
    status: int = 200
    answer: bytes = b"{}"
    got: list[Sent] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Listener]:
    """Take every POST and PUT."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            listener.got.append(Sent(self.command, self.path, headers, body))
            self.send_response(listener.status)
            self.send_header("Content-Length", str(len(listener.answer)))
            self.end_headers()
            self.wfile.write(listener.answer)

        do_PUT = do_POST  # noqa: N815  # the base class names it

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    listener = Listener(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
