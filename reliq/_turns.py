"""A worker's loop, for threads and for tasks: a generator that yields what is to be done. It does no I/O itself.

One turn settles what handlers are through with, and claims as much as there is room for, in one round trip for each
queue. Then it waits until that is worth while again.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reliq import _commands, _plans, _policy
from reliq._handlers import Outcome, Pending, about, kind_of
from reliq._ledger import LINGER, Ledger, Pace, Shares
from reliq._plans import Block, Plan
from reliq._session import Session
from reliq._worker_options import Options, Vitals
from reliq.errors import LeaseLost, PayloadError, ReliqError, Unavailable
from reliq.item import Claimed, Item

log = logging.getLogger("reliq.worker")

STANDSTILL = 1.0  # seconds without an item handled after which the surplus goes back
VITAL = 1.0  # seconds after which a loop that somebody watches goes round, whether there is something to do or not
SHORTEST = 0.01  # seconds of a wait on the server, also where something is due sooner


@dataclass(frozen=True, slots=True)
class Call:
    """Call a queue. The result is what it gives; errors are thrown in."""

    queue: Any
    make: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Listen:
    """Begin to wait for a token on the server, beside this loop. When that ends, `Turns.rung` is called."""

    queue: Any
    keys: tuple[bytes, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until somebody says that it is time, `seconds` at most; None for no bound."""

    seconds: float | None


Effect = Call | Listen | Wait
Steps = Generator[Effect, Any, Any]


class Buffer(Protocol):
    """Items that wait for a handler of this worker."""

    def put(self, items: Sequence[Item], rank: int) -> None:
        """Adds items. Those of a lower rank are taken first."""

    def take_back(self, keep: int = 0) -> list[Item]:
        """Takes items that no handler has begun, all but the first `keep`. In order."""

    def __len__(self) -> int:
        """How many there are."""


class Watcher(Protocol):
    """Renews leases."""

    def watch(self, items: Sequence[Item]) -> None:
        """Renews these from now on."""

    def forget(self, items: Iterable[Item]) -> None:
        """Renews these no more."""


@dataclass(slots=True, eq=False)
class Source:
    """A queue that a worker takes items from.

    Attributes:
        noted_until: monotonic time until which the server has this worker as idle.
        again_at: monotonic time before which an unreachable server is not asked again; `failures` in a row.
    """

    queue: Any
    number: int
    rank: int
    renewals: Watcher
    pending: Pending = field(default_factory=Pending)
    noted_until: float = 0.0
    failures: int = 0
    again_at: float = 0.0

    @property
    def wake_key(self) -> bytes:
        key: bytes = self.queue._session.keys["wake"]
        return key


def ask(
    session: Session, request: _plans.ClaimRequest, worker: bytes, *, clock: Callable[[], float] = time.monotonic
) -> Plan[tuple[Claimed, float]]:
    """Claims without waiting. Where nothing is there the worker is noted as idle for `request.wait` seconds at most.

    Returns:
        The items, and for how long it is noted: until something falls due.
    """
    while True:
        with _plans._receipt(session) as receipt:
            reply: _commands.ClaimReply = yield _commands.claim(
                session,
                request.count,
                lease=request.lease,
                receipt=receipt,
                asked_at=clock(),
                worker=worker,
                wait_ms=round(request.wait * 1000),
            )
            yield from _plans.set_aside(reply)
        if reply.items or not (reply.more or reply.broken or session.abandoned):
            due = request.wait if reply.next_ms < 0 else min(request.wait, reply.next_ms / 1000)
            return reply.items, max(SHORTEST, due)


def listen(keys: tuple[bytes, ...], seconds: float, breakable: Callable[[Any], object] | None) -> Plan[bytes | None]:
    """Waits for a token on any of the keys."""
    token: bytes | None = yield Block(seconds, keys, breakable)
    return token


class Turns:
    """The state of a running worker, and its loop. One thread or task runs the loop.

    Others add to `done`, read `enough` and call `stop`, `rung` and `hurry_up`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        options: Options,
        buffer: Buffer,
        vitals: Vitals | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sources = sources
        self.options = options
        self.buffer = buffer
        self.vitals = vitals
        self.clock = clock
        self.done: deque[Outcome] = deque()  # what handlers are through with
        self.enough = 1  # so many in there are worth a turn
        self.ledger = Ledger(options.concurrency, options.prefetch, options.max_items)
        self.pace = Pace(clock())
        self.error: BaseException | None = None  # what ends the worker, and is raised at its end
        self.abandoned: list[Item] = []
        self._by_name = {source.queue.name: source for source in sources}
        self._shares = Shares(options.weights)
        self._name = os.urandom(16)
        self._rings: deque[bytes | None] = deque()
        self._listening = False
        self.stopping, self._hurry, self._empty = False, False, False
        self._ends_at = None if options.max_seconds is None else clock() + options.max_seconds

    def stop(self) -> None:
        """No further claim."""
        self.stopping = True

    def hurry_up(self) -> None:
        """No further wait for handlers."""
        self.stopping = self._hurry = True

    def rung(self, key: bytes | None) -> None:
        """The wait on the server is over: there is something in a queue, or (None) it is time to ask again."""
        self._rings.append(key)

    def run(self) -> Steps:
        """Works until something ends it, then gives back, waits for the handlers and settles."""
        try:
            while not self._over():
                yield from self._turn()
                if not self._over():
                    yield from self._rest()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  a refusal, Ctrl-C, a cancelled task: first of all, give back
            self.error = error
        yield from self._wind_down()

    def _over(self) -> bool:
        out_of_time = self._ends_at is not None and self.clock() >= self._ends_at
        return bool(self.stopping or self.error or self._empty or out_of_time or self.ledger.full())

    def _turn(self) -> Steps:
        self._hear()
        self._collect()
        self._take_back_surplus()
        for source in self.sources:
            yield from self._settle(source)
        sure = yield from self._fill()
        for source in self.sources:
            yield from self._finish(source)
        self._empty = sure and not self._may_wait()
        if self.vitals:
            self.vitals.turned()
            self.vitals.holding(len(self.ledger.held), self.ledger.under_way - len(self.buffer))

    def _may_wait(self) -> bool:
        """Whether it makes sense to wait for items that are not there yet."""
        return bool(self.ledger.held) or not self.options.return_when_empty

    def _hear(self) -> None:
        """Not done by the one who rings: a ring must not be undone by an answer that is on its way."""
        while self._rings:
            key = self._rings.popleft()
            for source in self.sources:
                if key is None or source.wake_key == key:
                    source.noted_until = 0.0
            self._listening = False

    # What handlers are through with

    def _collect(self) -> None:
        """Files the ends of handlers."""
        count = len(self.done)
        self.pace.add(count, self.clock())
        self.ledger.handled += count
        take, by_name = self.done.popleft, self._by_name
        for _ in range(count):
            item, value = take()
            if value is None and not item.lost and not item.settled:
                by_name[item.queue].pending.finished.append(item)
            else:
                pending = by_name[item.queue].pending
                ending = pending.add(item, value, self.options.policies, self.options.results)
                self.error = self.error or ending

    def _take_back_surplus(self) -> None:
        """What was claimed while handlers were fast does not wait behind those that have come to stand still."""
        if self._surplus() and self.pace.standstill(self.clock()) >= STANDSTILL:
            self._give_back(self.buffer.take_back(self.options.concurrency))

    def _surplus(self) -> bool:
        return self.options.prefetch is None and len(self.buffer) > self.options.concurrency

    def _give_back(self, items: Iterable[Item]) -> None:
        for item in items:
            self.ledger.handled += 1
            pending = self._by_name[item.queue].pending
            (pending.lost if item.lost else pending.back).append(item)

    def _settle(self, source: Source) -> Steps:
        """Everything but what has just been finished: that leaves with the next claim."""
        pending = source.pending
        if pending.lost:
            source.renewals.forget(pending.lost)
            self._through(pending.lost, [item.id for item in pending.lost], "lost")
            pending.lost = []
        if pending.settled:
            source.renewals.forget(pending.settled)
            self._through(pending.settled, (), "finished")
            pending.settled = []
        if pending.back and (lost := (yield from self._tried(source, pending.back, "release"))) is not None:
            self._through(pending.back, lost, "released")
            pending.back = []
        if pending.failed:
            yield from self._settle_failed(source, pending.failed)
        if pending.results:
            yield from self._settle_results(source, pending.results)

    def _settle_failed(self, source: Source, failed: list[tuple[Item, BaseException]]) -> Steps:
        items = [item for item, _ in failed]
        lost = yield from self._tried(source, items, "fail_each", failed)
        if lost is not None:
            for kind in sorted({kind_of(answer) for _, answer in failed}):
                self._through([item for item, answer in failed if kind_of(answer) == kind], lost, kind)
            source.pending.failed = []

    def _settle_results(self, source: Source, results: list[tuple[Item, object]]) -> Steps:
        """All results in one call. Where one of them can't be stored each is tried alone, and that one has failed."""
        source.pending.results = []
        try:
            lost = yield from self._tried(source, [item for item, _ in results], "finish_each", results)
        except PayloadError as error:
            if len(results) == 1:
                source.pending.failed.append((results[0][0], error))
                yield from self._settle_failed(source, source.pending.failed)
                return
            for one in results:
                yield from self._settle_results(source, [one])
            return
        if lost is None:
            source.pending.results += results
        else:
            self._through([item for item, _ in results], lost, "finished")

    def _finish(self, source: Source) -> Steps:
        if finished := source.pending.finished:
            lost = yield from self._tried(source, finished, "finish")
            if lost is not None:
                self._through(finished, lost, "finished")
                source.pending.finished = []

    def _tried(self, source: Source, items: list[Item], verb: str, what: object = None) -> Steps:
        """Settles items. Returns the ids of those that were lost, None where the server could not be reached."""
        if self.clock() < source.again_at:
            return None
        source.renewals.forget(items)
        try:
            what = items if what is None else what
            yield from self._called(source, lambda queue: getattr(queue, verb)(what))
        except LeaseLost as error:
            return error.ids
        except Unavailable:
            source.renewals.watch(items)
            return None
        return ()

    def _through(self, items: Sequence[Item], lost: Sequence[str], kind: str) -> None:
        self.ledger.settled(items, frozenset(lost), kind)
        if lost:
            for item in items:
                if item.lost:
                    log.warning("queue %s: lease lost on %s", item.queue, item.id, extra=about(item))

    def _called(self, source: Source, make: Callable[[Any], Any]) -> Steps:
        """Calls a queue, and keeps in mind whether its server can be reached."""
        try:
            result = yield Call(source.queue, make)
        except Unavailable as error:
            if not source.failures:
                log.warning("queue %s: %s", source.queue.name, error, extra={"reliq_queue": source.queue.name})
            source.failures += 1
            source.again_at = self.clock() + _policy.pause_before(source.failures)
            raise
        if source.failures:
            log.warning("queue %s: the server is back", source.queue.name, extra={"reliq_queue": source.queue.name})
        source.failures, source.again_at = 0, 0.0
        return result

    # What comes next

    def _fill(self) -> Steps:
        """Claims for all room there is. Returns whether every queue said that it has nothing."""
        now, got = self.clock(), 0
        hungry = [source.number for source in self.sources if self._asks(source, now)]
        sure = len(hungry) == len(self.sources)
        while hungry and (room := self.ledger.room(self.pace.rate)):
            for number, share in self._shares.divide(room, hungry):
                want = min(share, room)
                if not want:
                    break
                count = yield from self._claim(self.sources[number], want)
                room -= count or 0
                sure, got = sure and count is not None, got + (count or 0)
                if self._satisfied(self.sources[number], want, count):
                    hungry.remove(number)
        return sure and not got and not hungry

    def _asks(self, source: Source, now: float) -> bool:
        free = bool(source.pending.finished)  # a round trip is due in any case
        return now >= source.again_at and (free or now >= source.noted_until or not self._may_wait())

    def _satisfied(self, source: Source, want: int, count: int | None) -> bool:
        """Whether to ask no more: nothing is left there, and nobody is idle who is not noted as that."""
        if count is None:
            return True
        noted = source.noted_until > self.clock() or not self.ledger.idle or not self._may_wait()
        return count < want and noted

    def _claim(self, source: Source, want: int) -> Steps:
        """Items; with what is finished, or to be noted as idle. Returns how many, None: the server is not there."""
        finished, lease = source.pending.finished, self.options.lease
        source.renewals.forget(finished)
        try:
            if finished:
                items = yield from self._called(source, lambda q: q.finish_and_claim(finished, want, lease=lease))
            elif self.ledger.idle and self._may_wait():
                items = yield from self._ask(source, want)
            else:
                items = yield from self._called(source, lambda queue: queue.claim(want, lease=lease))
        except Unavailable:
            source.renewals.watch(finished)
            return None
        if finished:
            self._through(finished, items.lost, "finished")
            source.pending.finished = []
        self._came(source, items)
        return len(items)

    def _ask(self, source: Source, want: int) -> Steps:
        request = _plans.ClaimRequest(want, self.options.lease, _policy.BLOCK)
        asked_at = self.clock()
        items, noted = yield from self._called(
            source, lambda queue: queue._driver.run(ask(queue._session, request, self._name))
        )
        source.noted_until = 0.0 if items else asked_at + noted
        return items

    def _came(self, source: Source, items: Claimed) -> None:
        if items:
            source.renewals.watch(items)
            self.ledger.claimed(items)
            self.buffer.put(items, source.rank)
        if self.vitals:
            self.vitals.claimed()

    # Waiting

    def _rest(self) -> Steps:
        if self.ledger.idle and self._may_wait() and not self._listening:
            yield from self._listen()
        self.enough = self.ledger.enough(self.pace.rate)
        at_once = len(self.done) >= self.enough or not self._may_wait()  # the latter: ask all queues for the last time
        yield Wait(0.0 if at_once and not self._away() else self._patience())

    def _listen(self) -> Steps:
        """Waits for all queues at once, where each has this worker as idle."""
        until = min(source.noted_until for source in self.sources) - self.clock()
        if until > 0 and self.ledger.room(self.pace.rate):
            self._listening = True
            keys = tuple(source.wake_key for source in self.sources)
            yield Listen(self.sources[0].queue, keys, until)

    def _away(self) -> bool:
        """Whether nothing can be done before an unreachable server is asked again."""
        return any(source.failures for source in self.sources)

    def _patience(self) -> float | None:
        """Seconds until something is due without anybody saying so; None where nothing is."""
        now = self.clock()
        due = [source.again_at - now for source in self.sources if source.failures]
        if self.enough > 1 or self.done:
            due.append(LINGER)
        if self._surplus():
            due.append(STANDSTILL - self.pace.standstill(now))
        if self._ends_at is not None:
            due.append(self._ends_at - now)
        if self.vitals:  # a loop that waits for handlers is no loop that stands still
            due.append(VITAL)
        return max(0.0, min(due)) if due else None

    # The end

    def _wind_down(self) -> Steps:
        """Gives back at once what no handler has begun, so that nobody waits for handlers that run; then these."""
        self.stopping, self.enough = True, 1
        if self.error is not None and not isinstance(self.error, ReliqError):
            yield from self._reclaim()
        give_up_at = None
        if self.options.shutdown_timeout is not None:
            give_up_at = self.clock() + self.options.shutdown_timeout
        while True:
            self._give_back(self.buffer.take_back())
            self._collect()
            for source in self.sources:
                yield from self._settle_last(source)
            late = give_up_at is not None and self.clock() >= give_up_at
            if not self.ledger.held or self._hurry or late:
                break
            # not less than LINGER: a handler may run on for long, with nothing to settle before it ends
            due = [max(LINGER, source.again_at - self.clock()) for source in self.sources if source.failures]
            due += [] if give_up_at is None else [give_up_at - self.clock()]
            if not self.done:
                yield Wait(max(0.0, min(due)) if due else None)
        self._abandon()

    def _reclaim(self) -> Steps:
        """A claim that was broken off may have brought items that nobody saw. They go back as well."""
        for source in self.sources:
            if source.queue._session.abandoned:
                try:
                    items = yield Call(source.queue, lambda queue: queue.claim(lease=self.options.lease))
                except ReliqError as error:
                    log.warning("queue %s: %s", source.queue.name, error, extra={"reliq_queue": source.queue.name})
                else:
                    self.ledger.claimed(items)
                    self._give_back(items)

    def _settle_last(self, source: Source) -> Steps:
        """Settles, or leaves to the lease what can't be settled any more."""
        try:
            yield from self._settle(source)
            yield from self._finish(source)
        except ReliqError as error:
            self.error = self.error or error
            self._lose(source)
        if source.failures and all(item.expires < self.clock() for item in self.ledger.held):
            self._lose(source)

    def _lose(self, source: Source) -> None:
        pending = source.pending
        items = pending.finished + pending.back + pending.lost + pending.settled
        items += [item for item, _ in pending.results] + [item for item, _ in pending.failed]
        source.pending = Pending()
        if items:
            source.renewals.forget(items)
            self._through(items, [item.id for item in items], "lost")

    def _abandon(self) -> None:
        """Lets go of items whose handlers are not waited for any more."""
        self.abandoned = list(self.ledger.held)
        for source in self.sources:
            mine = [item for item in self.abandoned if item.queue == source.queue.name]
            source.renewals.forget(mine)
            for item in mine:
                log.warning(
                    "queue %s: item %s is left to its lease",
                    item.queue,
                    item.id,
                    extra=about(item),
                )
