"""A few lines of RESP: how the fault kit talks to servers and Sentinels, without a client library in between."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self, TypeAlias

from reliq.errors import ServerError

Reply: TypeAlias = "str | int | list[Reply] | None"


class Control:
    """One connection. Every reply comes as text, number, list or None; a refusal is raised.

    Args:
        address: host and port, or the path of a unix socket.
        password: for AUTH; '' for none.
        timeout: seconds for each step of a call.

    Raises:
        OSError: it can't be reached.
        ServerError: the password is refused.
    """

    def __init__(self, address: tuple[str, int] | str, *, password: str = "", timeout: float = 5.0) -> None:
        self._socket = _connected(address, timeout)
        self._replies = self._socket.makefile("rb")
        if password:
            self.call("AUTH", password)

    def call(self, *words: str | int) -> Reply:
        """Sends a command and returns its reply.

        Raises:
            OSError: the connection broke, or there was no answer in time.
            ServerError: the server refused.
        """
        parts = [str(word).encode() for word in words]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
        return self.read()

    def read(self) -> Reply:
        """The next reply, or message of a subscription."""
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("connection closed by the server")
        kind, rest = line[:1], line[1:-2].decode("utf-8", "backslashreplace")
        if kind == b"-":
            raise ServerError(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        return self._text(int(rest)) if kind == b"$" else [self.read() for _ in range(int(rest))]

    def close(self) -> None:
        """Closes the connection."""
        self._replies.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _text(self, length: int) -> str:
        data = self._replies.read(length + 2)
        if len(data) < length + 2:
            raise ConnectionResetError("connection closed by the server")
        return data[:-2].decode("utf-8", "backslashreplace")


def fields(reply: Reply) -> dict[str, str]:
    """A reply that is a flat list of names and values, or a text of INFO, as a dictionary."""
    if isinstance(reply, list):
        words = [str(word) for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))
    lines = [line.partition(":") for line in str(reply).splitlines() if not line.startswith("#")]
    return {name: value for name, colon, value in lines if colon}


def rows(reply: Reply) -> list[dict[str, str]]:
    """A reply that is a list of such lists."""
    return [fields(row) for row in reply] if isinstance(reply, list) else []


def _connected(address: tuple[str, int] | str, timeout: float) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
