"""The program that renews the leases of another process: `python -m reliq._renewer`, with a socket as its input.

Messages are msgpack lists, each beginning with a word. In: `queue` (first; what to renew for), `watch`, `forget`. Out:
`ready`, `renewed`, `lost`, `alive` (each round), `log`. It ends when the socket does, which is when the other process
dies, however it does. A process that is stopped (SIGSTOP) gets no renewals: its items are to go to others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reliq import connect
from reliq._reading import held_under
from reliq._renewals_thread import ThreadRenewals, driver_for
from reliq._session import Session
from reliq._watched import Lease, leases_of
from reliq._wire import Wire
from reliq.item import Item

STANDING = frozenset("TtZX")  # stopped, traced, and dead: states in which a process works on nothing


AGAIN = b"p 1 0 0 "  # the history of an item that was claimed before


def item_of(queue: str, key: bytes, proof: bytes) -> Item:
    """As much of an item as its renewal needs. What is not known of it, that it was claimed before, is assumed."""
    return Item(held_under(queue, proof), key, None, {}, b"", AGAIN)


def works(pid: int) -> bool:
    """Whether a process is there and not stopped. Without /proc (macOS, BSD) a stopped one can't be told: it works."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return not Path("/proc/self/stat").exists()
    except OSError:  # gone while it was read
        return False
    return chr(stat[stat.rindex(b")") + 2]) not in STANDING


class Renewer:
    """Renews for the process at the other end of a wire."""

    def __init__(self, wire: Wire, queue: str, url: str, lease: float, may_renew: Callable[[], bool]) -> None:
        self._wire, self._session = wire, Session(queue)
        self._may_renew = may_renew
        self._renewals = ThreadRenewals(
            driver_for(connect.connector(url, None), self._session, lease),
            lease,
            lambda items: self._say("lost", leases_of(items)),
            may_renew=self._is_wanted,
            on_renewed=lambda leases, expires: self._say("renewed", leases, expires),
        )

    def serve(self) -> None:
        """Does what the messages say, until the other end closes."""
        self._renewals.start()
        self._say("ready")
        verbs: dict[str, Callable[..., None]] = {"watch": self._watch, "forget": self._forget}
        for word, *arguments in self._wire.messages():
            verbs[word](*arguments)

    def stop(self) -> None:
        self._renewals.stop()

    def _watch(self, epoch: int, claims: list[tuple[bytes, list[bytes]]]) -> None:
        self._session.epoch = b"%d" % epoch
        items = [item_of(self._session.queue, key, proof) for proof, keys in claims for key in keys]
        self._renewals.watch(items)

    def _forget(self, leases: list[Lease]) -> None:
        self._renewals.forget_leases(leases)

    def _is_wanted(self) -> bool:
        self._say("alive")
        return self._may_renew()

    def _say(self, *message: Any) -> None:
        """Says it, unless nobody listens any more: then the reading end has seen that too, and ends this."""
        try:
            self._wire.send(*message)
        except OSError:
            logging.getLogger("reliq.renewals").debug("the process that is renewed for is gone")


def serve(wire: Wire, may_renew: Callable[[], bool]) -> None:
    """Renews for whoever holds the other end of a wire, until that is closed."""
    for word, queue, url, lease in wire.messages():
        if word != "queue":
            raise ValueError(f"a conversation begins with the queue, not with {word}")
        renewer = Renewer(wire, queue, url, lease, may_renew)
        try:
            renewer.serve()
        finally:
            renewer.stop()


class _Upwards(logging.Handler):
    """Log lines are the other process's: it has the handlers that its operators look at."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(logging.INFO)
        self._wire = wire

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nobody is left to read it
            self._wire.send("log", record.name, record.levelno, record.getMessage())


def main() -> None:
    """Serves the socket that is standard input. Signals to the group or the service are not for this process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wire, parent = Wire(socket.socket(fileno=os.dup(0))), os.getppid()
    log = logging.getLogger("reliq")
    log.setLevel(logging.INFO)
    log.addHandler(_Upwards(wire))
    serve(wire, lambda: os.getppid() == parent and works(parent))


if __name__ == "__main__":
    main()
    sys.exit()
