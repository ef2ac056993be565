"""The half of a worker's loop that deals with what handlers are through with: finish, fail, give back."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reliq import _arguments, _commands, _plans, _policy
from reliq._handlers import Outcome, Pending, about, kind_of
from reliq._ledger import Ledger, Pace
from reliq._plans import Plan
from reliq._sources import Begin, Call, End, Source, Steps
from reliq._worker_options import Options
from reliq.errors import PayloadError, Unavailable
from reliq.item import Item

log = logging.getLogger("reliq.worker")

AWAY = (_policy.Retry, Unavailable)  # what says that the server can't be reached, or can't serve, now


class Settling:
    """What the worker holds, and how it lets go of that.

    Attributes:
        finished: items whose handler returned None, by far the most; handlers add to it.
        done: the same for every other end.
        error: what ends the worker, and is raised at its end.
    """

    def __init__(
        self, sources: Sequence[Source], options: Options, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sources = sources
        self.options = options
        self.clock = clock
        self.finished: deque[Item] = deque()
        self.done: deque[Outcome] = deque()
        self.ledger = Ledger(options.concurrency, options.prefetch, options.max_items)
        self.pace = Pace(clock())
        self.error: BaseException | None = None
        self._by_name = {source.queue.name: source for source in sources}

    def _hear(self) -> None:
        """Takes note of what came beside the loop."""
        raise NotImplementedError

    def handed_in(self) -> int:
        """Items that handlers are through with, and that the loop has not looked at."""
        return len(self.finished) + len(self.done)

    def _collect(self) -> None:
        """Files the ends of handlers."""
        finished = [self.finished.popleft() for _ in range(len(self.finished))]
        done = [self.done.popleft() for _ in range(len(self.done))]
        self._hear()  # not before: what a handler is through with must be known to be held
        self.pace.add(len(finished) + len(done), self.clock())
        self.ledger.handled += len(finished) + len(done)
        if len(self.sources) == 1:
            self.sources[0].pending.finished += finished
        else:
            for item in finished:
                self._by_name[item.queue].pending.finished.append(item)
        for item, value in done:
            pending = self._by_name[item.queue].pending
            ending = pending.add(item, value, self.options.policies, self.options.results)
            self.error = self.error or ending

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
        if pending.back:
            lost = yield from self._tried(source, pending.back, _plans.in_batches(_commands.release, pending.back))
            if lost is not None:
                self._through(pending.back, lost, "released")
                pending.back = []
        if pending.failed:
            yield from self._settle_failed(source)
        if pending.results:
            yield from self._settle_results(source)

    def _settle_failed(self, source: Source) -> Steps:
        failed = source.pending.failed
        plan = _plans.fail([_arguments.failure(item, error) for item, error in failed])
        outcomes = yield from self._tried(source, [item for item, _ in failed], plan)
        if outcomes is not None:
            lost = [item.id for item, outcome in outcomes if outcome is None]
            for kind in sorted({kind_of(answer) for _, answer in failed}):
                self._through([item for item, answer in failed if kind_of(answer) == kind], lost, kind)
            source.pending.failed = []

    def _settle_results(self, source: Source) -> Steps:
        """All results in one call. An item whose result can't be stored has failed."""
        endings = []
        for item, result in source.pending.results:
            try:
                endings.append((item, _arguments.packed_result(result)))
            except PayloadError as error:
                source.pending.failed.append((item, error))
        gone = {item for item, _ in source.pending.failed}
        source.pending.results = [pair for pair in source.pending.results if pair[0] not in gone]
        if endings:
            items = [item for item, _ in endings]
            lost = yield from self._tried(source, items, _plans.finish_with(endings))
            if lost is not None:
                self._through(items, lost, "finished")
                source.pending.results = []
        if gone:
            yield from self._settle_failed(source)

    def _finish(self, source: Source) -> Steps:
        if finished := source.pending.finished:
            lost = yield from self._tried(source, finished, _plans.finish(finished))
            if lost is not None:
                self._through(finished, lost, "finished")
                source.pending.finished = []

    def _tried(self, source: Source, items: list[Item], plan: Plan[Any]) -> Steps:
        """Settles items. Returns what came of it, None where the server could not be reached."""
        if self.clock() < source.again_at:
            return None
        source.renewals.forget(items)
        try:
            return (yield from self._called(source, Call(source.queue, plan)))
        except AWAY:
            source.renewals.watch(items)
            return None

    def _through(self, items: Sequence[Item], lost: Sequence[str], kind: str) -> None:
        _arguments.mark_settled(items)
        self.ledger.settled(items, frozenset(lost), kind)
        if lost:
            for item in items:
                if item.lost:
                    log.warning("queue %s: lease lost on %s", item.queue, item.id, extra=about(item))

    def _called(self, source: Source, call: Call | Begin | End) -> Steps:
        """Calls a queue once, and keeps in mind whether its server can be reached: this loop is who tries again."""
        extra = {"reliq_queue": source.queue.name}
        try:
            result = yield call
        except AWAY as error:
            if not source.failures:
                log.warning("queue %s: no answer, trying on: %s", source.queue.name, error, extra=extra)
            source.failures += 1
            source.again_at = self.clock() + _policy.pause_before(source.failures)
            raise
        if source.failures:
            log.warning("queue %s: the server is back", source.queue.name, extra=extra)
        source.failures, source.again_at = 0, 0.0
        return result

    def _unsettled(self, source: Source) -> list[Item]:
        """What could not be settled yet. It is taken from there."""
        pending, source.pending = source.pending, Pending()
        items = pending.finished + pending.back + pending.lost + pending.settled
        return items + [item for item, _ in pending.results] + [item for item, _ in pending.failed]
