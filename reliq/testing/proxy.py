"""A proxy between a client and a server that breaks connections at exactly the point that a test asks for.

It reads whole RESP requests and replies, so "the effect happened and the reply was lost" is what it says: the request
was forwarded, the server's complete reply has arrived here, and the client gets a closed connection instead.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from reliq.testing.resp import Scanner

Match = bytes | Callable[[bytes], bool] | None


class Fault(Enum):
    """What a rule does to a request or its reply."""

    LOSE_REQUEST = "the client's connection is closed before the request is forwarded"
    LOSE_REPLY = "the client's connection is closed when the server's reply is here"
    DELAY = "the request is forwarded later"


@dataclass
class Rule:
    """What happens to the next `left` requests that match.

    `fired` counts them, just before the client can tell; `fired_at` has the times, by `time.monotonic()`.
    """

    fault: Fault
    left: int
    match: Match = None
    seconds: float = 0.0
    keep_bytes: int = 0
    fired: int = 0
    fired_at: list[float] = field(default_factory=list)
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def takes(self, request: bytes) -> bool:
        """Whether the rule is for this request; then it is used up by one."""
        if not self.left or not self._matches(request):
            return False
        self.left -= 1
        return True

    def wait(self, closing: threading.Event) -> None:
        """Holds a request up, until the rule is cancelled or its connection closes."""
        deadline = time.monotonic() + self.seconds
        while not self._cancelled.is_set() and (left := deadline - time.monotonic()) > 0:
            if closing.wait(min(left, 0.005)):
                return

    def fire(self) -> None:
        """Counts, and notes the time."""
        self.fired_at.append(time.monotonic())
        self.fired += 1

    def cancel(self) -> None:
        """No further request, and none is held up any longer."""
        self.left = 0
        self._cancelled.set()

    def _matches(self, request: bytes) -> bool:
        if self.match is None:
            return True
        return self.match in request if isinstance(self.match, bytes) else self.match(request)


class FaultProxy:
    """Listens on a loopback port (`url`, for redis:// clients) and forwards to `target_url` (redis:// or unix://).

    `match` says which requests a rule is for: bytes that the raw request contains (the sha of a script, say), a
    predicate on it, or None for any. Rules apply in the order in which they were made, one to a request, and may be
    set at any time from any thread. RESP3 pushes pass by; subscriptions over RESP2 must not meet `lose_reply`.
    """

    def __init__(self, target_url: str) -> None:
        self._target = _address(target_url)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._links: set[_Link] = set()
        self._numbers = itertools.count(1)
        self.connections = 0  # accepted so far
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:port/0`"""
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_reply(self, times: int = 1, match: Match = None, *, keep_bytes: int = 0) -> Rule:
        """The server does it, the client does not hear of it, except for the first `keep_bytes` bytes of the reply."""
        return self._add(Rule(Fault.LOSE_REPLY, times, match, keep_bytes=keep_bytes))

    def lose_request(self, times: int = 1, match: Match = None) -> Rule:
        """The server never hears of it and the client can't tell."""
        return self._add(Rule(Fault.LOSE_REQUEST, times, match))

    def delay(self, seconds: float, times: int = 1, match: Match = None) -> Rule:
        """The request, and those behind it on its connection, are forwarded after `seconds`, or after `clear()`."""
        return self._add(Rule(Fault.DELAY, times, match, seconds=seconds))

    def clear(self) -> None:
        """Ends all rules; what is being delayed goes on its way."""
        with self._lock:
            for rule in self._rules:
                rule.cancel()
            self._rules.clear()

    def reset_connections(self) -> int:
        """Resets (RST) all connections, waits until that has happened, and returns how many there were."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close(reset=True)
        for link in links:
            link.closed.wait(5.0)
        return len(links)

    def refuse_connections(self) -> None:
        """New connections get "connection refused"; the port stays ours. Those that exist live on."""
        self._stop_listening()
        self._listener = _bound(self.port)

    def accept_connections(self) -> None:
        """Ends `refuse_connections`."""
        if not self._accepting.is_alive():
            self._listen()

    def close(self) -> None:
        """Ends rules, listening and connections."""
        self.clear()
        self._stop_listening()
        self.reset_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def rule_for(self, request: bytes) -> Rule | None:
        """The first rule that takes a request."""
        with self._lock:
            return next((rule for rule in self._rules if rule.takes(request)), None)

    def forget(self, link: _Link) -> None:
        """A connection has ended."""
        with self._lock:
            self._links.discard(link)

    def _add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    def _listen(self) -> None:
        self._listener.listen()
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), name="proxy", daemon=True)
        self._accepting.start()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):  # it was not listening
            self._listener.shutdown(socket.SHUT_RDWR)  # close() alone does not end accept() in the other thread
        self._accepting.join()
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # _stop_listening
                return
            self.connections += 1
            try:
                upstream = _connected(self._target)
            except OSError:  # the server is gone: so is this connection, as if the client had met it itself
                client.close()
                continue
            link = _Link(self, client, upstream)
            with self._lock:
                self._links.add(link)
            link.start()


class _Link:
    """One client connection and its counterpart to the server, with a thread for each direction.

    `close` only shuts down: a descriptor that is closed while the other thread reads may by then be somebody else's.
    The last thread to leave closes.
    """

    def __init__(self, proxy: FaultProxy, client: socket.socket, upstream: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream = upstream
        self._awaited: deque[Rule | None] = deque()  # a place per request that was forwarded and not answered
        self._lock = threading.Lock()
        self._directions = 2
        self._closing = threading.Event()
        self.closed = threading.Event()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for target in (self._requests, self._replies):
            threading.Thread(target=self._guarded, args=(target,), name="proxy-link", daemon=True).start()

    def close(self, *, reset: bool = False) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
            with contextlib.suppress(OSError):  # the client was faster
                if reset:  # then the descriptor's end sends RST, which a FIN must not precede
                    self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._client.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            with contextlib.suppress(OSError):  # the server was faster
                self._upstream.shutdown(socket.SHUT_RDWR)

    def _guarded(self, direction: Callable[[], None]) -> None:
        try:
            with contextlib.suppress(OSError):  # either end may go at any time; the other one is then closed too
                direction()
        finally:
            self.close()
            with self._lock:
                self._directions -= 1
                last = self._directions == 0
            if last:
                self._client.close()
                self._upstream.close()
                self._proxy.forget(self)
                self.closed.set()

    def _requests(self) -> None:
        scanner = Scanner()
        while data := self._client.recv(65536):
            for request in scanner.feed(data):
                rule = self._proxy.rule_for(request)
                if rule is not None and rule.fault is Fault.LOSE_REQUEST:
                    rule.fire()
                    self.close()
                    return
                if rule is not None and rule.fault is Fault.DELAY:
                    rule.fire()
                    rule.wait(self._closing)
                    if self._closing.is_set():  # what was held up is lost with its connection
                        return
                self._awaited.append(rule)
                self._upstream.sendall(request)

    def _replies(self) -> None:
        scanner = Scanner()
        while data := self._upstream.recv(65536):
            for reply in scanner.feed(data):
                pushed = reply.startswith(b">") or not self._awaited
                rule = None if pushed else self._awaited.popleft()
                if rule is not None and rule.fault is Fault.LOSE_REPLY:
                    rule.fire()
                    self._client.sendall(reply[: rule.keep_bytes])
                    self.close()
                    return
                self._client.sendall(reply)


def _address(url: str) -> tuple[str, int] | str:
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else (parts.hostname or "127.0.0.1", parts.port or 6379)


def _connected(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout=None)
    upstream = socket.socket(socket.AF_UNIX)
    try:
        upstream.connect(address)
    except OSError:
        upstream.close()
        raise
    return upstream


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener
