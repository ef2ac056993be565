"""Every connection between nodes, and from clients to nodes, through a relay in this process that can hold it back.

For machines where one may not make network namespaces. A node has an address of its own in 127.0.0.0/8 and connects
from it, so the relay in front of another node can tell who comes. A cut holds bytes back, and a new connection gets no
answer; in a real network it would not even be accepted.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading

from reliq.testing.network import CLIENTS, Loopback, Seat

Pair = tuple[str, str]
_RESET = struct.pack("ii", 1, 0)


class Relays:
    """Addresses 127.x.y.z with a relay in front of each."""

    kind = "relays"

    def __init__(self) -> None:
        self._ports = Loopback()
        self._subnet = f"127.{random.randrange(64, 128)}.{random.randrange(256)}"
        self._names: dict[str, str] = {}  # by address
        self._cut: set[Pair] = set()
        self._changed = threading.Condition()
        self._listeners: list[socket.socket] = []
        self._links: set[_Link] = set()
        self.closing = False

    def seat(self, name: str) -> Seat:
        """An address, and a relay that listens there."""
        host = f"{self._subnet}.{len(self._names) + 2}"
        self._names[host] = name
        behind = (host, self._ports.reserve(host))
        listener = socket.create_server((host, 0), backlog=128)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, name, behind), name="relay", daemon=True).start()
        return Seat(host, listener.getsockname()[1], bind=behind, source=host)

    def cut(self, pairs: list[Pair]) -> None:
        """Bytes from the first to the second are held back."""
        with self._changed:
            self._cut.update(pairs)

    def heal(self) -> None:
        """Lets everything pass, what was held back too."""
        with self._changed:
            self._cut.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all connections and listens no more."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
            links = list(self._links)
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # close() alone does not end accept()
            listener.close()
        for link in links:
            link.close()
        self._ports.close()

    def pass_through(self, *pairs: Pair) -> bool:
        """Waits until none of the pairs is cut. False: the relays close."""
        with self._changed:
            self._changed.wait_for(lambda: self.closing or not self._cut.intersection(pairs))
            return not self.closing

    def forget(self, link: _Link) -> None:
        """A connection has ended."""
        with self._changed:
            self._links.discard(link)

    def _accept(self, listener: socket.socket, name: str, behind: tuple[str, int]) -> None:
        while True:
            try:
                client, (host, _) = listener.accept()
            except OSError:  # close
                return
            link = _Link(self, client, (self._names.get(host, CLIENTS), name), behind)
            with self._changed:
                self._links.add(link)
            threading.Thread(target=link.run, name="relay-link", daemon=True).start()


class _Link:
    """One connection, with a thread for each direction."""

    def __init__(self, relays: Relays, client: socket.socket, pair: Pair, behind: tuple[str, int]) -> None:
        self._relays, self._client, self._pair, self._behind = relays, client, pair, behind
        self._server = socket.socket()
        self._reset = False

    def run(self) -> None:
        """Connects when it may, and carries bytes until either side ends."""
        try:
            if self._relays.pass_through(self._pair, self._pair[::-1]) and self._connected():
                back = threading.Thread(target=self._carry, args=(False,), name="relay-link", daemon=True)
                back.start()
                self._carry(True)
                back.join()
        finally:
            self._relays.forget(self)
            if self._reset:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._client.close()
            self._server.close()

    def close(self) -> None:
        """Wakes both threads, which then leave."""
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):  # it was not connected, or not any more
                end.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> bool:
        try:
            self._server.connect(self._behind)
        except OSError:  # the node is down: the client gets a reset, where the node's own port would have refused it
            self._reset = True
            return False
        for end in (self._client, self._server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    def _carry(self, forth: bool) -> None:
        source, sink = (self._client, self._server) if forth else (self._server, self._client)
        pair = self._pair if forth else self._pair[::-1]
        with contextlib.suppress(OSError):  # either end may go at any time; the other then goes too
            while self._relays.pass_through(pair):
                data = _received(source)
                if not self._relays.pass_through(pair) or not data:
                    break
                sink.sendall(data)
        self.close()


def _received(source: socket.socket) -> bytes:
    """What comes next. A broken connection is an end like any other, and is held back by a cut like bytes."""
    try:
        return source.recv(65536)
    except OSError:
        return b""
