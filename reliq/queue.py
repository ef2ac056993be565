"""The queue as users have it, sync. `AsyncQueue` in queue_async.py has the same words; a test compares the two."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from reliq import _arguments, _codec, _commands, _ids, _plans, _policy, connect
from reliq._arguments import DEFAULT_LEASE, DEFAULT_TIMEOUT, Items
from reliq._codec import Codec
from reliq._driver import Driver
from reliq._keys import check_name
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import ItemNotFound, LeaseLost
from reliq.item import (
    Claimed,
    Counts,
    Enqueued,
    Failed,
    ItemInfo,
    ItemState,
    Moved,
    New,
    Recovered,
    Settings,
)


class Queue:
    """A reliable FIFO queue in Redis or Valkey.

    Threads may share one; a forked child may go on using it. Nothing is sent before the first call.

    Every method that talks to the server repeats its request with the same ids when an answer is missing, for `timeout`
    seconds in all, and then raises `Unavailable`, which says whether the request may have been applied. Repeating any
    call is safe. All of them raise `StateLost` or `StaleEpoch` where the server lost or rebuilt the queue since this
    client first saw it, `AccessDenied`, `ServerTooOld` and `UnsafeServer` where the server can't be used, and
    `CorruptState` where a key holds what reliq never writes.

    Args:
        name: 1 to 200 printable characters without spaces and braces.
        url: redis://, rediss://, unix:// or embedded://; without it the environment variable RELIQ_URL.
        client: instead of a URL, a redis.Redis whose connection settings are used (its retries are not).
        codecs: what payload bytes go through on their way in, in this order.
        max_payload: bytes that a stored payload may have.
        timeout: seconds after which a call gives up.

    Raises:
        InvalidArgument, InvalidURL.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        client: object = None,
        codecs: Sequence[Codec] = (),
        max_payload: int = _codec.MAX_PAYLOAD,
        timeout: Seconds = DEFAULT_TIMEOUT,
    ) -> None:
        self.name = check_name(name)
        self._session = Session(name, codecs=codecs, max_payload=max_payload)
        connector = connect.connector(url or os.environ.get("RELIQ_URL"), client)
        self._driver = Driver(connector, self._session, _policy.seconds(timeout, "timeout", low=0, high=86400))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def close(self) -> None:
        """Closes idle connections. The queue can be used again afterwards."""
        self._driver.close()

    # Producers

    def enqueue(
        self,
        payload: Any,
        *,
        id: str | None = None,
        delay: Seconds | None = None,
        at: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Enqueued:
        """Adds an item at the tail of the queue, or lets it wait until it is due.

        An id that the queue knows is left as it is, whatever its state: then `created` is False. Ids of finished and
        removed items are known for the queue's retention (`finished_age`, `finished_count`).

        Args:
            payload: anything that msgpack can carry, and datetime, date, timedelta, UUID, Decimal, large integers.
            id: 1 to 200 bytes of printable text, for a payload that must not be enqueued twice; None for a new UUIDv7.
            delay: seconds (or a timedelta) until it is due, up to ten years.
            at: Unix seconds on the server's clock at which it is due. Not together with `delay`.
            headers: string pairs that travel beside the payload.

        Returns:
            The id, and whether this call created the item. Where a reply got lost on the way, an item with an `id` of
            yours that the lost attempt created counts as known.

        Raises:
            PayloadError: the payload can't be carried or is over `max_payload`; nothing was sent.
            QueueFull, QueuePaused, MemoryFull: nothing was added.
            Unavailable: see `may_have_been_applied`.

        If the caller dies in this call, the item was added whole or not at all.
        """
        body = _plans.body_of(self._session, New(payload, id, delay, at, headers), iter(_ids.new_keys(1)))
        self._driver.register()
        return self._driver.call(_commands.enqueue([body]))[0]

    def enqueue_many(self, payloads: Iterable[Any], *, batch: int = MAX_BATCH) -> list[Enqueued]:
        """Adds many items in the order given, in batches of one round trip each.

        Args:
            payloads: payloads, or `New(payload, id=..., delay=..., at=..., headers=...)` for those with options. Taken
                lazily: a generator over a large file is never held in memory.
            batch: items in a round trip, 1 to 1,000. Each batch is added whole or not at all.

        Returns:
            One `Enqueued` for each payload, in order.

        Raises:
            As `enqueue`. The error's `enqueued` has what was added before it.
        """
        size = _policy.whole(batch, "batch", low=1, high=MAX_BATCH)
        self._driver.register()
        return self._driver.run(_plans.enqueue_many(self._session, payloads, size))

    # Consumers

    def claim(self, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0) -> Claimed:
        """Takes the oldest items under a lease. End each with exactly one of `finish`, `release` and `fail`.

        Before that it returns up to 100 items whose lease has ended and up to 100 due items to the queue. Items whose
        payload can't be decoded are set aside among the dead and listed in the result's `unreadable`.

        Args:
            count: items at most, 1 to 1,000.
            lease: seconds until others may have them, 0.001 to 86,400. The claim is one lease: `renew` extends it.
            wait: seconds to wait where the queue is empty, 0 to 86,400. Waiting does not poll.

        Returns:
            The items, oldest first; empty where there is none in time.

        If the caller dies after this call, its items are claimed by others when the lease has ended. A claim that was
        broken off (an error, a cancelled task) loses nothing: the next one on this object brings the same items.
        """
        return self._driver.run(_plans.claim(self._session, _arguments.claim_request(count, lease, wait)))

    def finish_and_claim(
        self, items: Items, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0
    ) -> Claimed:
        """Finishes items and takes the next ones, in one round trip: a worker's loop.

        Args:
            items: what is done; as for `finish`.
            count: items at most, as for `claim`.
            lease: seconds, as for `claim`.
            wait: seconds, as for `claim`.

        Returns:
            The next items. Its `lost` has the ids that could not be finished because their lease was lost.
        """
        return self._driver.run(
            _plans.finish_and_claim(
                self._session, _arguments.listed(items), _arguments.claim_request(count, lease, wait)
            )
        )

    def finish(self, items: Items) -> None:
        """Ends items for good: their work is done.

        Counts also after the lease has ended, as long as nobody recovered the item; from then on it is refused. Doing
        it again is a quiet yes.

        Raises:
            LeaseLost: for some of them; the others are finished.
        """
        self._raise_lost(self._driver.run(_plans.in_batches(_commands.finish, _arguments.listed(items))))

    def release(self, items: Items) -> None:
        """Gives items back that were not started: to the head of the queue, in their order, without blame.

        Raises:
            LeaseLost: for some of them; the others are released.
        """
        self._raise_lost(self._driver.run(_plans.in_batches(_commands.release, _arguments.listed(items))))

    def renew(self, items: Items, lease: Seconds = DEFAULT_LEASE) -> None:
        """Extends the leases of items to `lease` seconds from now, never back.

        The items of one claim share one lease: renewing one of them renews what the claim still holds.

        Raises:
            LeaseLost: for some of them; stop working on these. The others are renewed.
        """
        length, asked_at, held = _arguments.lease_length(lease), time.monotonic(), _arguments.listed(items)
        lost = self._driver.run(_plans.in_batches(lambda part: _commands.renew(part, length), held))
        _arguments.extend(held, lost, asked_at + length)
        self._raise_lost(lost)

    def fail(
        self,
        items: Items,
        error: BaseException | str = "",
        *,
        retry_after: Seconds | None = None,
        dead: bool = False,
    ) -> list[Failed]:
        """Says that an attempt at items has failed. They are tried again, or are dead when `max_attempts` is reached.

        Args:
            items: what could not be done.
            error: kept with the item, at most 4 KiB of its text.
            retry_after: seconds until the next attempt; None leaves it to the queue's `retry` and backoff settings.
            dead: no further attempt.

        Returns:
            What became of each item, in order.

        Raises:
            LeaseLost: for some of them; the others are dealt with.
        """
        after = (
            None if retry_after is None else _policy.seconds(retry_after, "retry_after", low=0, high=_policy.MAX_DELAY)
        )
        failures = [
            _commands.Failure(item, _arguments.error_text(error), after, dead) for item in _arguments.listed(items)
        ]
        outcomes = self._driver.run(_plans.fail(failures))
        self._raise_lost([item.id for item, outcome in outcomes if outcome is None])
        return [outcome for _, outcome in outcomes if outcome is not None]

    def recover(self, limit: int = MAX_BATCH) -> Recovered:
        """Takes back items whose lease has ended, as every claim does for up to 100 of them. Safe anywhere, any time.

        Where they go is the queue's `expiry` setting; an item whose failures and lost leases reach `max_deliveries` is
        dead.

        Args:
            limit: items at most, 1 to 1,000,000.
        """
        return self._driver.run(_plans.recover(_policy.whole(limit, "limit", low=1, high=1_000_000)))

    # Operators

    def requeue(self, *ids: str) -> Moved:
        """Puts scheduled, orphaned and dead items at the tail of the queue. Dead ones start their attempts afresh."""
        return self._driver.call(_commands.requeue(_arguments.checked_ids(ids)))

    def redrive(self, limit: int = MAX_BATCH) -> int:
        """Puts up to `limit` dead items back into the queue, those first that died first, with attempts afresh.

        Returns:
            How many it moved.
        """
        return self._driver.run(_plans.redrive(_policy.whole(limit, "limit", low=1, high=100_000_000)))

    def resolve(self, id: str | Sequence[str], decision: str) -> Moved:
        """Decides on orphaned (or dead) items after somebody looked whether their work was done.

        Args:
            id: one id, or up to 1,000 of them.
            decision: `finish`, it was done; `requeue`, it was not: to the head of the queue; `dead`, can't be told.
        """
        ids = [id] if isinstance(id, str) else list(id)
        word = _policy.one_of(decision, "decision", ("finish", "requeue", "dead"))
        return self._driver.call(_commands.resolve(_arguments.checked_ids(ids), word))

    def cancel(self, *ids: str) -> Moved:
        """Removes items that nobody has started: queued and scheduled ones. Their ids stay known."""
        return self._driver.call(_commands.cancel(_arguments.checked_ids(ids)))

    def discard(self, *ids: str) -> Moved:
        """Removes orphaned and dead items for good. Their ids stay known for the retention."""
        return self._driver.call(_commands.discard(_arguments.checked_ids(ids)))

    def purge(self, *states: ItemState | str) -> int:
        """Removes all items of the given states: without any, everything queued, scheduled, orphaned and dead.

        Items in progress can't be purged. `finished` forgets the ids of ended items. Ids of purged items are forgotten.

        Returns:
            How many it removed.
        """
        return self._driver.run(_plans.purge(_arguments.purgeable(states)))

    def pause(self, *, claim: bool = True, enqueue: bool = False) -> None:
        """Closes the queue for claims, for new items, or both, until `resume`. Items in progress go on."""
        self._driver.register()
        self._driver.call(_commands.pause(claim=claim, enqueue=enqueue))

    def resume(self) -> None:
        """Opens the queue for claims and for new items, and wakes idle workers."""
        self._driver.call(_commands.resume())

    def drain(self, timeout: Seconds = 60.0) -> Counts:
        """Closes the queue for new items and waits until nothing is queued, scheduled or in progress.

        The queue stays closed for new items until `resume`.

        Raises:
            DrainTimeout: after `timeout` seconds.
        """
        limit = _policy.seconds(timeout, "timeout", low=0, high=7 * 86400.0)
        self._driver.register()
        return self._driver.run(_plans.drain(self.name, limit))

    def configure(self, **changes: Any) -> Settings:
        """Changes settings of the queue, for all its clients; a queue that does not exist is made. See `Settings`.

        Args:
            changes: settings by name; None puts one back to its default.

        Returns:
            All settings as they are now. Without changes it only makes the queue, where there is none.

        Raises:
            InvalidArgument: an unknown setting, or a value out of range.
        """
        command = _commands.configure(_policy.settings(changes))
        self._driver.register()
        return self._driver.call(command)

    def adopt(self) -> None:
        """Accepts the queue as the server has it now: after `StateLost`, or after `StaleEpoch`.

        What this client held before can't be finished any more. Only a person, or a program that knows what was lost,
        should call it.
        """
        self._session.epoch = b""

    # Looking

    def counts(self) -> Counts:
        """Items by state, and totals. One call, however many items there are."""
        return self._driver.call(_commands.inspect())[0]

    def settings(self) -> Settings:
        """The queue's settings, defaults included."""
        return self._driver.call(_commands.inspect())[1]

    def oldest_age(self, state: ItemState | str = ItemState.QUEUED) -> float | None:
        """Seconds since the item was enqueued that stands first in a state; None where the state is empty.

        First is: next to be claimed, first to fall due, first lease to end, longest orphaned, longest dead.
        """
        return self._driver.call(_commands.oldest(_arguments.live_state(state)))

    def get(self, id: str) -> ItemInfo:
        """Everything that the queue knows about an item.

        Raises:
            ItemNotFound: never enqueued, purged, or ended and forgotten.
        """
        info = self._driver.call(_commands.get(self._session, [_ids.pack(_ids.check(id))]))[0]
        if info is None:
            raise ItemNotFound(self.name, id)
        return info

    def scan(self, state: ItemState | str = ItemState.QUEUED, *, page: int = 100) -> Iterator[ItemInfo]:
        """Goes through the items of one state, a bounded page at a time, while the queue is live.

        Scheduled, orphaned and dead items are met exactly once, also when those already seen are moved on the way.
        In the other states what moves meanwhile may be missed.

        Args:
            state: the state to go through.
            page: items fetched at a time, 1 to 1,000.
        """
        wanted = ItemState(_policy.one_of(state, "state", list(ItemState)))
        size = _policy.whole(page, "page", low=1, high=1000)
        cursor, more = b"", True
        while more:
            infos, cursor = self._driver.run(_plans.scan_page(self._session, wanted, cursor, size))
            yield from infos
            more = cursor != b""

    def peek(self, count: int = 1) -> list[ItemInfo]:
        """The next items to be claimed, without claiming them: 1 to 1,000."""
        size = _policy.whole(count, "count", low=1, high=1000)
        return self._driver.run(_plans.peek(self._session, size))

    def _raise_lost(self, lost: Sequence[str]) -> None:
        if lost:
            raise LeaseLost(self.name, lost)


def queues(url: str | None = None, *, client: object = None, timeout: Seconds = DEFAULT_TIMEOUT) -> list[str]:
    """Names of the queues on a server, in order: those that were ever made there with this layout.

    It reads a listing that no queue depends on: where the server refused to add a name to it, that name is missing.

    Args:
        url: as for `Queue`; without it the environment variable RELIQ_URL.
        client: instead of a URL, as for `Queue`.
        timeout: seconds after which it gives up.

    Raises:
        InvalidArgument, InvalidURL, AccessDenied, ServerTooOld, UnsafeServer.
        Unavailable: the server did not answer within `timeout`.
    """
    with Queue("-", url, client=client, timeout=timeout) as connection:  # nothing is sent for this name
        return connection._driver.names()
