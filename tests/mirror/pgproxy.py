"""A proxy in front of Postgres that cuts a connection exactly between a commit and its answer, or slows it down."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

COMMITTED = b"C\0\0\0\x0bCOMMIT\0"  # what Postgres answers when a transaction has been committed


class PostgresProxy:
    """Listens on a loopback port and forwards to Postgres's. No TLS: it looks for answers in what the server sends."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._cuts: list[bytes] = []
        self.cut = threading.Event()  # set when an answer was withheld
        self.delay = 0.0  # seconds before each piece of an answer is passed on
        self.refusing = False
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="pg-proxy", daemon=True)
        self._thread.start()

    def cut_at(self, answer: bytes = COMMITTED, times: int = 1) -> None:
        """The next answers that contain these bytes don't arrive: their connections end instead."""
        self.cut.clear()
        self._cuts += [answer] * times

    def reset(self) -> None:
        """Ends all connections."""
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):  # it has ended by itself
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends listening and all connections."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # close()
                return
            try:
                if self.refusing:
                    raise OSError("refused")  # noqa: TRY301  the same answer as that of a server that is gone
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
            left = [client, server]  # closed by the second of the two threads to end
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=(source, sink, answers, left), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool, left: list[socket.socket]) -> None:
        with contextlib.suppress(OSError):  # either end may go at any time
            while data := source.recv(65536):
                if answers and self._withholds(data):
                    break
                if answers and self.delay:
                    self._closing.wait(self.delay)
                sink.sendall(data)
        with self._lock:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            left.pop()
            if not left:
                for end in (source, sink):
                    self._sockets.discard(end)
                    end.close()

    def _withholds(self, data: bytes) -> bool:
        with self._lock:
            if not self._cuts or self._cuts[0] not in data:
                return False
            self._cuts.pop(0)
        self.cut.set()
        return True
