"""A worker's loop, for threads and for tasks: a generator that yields what is to be done. It does no I/O itself.

One turn settles what handlers are through with, and claims as much as there is room for, in one round trip for each
queue. Then it waits until that is worth while again. `_settling.py` and `_winding_down.py` are parts of it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from reliq import _plans, _policy
from reliq._flow import Flowing
from reliq._ledger import LINGER, Shares
from reliq._settling import AWAY
from reliq._sources import Buffer, Call, Heard, Listen, Source, Steps, Wait, ask, listen, listen_and_claim
from reliq._winding_down import VITAL
from reliq._worker_options import Options, Vitals
from reliq.item import Claimed

LEASES = 4  # a wait that ends in a claim takes no more than a quarter of the lease
STANDSTILL = 1.0  # seconds without an item handled after which the surplus goes back


class Turns(Flowing):
    """The state of a running worker, and its loop. One thread or task runs the loop.

    Others add to `finished` and `done`, read `enough` and call `stop`, `rung` and `hurry_up`.
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
        super().__init__(sources, options, clock=clock)
        self.buffer = buffer
        self.vitals = vitals
        self._prepare()
        self._shares = Shares(options.weights)
        self._name = os.urandom(16)
        self._rings: deque[Heard] = deque()
        self._listening = self._empty = self._fed = False
        self._ends_at = None if options.max_seconds is None else clock() + options.max_seconds

    def rung(self, heard: Heard) -> None:
        """The wait on the server is over: there is something in a queue, or it has come already, or it is time to ask.

        Items go to the handlers at once, and the loop takes note of them when it is its turn.
        """
        self._rings.append(heard)
        if heard.items:
            self.buffer.put(heard.items, 0)

    def facts(self) -> Mapping[str, Any]:
        """What the worker says of itself: fields of `WorkerInfo`. From any thread."""
        busy = max(0, self.ledger.under_way - len(self.buffer))
        return {"concurrency": self.options.concurrency, "busy": busy, **self.ledger.facts()}

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
        self._collect()
        self._take_back_surplus()
        for source in self.sources:
            yield from self._settle(source)
        fed, self._fed = self._fed and not self.ledger.idle, False
        if self._in_flow():
            yield from self._flow()
        elif not fed:  # else all handlers have something to do, and there is no more
            sure = yield from self._fill()
            for source in self.sources:
                yield from self._finish(source)
            self._empty = sure and not self._may_wait()
        self._tell_vitals()

    def _may_wait(self) -> bool:
        """Whether it makes sense to wait for items that are not there yet."""
        return bool(self.ledger.held) or not self.options.return_when_empty

    def _hear(self) -> None:
        """Not done by the one who rings: a ring must not be undone by an answer that is on its way."""
        while self._rings:
            heard = self._rings.popleft()
            for source in self.sources:
                if heard.key is None or source.wake_key == heard.key:
                    source.noted_until = self.clock() + heard.noted if heard.noted else 0.0
            if heard.items is not None:
                self._fed = 0 < len(heard.items) < self.ledger.reserved
                self._noted(self.sources[0], heard.items)
            self._listening, self.ledger.reserved = False, 0

    def _take_back_surplus(self) -> None:
        """What was claimed while handlers were fast does not wait behind those that have come to stand still."""
        if self._surplus() and self.pace.standstill(self.clock()) >= STANDSTILL:
            self._give_back(self.buffer.take_back(self.options.concurrency))

    def _surplus(self) -> bool:
        return self.options.prefetch is None and len(self.buffer) > self.options.concurrency

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
        """Items, with what is finished; or noted as idle. Returns how many, None: the server is not there."""
        finished, asked_at = source.pending.finished, self.clock()
        source.renewals.forget(finished)
        name = self._name if self._idle_after(finished) else b""
        request = _plans.ClaimRequest(want, self.options.lease, _policy.BLOCK)
        try:
            items, noted = yield from self._called(
                source, Call(source.queue, ask(source.session, request, name, finished))
            )
        except AWAY:
            source.renewals.watch(finished)
            return None
        if finished:
            self._through(finished, items.lost, "finished")
            source.pending.finished = []
        if name:
            source.noted_until = 0.0 if items else asked_at + noted
        self._flows = self._may_flow(want, len(items))
        self._came(source, items)
        return len(items)

    def _idle_after(self, finished: Sequence[object]) -> bool:
        """Whether a handler is without an item where these are finished and nothing comes."""
        waits = not self.options.return_when_empty or len(self.ledger.held) > len(finished)
        return self.ledger.idle and waits

    def _came(self, source: Source, items: Claimed) -> None:
        self._noted(source, items)
        if items:
            self.buffer.put(items, source.rank)

    def _noted(self, source: Source, items: Claimed) -> None:
        if items:
            source.renewals.watch(items)
            self.ledger.claimed(items)
        if self.vitals:
            self.vitals.claimed()

    # Waiting

    def _rest(self) -> Steps:
        if self._asked:
            self.enough = _policy.MAX_BATCH  # nobody waits at the gate: the loop waits for an answer
            yield Wait(0.0)
            return
        if self.ledger.idle and self._may_wait() and not self._listening:
            yield from self._listen()
        self.enough = self.ledger.enough(self.pace.rate)
        last = self._unsent() and not self.ledger.under_way  # nobody will hand in more
        at_once = last or self.handed_in() >= self.enough or not self._may_wait()  # the latter: ask a last time
        yield Wait(0.0 if at_once and not self._away() else self._patience())

    def _listen(self) -> Steps:
        """Waits for all queues at once, where each has this worker as idle. What one queue has then is claimed at once.

        Not with a short lease: of what comes, it is as old as the wait.
        """
        until = min(source.noted_until for source in self.sources) - self.clock()
        room = self.ledger.room(self.pace.rate)
        if until <= 0 or not room:
            return
        first, self._listening = self.sources[0], True
        if len(self.sources) > 1 or self.options.return_when_empty or self.options.lease < LEASES * until:
            keys = tuple(source.wake_key for source in self.sources)
            yield Listen(first.queue, partial(listen, keys, until))
        else:
            self.ledger.reserved = room
            request = _plans.ClaimRequest(room, self.options.lease, _policy.BLOCK)
            yield Listen(first.queue, partial(listen_and_claim, first.session, request, self._name, until))

    def _away(self) -> bool:
        """Whether nothing can be done before an unreachable server is asked again."""
        return any(source.failures for source in self.sources)

    def _patience(self) -> float | None:
        """Seconds until something is due without anybody saying so; None where nothing is."""
        now = self.clock()
        due = [source.again_at - now for source in self.sources if source.failures]
        if self.enough > 1 or self.handed_in() or self._unsent():
            due.append(LINGER)
        if self._surplus():
            due.append(STANDSTILL - self.pace.standstill(now))
        if self._ends_at is not None:
            due.append(self._ends_at - now)
        if self.vitals:  # a loop that waits for handlers is no loop that stands still
            due.append(VITAL)
        return max(0.0, min(due)) if due else None
