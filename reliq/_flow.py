"""The part of a worker's loop that never lets the server wait: it asks again before it has the answer to what it asked.

While a queue has more than a worker can hold, `DEPTH` requests are on their way to it: the server works on one while
this process reads the answer to the other, handles what came, and writes the next. An answer that brings less than was
asked for ends that; the ordinary turn takes over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from reliq import _plans, _policy
from reliq._settling import AWAY
from reliq._sources import Begin, End, Source, Steps, ask
from reliq._winding_down import WindingDown
from reliq.errors import ReliqError
from reliq.item import Claimed, Item

DEPTH = 2  # requests on their way: one that the server works on, and one that it finds when it is through with that
LEAST = 64  # items of a request: with fewer, requests cost the server more than they save


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way: what it finishes, and how many items it asks for."""

    finished: list[Item]
    want: int


class Flowing(WindingDown):
    """Requests on their way, of a worker of one queue."""

    def _prepare(self) -> None:
        super()._prepare()
        self._asked: deque[Asked] = deque()
        self._flows = False

    def _came(self, source: Source, items: Claimed) -> None:
        raise NotImplementedError

    def _may_flow(self, want: int, count: int) -> bool:
        """Whether an answer says that there is more than this worker asks for at a time."""
        alone = len(self.sources) == 1 and self.options.max_items is None  # else who asks first gets less than its due
        return alone and count == want and self._share() >= LEAST

    def _share(self) -> int:
        """Items of a request: what handlers have in hand, and what is on its way, are as many each."""
        return self.ledger.capacity(self.pace.rate) // (DEPTH + 1)

    def _in_flow(self) -> bool:
        """Whether a request is on its way, or may be sent."""
        return bool(self._asked) or (self._flows and self._room_ahead() >= self._share())

    def _flow(self) -> Steps:
        """Sends what may be sent, then takes the oldest answer."""
        (source,) = self.sources
        share = self._share()
        while self._flows and len(self._asked) < DEPTH and self._room_ahead() >= share:
            yield from self._begin(source, share)
        if self._asked:
            yield from self._end(source)

    def _room_ahead(self) -> int:
        on_their_way = sum(asked.want for asked in self._asked)
        return self.ledger.capacity(self.pace.rate) - self.ledger.under_way - self.ledger.reserved - on_their_way

    def _unsent(self) -> bool:
        """Whether something is to be finished for which there was no request left to go with."""
        return any(source.pending.finished for source in self.sources)

    def _begin(self, source: Source, want: int) -> Steps:
        asked = Asked(source.pending.finished, want)
        source.pending.finished = []
        source.renewals.forget(asked.finished)
        request = _plans.ClaimRequest(want, self.options.lease, _policy.BLOCK)
        plan = ask(source.session, request, finished=asked.finished)
        try:
            yield from self._called(source, Begin(source.queue, plan))
        except BaseException as error:
            self._unanswered(source, asked)
            if not isinstance(error, AWAY):
                raise
        else:
            self._asked.append(asked)

    def _end(self, source: Source) -> Steps:
        asked = self._asked[0]
        try:
            items, _ = yield from self._called(source, End(source.queue))
        except BaseException as error:
            self._unanswered(source, asked)
            if not isinstance(error, AWAY):
                raise
            return
        finally:
            self._asked.popleft()
        if asked.finished:
            self._through(asked.finished, items.lost, "finished")
        self._flows = self._flows and len(items) == asked.want
        self._came(source, items)

    def _unanswered(self, source: Source, asked: Asked) -> None:
        """Nobody knows whether it was done: what it was to finish is finished again, under the same receipts."""
        self._flows = False
        source.renewals.watch(asked.finished)
        source.pending.finished[:0] = asked.finished

    def _drain(self) -> Steps:
        """Takes what is still on its way."""
        while self._asked:
            try:
                yield from self._end(self.sources[0])
            except ReliqError as error:
                self.error = self.error or error
