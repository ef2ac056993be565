"""Renews leases by a small process beside this one, so that nothing that happens in this one keeps it from that."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reliq import connect
from reliq._renewals_thread import PER_LEASE, ThreadRenewals, driver_for, sync_connector
from reliq._renewer_program import Program
from reliq._watched import OnLost, Watched, leases_of, log
from reliq._wire import Wire
from reliq.errors import InvalidArgument, ReliqError
from reliq.item import Item
from reliq.queue import Queue
from reliq.queue_async import AsyncQueue

SILENCE = 5.0  # seconds without a word, beyond two rounds, after which a renewer is taken for hung
SEND_TIMEOUT = 2.0  # seconds that a hot loop may be held up by a renewer that does not read
YOUNG = 10.0  # seconds; a renewer that does not live as long was no success
TRIES = 3  # young deaths in a row after which a thread takes over
START = 5.0  # seconds to wait for a renewer that is being started; it takes less than one where the machine is idle
FORGET_AT = 500  # items to forget that are worth a message of their own


class ProcessRenewals:
    """Renewals by `python -m reliq._renewer`, which is started again when it dies.

    Where it can't be started a thread takes over, with a line in the log. Items that are forgotten may be renewed once
    more. See `_renewer.py` for what goes over the wire.
    """

    def __init__(
        self, queue: Queue | AsyncQueue, lease: float, on_lost: OnLost, on_renewed: Callable[[], object]
    ) -> None:
        self._queue, self._lease, self._on_lost, self._on_renewed = queue, lease, on_lost, on_renewed
        self._connector = sync_connector(queue)
        self._watched = Watched()
        self._forgotten: list[Item] = []
        self._instead: ThreadRenewals | None = None
        self._wire: Wire | None = None
        self._program: Program | None = None
        self._changing = threading.Lock()  # of wire and program
        self._stopped, self._ready = threading.Event(), threading.Event()
        self._listener: threading.Thread | None = None
        _all.add(self)

    def start(self) -> None:
        """See `Renewals`. Waits for the process, five seconds at most."""
        self._stopped, self._ready = threading.Event(), threading.Event()
        self._listener = threading.Thread(target=self._run, args=(self._stopped,), name="reliq-renewed", daemon=True)
        self._open()
        self._listener.start()
        self._ready.wait(START)

    def watch(self, items: Sequence[Item]) -> None:
        """See `Renewals`. What it returns from has been handed to the process."""
        replaced = self._watched.add(items)
        if self._forgotten:  # not said yet: what is watched again must not be forgotten after that
            again = set(items)
            self._forgotten = [item for item in self._forgotten if item not in again]
        if self._instead:
            self._instead.watch(items)
        else:
            self._say_watch(items)
        if replaced:
            threading.Thread(target=self._on_lost, args=(replaced,), daemon=True).start()

    def forget(self, items: Iterable[Item]) -> None:
        """See `Renewals`."""
        gone = list(items)
        self._watched.remove(gone)
        if self._instead:
            self._instead.forget(gone)
            return
        self._forgotten += gone
        if len(self._forgotten) >= FORGET_AT:
            self._say_forget()

    def stop(self) -> None:
        """See `Renewals`."""
        listener, self._listener = self._listener, None
        self._stopped.set()
        self._close()
        if listener and listener is not threading.current_thread():
            listener.join()
        if self._instead:
            self._instead.stop()
        self._watched.clear()

    def forked(self) -> None:
        """A forked child lets go of the wire, so that it ends when the parent does; the process is the parent's."""
        if self._wire:
            self._wire.close()
        if self._program:
            self._program.forget()
        self._wire = self._program = self._listener = self._instead = None
        self._forgotten, self._changing = [], threading.Lock()

    # Talking

    def _say_watch(self, items: Sequence[Item]) -> None:
        claims: dict[bytes, list[bytes]] = {}
        for item in items:
            claims.setdefault(item.proof, []).append(item.key)
        if claims:
            self._say("watch", items[0].epoch, list(claims.items()))

    def _say_forget(self) -> None:
        gone, self._forgotten = self._forgotten, []
        if gone:
            self._say("forget", leases_of(gone))

    def _say(self, *message: Any) -> None:
        """A wire that is broken is seen by the listener, which then says everything again to another process."""
        if wire := self._wire:
            try:
                wire.send(*message)
            except OSError as error:
                log.warning("the renewing process takes nothing: %s", error)
                wire.shut()

    # Listening, in a thread

    def _run(self, stopped: threading.Event) -> None:
        young = 0
        while not stopped.is_set() and not self._instead:
            began = time.monotonic()
            self._listen(stopped)
            self._close()
            young = young + 1 if time.monotonic() - began < YOUNG else 1
            if stopped.is_set():
                return
            if young >= TRIES:
                self._take_over(f"it died {young} times within {YOUNG:g} s")
            elif not stopped.wait(0.05 * 4**young):
                log.warning("the renewing process is gone: starting another one")
                self._open()

    def _listen(self, stopped: threading.Event) -> None:
        """Hears the process until it dies or falls silent."""
        wire = self._wire
        while wire and not stopped.is_set():
            try:
                for message in wire.messages():
                    self._heed(*message)
                return
            except TimeoutError:
                if not self._has_more(wire):
                    log.warning("the renewing process is silent: starting another one")
                    return
            except (OSError, ValueError) as error:  # closed by `stop`, or reset by its death
                log.debug("%s", error)
                return

    def _has_more(self, wire: Wire) -> bool:
        """Whether something came while this process was stopped, or the interpreter's lock was held."""
        try:
            return bool(wire.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def _heed(self, word: str, *arguments: Any) -> None:
        if word == "ready":
            self._ready.set()
        elif word == "renewed":
            leases, expires = arguments
            self._watched.extend(leases, expires)
            self._on_renewed()
            self._say_forget()
        elif word == "lost":
            if lost := self._watched.lose(arguments[0]):
                self._on_lost(lost)
        elif word == "log":
            name, level, text = arguments
            logging.getLogger(name).log(level, "%s", text)

    # Starting and ending

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        wire = Wire(ours, (2 * self._lease / PER_LEASE + SILENCE, SEND_TIMEOUT))
        with theirs, self._changing:
            if self._stopped.is_set():
                wire.close()
                return
            try:
                self._program = self._launch(wire, theirs)
            except (OSError, ReliqError) as error:
                wire.close()
                self._take_over(str(error))
                return
            self._wire = wire
        self._say_watch(self._watched.all())

    def _launch(self, wire: Wire, theirs: socket.socket) -> Program:
        url = self._connector._url
        if not url:
            raise InvalidArgument("the queue was made with client=, which can't be handed to a process")
        wire.send("queue", self._queue.name, connect.plain_url(url), self._lease)
        return Program(theirs)

    def _close(self) -> None:
        with self._changing:
            wire, self._wire = self._wire, None
            program, self._program = self._program, None
        if wire:
            wire.shut()
            wire.close()
        if program:
            program.end()

    def _take_over(self, why: str) -> None:
        log.warning("leases are renewed by a thread, not by a process: %s", why)
        self._instead = ThreadRenewals(
            driver_for(self._connector, self._queue._session, self._lease),
            self._lease,
            self._on_lost,
            on_renewed=lambda _leases, _expires: self._on_renewed(),
        )
        self._instead.watch(self._watched.all())
        self._instead.start()
        self._ready.set()


_all: weakref.WeakSet[ProcessRenewals] = weakref.WeakSet()


def _forked() -> None:
    for renewals in _all:
        renewals.forked()


os.register_at_fork(after_in_child=_forked)
