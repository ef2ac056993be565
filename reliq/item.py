"""An item as its holder has it, the lease that it is held under, and an item that is yet to be enqueued."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an item has come, as its handler last said with `item.checkpoint`. The next delivery goes on from it.

    Attributes:
        state: what the handler needs to go on: anything that msgpack can carry, 64 KiB at most.
        done, total: how much of the work is done, for people who look; None where it can't be told.
        note: a few words for them, 200 characters at most.
        at: Unix seconds (server clock) of the checkpoint; None where it was made by this claim.
    """

    state: Any = None
    done: float | None = None
    total: float | None = None
    note: str = ""
    at: float | None = None


@dataclass(slots=True, eq=False)
class Lease:
    """The lease of one claim, shared by its items. `text_of` and `time_of` read the server's bytes.

    `proof` is the receipt as the server has it; `expires` is on this process's monotonic clock, counted from before the
    claim was sent; `owner` is the queue object that claimed.
    """

    queue: str
    proof: bytes
    seconds: float
    expires: float
    epoch: int
    owner: Any
    text_of: Callable[[bytes], str]
    time_of: Callable[[bytes], float]


class Item:
    """An item that this process has claimed. End it with exactly one of finish, release and fail.

    Made for many a second: what a handler may never ask for is worked out when it is asked for.

    Attributes:
        payload: what was enqueued.
        headers: string pairs that travel beside the payload.
        group: items of one group are handled one at a time and in their order; None for an item of no group.
        progress: the last checkpoint of this item, by this delivery or an earlier one; None where there is none.
        lost: the lease is known to be lost: stop, and undo or leave what was begun. False proves nothing.
        settled: finish, release or fail was called for it through its queue.
    """

    __slots__ = ("_history", "group", "headers", "held", "key", "lost", "payload", "progress", "settled", "stamp")

    def __init__(
        self,
        held: Lease,
        key: bytes,
        payload: Any,
        headers: Mapping[str, str],
        stamp: bytes = b"",
        history: bytes | None = None,
    ) -> None:
        self.held = held
        self.key = key  # the id as the server has it
        self.payload = payload
        self.headers = headers
        self.stamp = stamp  # when it was enqueued, and which enqueue that was, as the server has it
        self._history = history
        self.group: str | None = None
        self.progress: Progress | None = None
        self.lost = False
        self.settled = False

    def __repr__(self) -> str:
        return f"Item(id={self.id!r}, payload={self.payload!r}, queue={self.queue!r}, delivery={self.delivery})"

    @property
    def id(self) -> str:
        """Its id, immutable over its whole life."""
        return self.held.text_of(self.key)

    @property
    def delivery(self) -> int:
        """1 for the first claim, 2 for the second ...; with `epoch` a fencing number that only grows."""
        return 1 + (int(self._history.split(b" ", 2)[1]) if self._history else 0)

    @property
    def attempt(self) -> int:
        """1 plus the failures so far. Releases and lost workers are not failures."""
        return 1 + (int(self._history.split(b" ", 3)[2]) if self._history else 0)

    @property
    def epoch(self) -> int:
        """Generation of the queue's state."""
        return self.held.epoch

    @property
    def enqueued_at(self) -> float:
        """Unix seconds on the server's clock."""
        return self.held.time_of(self.stamp)

    @property
    def receipt(self) -> str:
        """Proves the lease. New at every claim, shared by the items of one claim."""
        return self.held.text_of(self.held.proof)

    @property
    def proof(self) -> bytes:
        """The receipt as the server has it."""
        return self.held.proof

    @property
    def queue(self) -> str:
        """Name of its queue."""
        return self.held.queue

    @property
    def lease(self) -> float:
        """Seconds that were asked for."""
        return self.held.seconds

    @property
    def expires(self) -> float:
        """When the lease ends, on this process's monotonic clock."""
        return self.held.expires

    @expires.setter
    def expires(self, when: float) -> None:
        self.held.expires = when

    @property
    def owner(self) -> Any:
        """The queue object that claimed it."""
        return self.held.owner

    def remaining(self) -> float:
        """Seconds until the lease ends unless it is renewed, by this process's own monotonic clock; negative after."""
        return self.held.expires - time.monotonic()

    def checkpoint(
        self, state: Any = None, *, done: float | None = None, total: float | None = None, note: str = ""
    ) -> Any:
        """Stores how far the work has come, and renews the lease: `queue.checkpoint(item, ...)`.

        On an item of an `AsyncQueue` this returns an awaitable.

        Args:
            state: what the next delivery needs to go on from here: anything that msgpack can carry, 64 KiB at most.
            done: how much of the work is done.
            total: how much there is in all.
            note: a few words for people who look, 200 characters at most.

        Raises:
            LeaseLost: somebody else may have the item: stop.
            PayloadError: the state can't be stored.
        """
        return self.held.owner.checkpoint(self, state, done=done, total=total, note=note)


class Claimed(list[Item]):
    """The items of one claim, oldest first.

    Attributes:
        lost: ids that `finish_and_claim` could not finish, because somebody else may have them now.
        unreadable: ids whose payload can't be decoded. They have been set aside among the dead, bytes and all.
    """

    lost: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class New:
    """An item to enqueue, with options.

    Attributes:
        payload: anything that msgpack can carry, and datetime, date, timedelta, UUID, Decimal, large integers.
        id: 1 to 200 bytes of printable text; None for a new UUIDv7.
        delay: seconds (or a timedelta) from now until it is due.
        at: Unix seconds (server clock) at which it is due. Not together with `delay`.
        headers: string pairs, for tracing for instance.
        group: 1 to 200 bytes of printable text. Items of one group are handled one at a time and in their order, also
            across retries and crashes. One that is delayed takes its place when it is due.
    """

    payload: Any
    id: str | None = None
    delay: float | dt.timedelta | None = None
    at: float | None = None
    headers: Mapping[str, str] | None = None
    group: str | None = None
