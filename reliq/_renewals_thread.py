"""Renews leases by a thread of this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from reliq import _commands, _policy, connect
from reliq._driver import Driver
from reliq._session import Session
from reliq._watched import Lease, OnLost, Watched, leases_of, log
from reliq.connect import Connector
from reliq.errors import InvalidArgument, ReliqError, StaleEpoch, StateLost
from reliq.item import Item

PER_LEASE = 3  # renewals in the length of a lease: two may fail before it ends
LONGEST_CALL = 2.0  # seconds that one round of renewing goes on trying, so that `stop` need not wait for long


class ThreadRenewals:
    """Renewals by a daemon thread.

    Args:
        driver: sends the renewals; nobody else uses it.
        lease: seconds.
        on_lost: called with what is lost; must not raise.
        may_renew: asked before each round; a round that must not be is put off.
        on_renewed: told the leases of each call and the instant (monotonic seconds) up to which they are held.
    """

    def __init__(
        self,
        driver: Driver,
        lease: float,
        on_lost: OnLost,
        *,
        may_renew: Callable[[], bool] = lambda: True,
        on_renewed: Callable[[list[Lease], float], object] = lambda _leases, _expires: None,
    ) -> None:
        self.interval = lease / PER_LEASE
        self._driver, self._lease, self._on_lost = driver, lease, on_lost
        self._may_renew, self._on_renewed = may_renew, on_renewed
        self._watched = Watched()
        self._replaced: list[Item] = []
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """See `Renewals`."""
        self._stopped, self._pid = threading.Event(), os.getpid()
        self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="reliq-renew", daemon=True)
        self._thread.start()

    def watch(self, items: Sequence[Item]) -> None:
        """See `Renewals`."""
        if replaced := self._watched.add(items):
            self._replaced += replaced  # the thread tells: the caller is in the middle of its own work

    def forget(self, items: Iterable[Item]) -> None:
        """See `Renewals`."""
        self._watched.remove(items)

    def forget_leases(self, leases: Iterable[Lease]) -> None:
        """As `forget`, for one who has no items at hand."""
        self._watched.forget(leases)

    def stop(self) -> None:
        """See `Renewals`. Waits for a renewal that is on its way, a few seconds at most where the server is away."""
        thread, self._thread = self._thread, None
        self._stopped.set()
        if thread and self._pid == os.getpid() and thread is not threading.current_thread():
            thread.join()
        self._watched.clear()
        self._driver.close()

    def _run(self, stopped: threading.Event) -> None:
        pause = self.interval / 10  # what is watched from the beginning may have been held for long
        while not stopped.wait(pause):
            began = time.monotonic()
            done = self._may_renew() and self._round(stopped)
            again = self.interval if done else self.interval / 4
            pause = max(0.0, began + again - time.monotonic())

    def _round(self, stopped: threading.Event) -> bool:
        """Renews everything, 1,000 items a call. False: the server did not answer to one of them."""
        replaced, self._replaced = self._replaced, []
        self._tell(replaced)
        items, done = self._watched.all(), True
        for start in range(0, len(items), _policy.MAX_BATCH):
            if not stopped.is_set():
                done &= self._renew(items[start : start + _policy.MAX_BATCH])
        return done

    def _renew(self, items: list[Item]) -> bool:
        asked_at = time.monotonic()
        try:
            answer = self._driver.call(_commands.renew(items, self._lease))
            lost = set(answer)
        except (StateLost, StaleEpoch) as error:  # their claims are of another epoch, or nowhere
            log.warning("%s", error)
            lost = {item.id for item in items}
        except ReliqError as error:
            log.warning("%d items not renewed: %s", len(items), error)
            return False
        expires = asked_at + self._lease
        gone = {item for item in items if item.id in lost} if lost else set()
        kept = leases_of(item for item in items if item not in gone)
        self._watched.extend(kept, expires)
        self._on_renewed(kept, expires)
        self._tell(self._watched.lose(leases_of(gone)))
        return True

    def _tell(self, lost: list[Item]) -> None:
        if lost:
            self._on_lost(lost)


def driver_for(connector: Connector[Any], session: Session, lease: float) -> Driver:
    """A driver with connections of its own, that gives up in time for the next renewal."""
    patience = lease / PER_LEASE
    return Driver(cast("Connector[Any]", _Impatient(connector, patience)), session, min(LONGEST_CALL, patience))


def sync_connector(queue: Any) -> Connector[Any]:
    """A connector for the sync driver to where the own one of a `Queue` or an `AsyncQueue` goes."""
    if isinstance(queue._driver, Driver):  # these classes can't be asked for here: they consume, and so renew
        return queue._driver._connector
    url = queue._driver._connector._url
    if not url:
        raise InvalidArgument("leases of an AsyncQueue made with client= can't be renewed: pass a URL")
    return connect.connector(url, None)


class _Impatient:
    """Makes connections that don't wait longer for an answer than the time until the next renewal is due."""

    def __init__(self, connector: Connector[Any], patience: float) -> None:
        self._connector, self._patience = connector, patience
        self.sentinel = connector.sentinel

    def make(self, master: tuple[str, int] | None = None) -> Any:
        connection = self._connector.make(master)
        for name in ("socket_timeout", "socket_connect_timeout"):
            setattr(connection, name, min(getattr(connection, name, None) or self._patience, self._patience))
        return connection
