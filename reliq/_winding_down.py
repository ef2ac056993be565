"""How a worker ends: what no handler has begun goes back at once, what they run is waited for and settled."""

from __future__ import annotations

import logging

from reliq import _plans
from reliq._handlers import about
from reliq._ledger import LINGER
from reliq._settling import AWAY, Settling
from reliq._sources import Buffer, Call, Hush, Source, Steps, Wait, ask
from reliq._worker_options import Vitals
from reliq.errors import ReliqError
from reliq.item import Item

log = logging.getLogger("reliq.worker")

LAST_TRIES = 3.0  # seconds that go on being tried, where the server is away, when the last handler has ended
VITAL = 1.0  # seconds after which a loop that somebody watches goes round, whether there is something to do or not


class WindingDown(Settling):
    """The end of a worker's loop.

    Attributes:
        enough: so many items that handlers are through with are worth a turn.
        abandoned: what is left to its lease at the end.
    """

    buffer: Buffer
    vitals: Vitals | None

    def _prepare(self) -> None:
        self.enough = 1
        self.abandoned: list[Item] = []
        self.stopping, self._hurry = False, False
        self._refused = False  # whether the server said no to the question what a claim had brought
        self._ended_at: float | None = None  # when the last handler had ended, and the server was away

    def _drain(self) -> Steps:
        """Takes what the server was asked for and has not answered yet."""
        raise NotImplementedError

    def stop(self) -> None:
        """No further claim."""
        self.stopping = True

    def hurry_up(self) -> None:
        """No further wait, for handlers or a server that is away."""
        self.stopping = self._hurry = True

    def _wind_down(self) -> Steps:
        """Gives back at once what no handler has begun, so that nobody waits for handlers that run; then these."""
        self.stopping, self.enough = True, 1
        yield Hush()
        self._hear()
        yield from self._drain()
        timeout = self.options.shutdown_timeout
        give_up_at = None if timeout is None else self.clock() + timeout
        while True:
            yield from self._reclaim()
            self._give_back(self.buffer.take_back())
            self._collect()
            for source in self.sources:
                yield from self._settle_last(source)
            self._tell_vitals()
            late = give_up_at is not None and self.clock() >= give_up_at
            if self._hurry or late or self._in_vain() or not (self.ledger.held or self._unclear()):
                break
            if not self.handed_in():
                yield Wait(self._patience_at_the_end(give_up_at))
        self._abandon()

    def _tell_vitals(self) -> None:
        if self.vitals:
            self.vitals.turned()
            self.vitals.holding(len(self.ledger.held), self.ledger.under_way - len(self.buffer))

    def _in_vain(self) -> bool:
        """Whether all handlers have ended, and what they did can't be told to the server for too long."""
        if self.ledger.under_way or not any(source.failures for source in self.sources):
            self._ended_at = None
            return False
        self._ended_at = self._ended_at or self.clock()
        return self.clock() >= self._ended_at + LAST_TRIES

    def _patience_at_the_end(self, give_up_at: float | None) -> float | None:
        # not less than LINGER: a handler may run on for long, with nothing to settle before it ends
        due = [max(LINGER, source.again_at - self.clock()) for source in self.sources if source.failures]
        due += [] if give_up_at is None else [give_up_at - self.clock()]
        due += [VITAL] if self.vitals else []
        return max(0.0, min(due)) if due else None

    def _unclear(self) -> bool:
        """Whether there are claims that were broken off, and nobody knows what they brought."""
        return not self._refused and any(source.session.abandoned for source in self.sources)

    def _reclaim(self) -> Steps:
        """A claim that was broken off may have brought items that nobody saw. They go back as well."""
        for source in self.sources:
            while source.session.abandoned and not self._refused and self.clock() >= source.again_at:
                request = _plans.ClaimRequest(0, self.options.lease, 0.0)  # what that claim brought, and no more
                try:
                    items, _ = yield from self._called(source, Call(source.queue, ask(source.session, request)))
                except AWAY:
                    break
                except ReliqError as error:
                    log.warning("queue %s: %s", source.queue.name, error, extra={"reliq_queue": source.queue.name})
                    self._refused = True
                    break
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
        if items := self._unsettled(source):
            source.renewals.forget(items)
            self._through(items, [item.id for item in items], "lost")

    def _abandon(self) -> None:
        """Lets go of items whose handlers are not waited for any more, and of those that could not be settled."""
        self.abandoned = list(self.ledger.held)
        for source in self.sources:
            mine = [item for item in self.abandoned if item.queue == source.queue.name]
            source.renewals.forget(mine)
            for item in mine:
                log.warning("queue %s: item %s is left to its lease", item.queue, item.id, extra=about(item))
