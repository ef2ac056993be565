"""What people do to a queue, and how they look at it. A part of `Queue`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reliq import _arguments, _commands, _cron, _ids, _plans, _policy
from reliq._driver import Driver
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import ItemNotFound, WaitTimeout
from reliq.info import BatchProgress, Counts, Cron, ItemInfo, Settings, WorkerInfo
from reliq.outcomes import Moved
from reliq.states import ItemState


class Operating:
    """Operating a queue, and looking at it."""

    name: str
    _session: Session
    _driver: Driver

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

    # Recurring items

    def set_cron(
        self,
        name: str,
        expression: str,
        payload: Any,
        *,
        time_zone: str = "UTC",
        headers: Mapping[str, str] | None = None,
        group: str | None = None,
        missed: str = "one",
    ) -> Cron:
        """Has an item enqueued at each tick of a cron expression, from now on, by whichever worker is there.

        What has the name already is replaced; where its expression and zone are the same its next tick stays, so that
        a program may call this at each start. One that is paused stays so. The id of an item is `cron:{name}:{tick}`,
        the tick in UTC, as in `cron:report:2027-01-15T04:30:00Z`.

        Args:
            name: its own in this queue, 1 to 100 bytes of printable text.
            expression: five fields as in crontab, or six with seconds first.
            payload: of its items, 64 KiB at most.
            time_zone: in which the expression counts, such as `Europe/Berlin`.
            headers: of its items.
            group: of its items.
            missed: what becomes of ticks that nobody saw in time: `one` item for the last of them; `all`, an item for
                each, 1,000 at most; `skip`, none for those that are over by more than a minute.

        Returns:
            It, with its next tick.

        Raises:
            InvalidArgument: no expression, no zone, over 1,000 of them in this queue, the package cronsim is missing.
            PayloadError.
        """
        definition = _cron.define(self._session, name, expression, payload, time_zone, headers, group, missed)
        self._driver.register()
        return self._driver.run(_cron.keep(self._session, name, definition))

    def remove_cron(self, name: str) -> bool:
        """Forgets a recurring item. Items that it has enqueued stay. False where there is none of this name."""
        return self._driver.run(_cron.remove(_cron.check_name(name)))

    def pause_cron(self, name: str) -> bool:
        """Takes the ticks of a recurring item away until it is resumed. False where there is none of this name."""
        return self._driver.run(_cron.pause(_cron.check_name(name)))

    def resume_cron(self, name: str) -> bool:
        """Gives a recurring item its ticks back, from now on: those meanwhile are over. False where there is none."""
        return self._driver.run(_cron.resume(_cron.check_name(name)))

    def crons(self) -> list[Cron]:
        """The recurring items, those whose tick comes first ahead, paused ones last."""
        return self._driver.run(_cron.list_all(self._session))

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

    def wait(self, id: str, timeout: Seconds = 60.0) -> ItemInfo:
        """Waits until an item has come to an end: finished (with its `result`), removed, or dead. Does not poll.

        An item that ended before and is remembered is answered at once. Each caller that waits has a connection.

        Args:
            id: of the item.
            timeout: seconds to wait, 0 to 604,800.

        Raises:
            WaitTimeout: it has not come to an end in time.
            ItemNotFound: the queue does not know it (any more).
        """
        key, seconds = _ids.pack(_ids.check(id)), _policy.seconds(timeout, "timeout", low=0, high=7 * 86400.0)
        info = self._driver.run(_plans.wait_for_end(self._session, key, seconds))
        if info is None:
            raise WaitTimeout(self.name, id, seconds)
        if info.problem == _plans.UNKNOWN:
            raise ItemNotFound(self.name, id)
        return info

    def batch_progress(self, batch_id: str) -> BatchProgress | None:
        """How far a batch is. None where it is through, or was never begun.

        Args:
            batch_id: as `Batch.id` has it.
        """
        return self._driver.call(_commands.batch_progress(_ids.pack(_ids.check(batch_id))))

    def workers(self) -> list[WorkerInfo]:
        """Who works on this queue, those seen last first, 1,000 at most. Who was not seen for an hour is forgotten."""
        return self._driver.call(_commands.workers())

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
