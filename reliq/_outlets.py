"""The ways in which it is told how a worker is: a file, HTTP, and systemd's socket."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from reliq.errors import InvalidArgument

log = logging.getLogger("reliq.health")

Facts = Mapping[str, Any]


class Endpoint:
    """/livez and /readyz: 200 or 503, and the facts as JSON."""

    def __init__(self, facts: Callable[[], Facts], host: str, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), _handler_for(facts))
        except OSError as error:
            raise InvalidArgument(f"can't listen on {host}:{port}: {error.strerror}") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="reliq-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it and gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler_for(facts: Callable[[], Facts]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds that a silent connection is kept
        _questions = {"/livez": "alive", "/readyz": "ready"}  # noqa: RUF012  nobody changes it

        def do_GET(self) -> None:
            question = self._questions.get(self.path.partition("?")[0])
            known = facts()
            status = 404 if question is None else 200 if known[question] else 503
            body = json.dumps(dict(known)).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Handler


def write_facts(path: Path, facts: Facts) -> None:
    """Replaces the file in one step: whoever reads it sees the old facts or the new ones."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(dict(facts)) + "\n", encoding="utf-8")
    draft.replace(path)


def notify_systemd(state: str) -> bool:
    """Tells systemd the state of a service (Type=notify). False where nobody listens.

    Args:
        state: such as READY=1, WATCHDOG=1, STOPPING=1; several on lines of their own.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        try:
            sending.sendto(state.encode(), address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", state, error)
            return False
    return True
