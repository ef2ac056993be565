"""Messages between two processes of one program, over a stream socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgpack

READ = 65536


class Wire:
    """Messages over a stream socket. One thread reads, any thread writes.

    Args:
        connection: the socket.
        patience: seconds to wait for a message, and to wait until the other end takes one; None for both: for ever.
    """

    def __init__(self, connection: socket.socket, patience: tuple[float, float] | None = None) -> None:
        self.socket, self._out = connection, connection.dup()
        if patience:
            self.socket.settimeout(patience[0])
            self._out.settimeout(patience[1])
        self._unpacker = msgpack.Unpacker()
        self._writing = threading.Lock()

    def send(self, *message: Any) -> None:
        """Raises OSError where the other end is gone, or does not read."""
        with self._writing:
            self._out.sendall(msgpack.packb(message))

    def shut(self) -> None:
        """Ends it for whoever reads it, in either process. The descriptors stay until `close`."""
        with contextlib.suppress(OSError):  # it was shut before
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes this process's descriptors. The other end sees it when no fork of this process has them any more."""
        self.socket.close()
        self._out.close()

    def messages(self) -> Iterator[list[Any]]:
        """What has come, until the other end closes. Raises OSError as `recv` does, after which it may be resumed."""
        yield from self._unpacker
        while data := self.socket.recv(READ):
            self._unpacker.feed(data)
            yield from self._unpacker
