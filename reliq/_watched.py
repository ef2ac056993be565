"""What whoever renews leases has to keep in mind, and how it is talked to."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from reliq import _arguments
from reliq.item import Item

log = logging.getLogger("reliq.renewals")

OnLost = Callable[[list[Item]], object]
Lease = tuple[bytes, bytes]  # id and receipt, as the server has them: no two deliveries share both


class Renewals(Protocol):
    """Renews the leases of watched items every third of a lease, until they are forgotten or lost."""

    def start(self) -> None:
        """Begins, and waits until it has. What is watched before is renewed from here on."""

    def watch(self, items: Sequence[Item]) -> None:
        """Renews these from now on. From any thread; costs a dict update."""

    def forget(self, items: Iterable[Item]) -> None:
        """Renews these no more, and says nothing more about them. Before the call that settles them. Any thread."""

    def stop(self) -> None:
        """Ends. Nothing is renewed after it; what is held is left to its lease. A second call does nothing."""


class Watched:
    """The items that are to be renewed. Threads share it.

    A set, because a worker puts every item in and takes it out again, and only what takes long is ever renewed.
    """

    def __init__(self) -> None:
        self._items: set[Item] = set()
        self._lock = threading.Lock()
        _all.add(self)

    def add(self, items: Sequence[Item]) -> list[Item]:
        """Takes items in. Returns those that they replace: an item has one lease, so an earlier one is lost."""
        again = {item.key: item for item in items if item.delivery > 1} if redelivered(items) else {}
        with self._lock:
            replaced = [item for item in self._items if _is_older(item, again.get(item.key))] if again else []
            self._items.difference_update(replaced)
            self._items.update(items)
        for item in replaced:
            item.lost = True
        return replaced

    def remove(self, items: Iterable[Item]) -> None:
        with self._lock:
            self._items.difference_update(items)

    def forget(self, leases: Iterable[Lease]) -> None:
        """As `remove`, by leases."""
        with self._lock:
            self._items.difference_update(self._found(leases))

    def all(self) -> list[Item]:
        """Those of one claim side by side."""
        with self._lock:
            items = list(self._items)
        return sorted(items, key=lambda item: (item.proof, item.key))

    def lose(self, leases: Iterable[Lease]) -> list[Item]:
        """Takes out what the server says is not held. Returns what is lost by that: not what was settled meanwhile."""
        with self._lock:
            gone = self._found(leases)
            self._items.difference_update(gone)
        lost = [item for item in gone if not item.settled]
        for item in lost:
            item.lost = True
        return lost

    def extend(self, leases: Iterable[Lease], expires: float) -> None:
        """Notes that leases end at `expires` (monotonic seconds) or later."""
        with self._lock:
            items = self._found(leases)
        _arguments.extend(items, (), expires)

    def _found(self, leases: Iterable[Lease]) -> list[Item]:
        """The items under these very leases: by the time of an answer an id may be watched under a later one."""
        wanted = {(key, proof) for key, proof in leases}
        return [item for item in self._items if (item.key, item.proof) in wanted]

    def clear(self) -> None:
        with self._lock:
            self._items.clear()

    def forked(self) -> None:
        """A forked child holds nothing, and must not wait for a lock that a thread of its parent had."""
        self._items, self._lock = set(), threading.Lock()


_all: weakref.WeakSet[Watched] = weakref.WeakSet()


def _forked() -> None:
    for watched in _all:
        watched.forked()


os.register_at_fork(after_in_child=_forked)


def leases_of(items: Iterable[Item]) -> list[Lease]:
    """What tells these deliveries from earlier and later ones of the same items."""
    return [(item.key, item.proof) for item in items]


def redelivered(items: Iterable[Item]) -> bool:
    """Whether one of them was claimed before. Nearly none is: a look at the histories alone is all that it may cost."""
    return any(item._history for item in items)


def _is_older(item: Item, newer: Item | None) -> bool:
    return newer is not None and newer.proof != item.proof


def tell(on_lost: OnLost, lost: list[Item]) -> None:
    """Calls the user's function. What it raises must not end the renewing of everything else."""
    log.warning("lease lost on %d items, %s among them; their work will be done again", len(lost), lost[0].id)
    try:
        on_lost(lost)
    except Exception:
        log.exception("on_lost of %d items", len(lost))
