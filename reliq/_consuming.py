"""What consuming decides: a generator that yields what is to be done next, and is sent what came of it. No I/O.

The same generator serves a handler and a loop, sync and asyncio. Whoever runs it performs `Claim`, `Settle` and `Rest`
against the queue, and `Handle` by calling the handler or by giving the items to the body of the loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reliq import _policy
from reliq._consume_rules import WORDS, Decision, Rules, decision_of
from reliq._policy import MAX_DELAY
from reliq.answers import Answer, Discard, Release, Retry
from reliq.errors import InvalidArgument, ReliqError, Unavailable
from reliq.item import Claimed, Item

log = logging.getLogger("reliq.consume")

IDLE_WAIT = 60.0  # seconds of one waiting claim
UNREACHABLE_PAUSE = 1.0  # seconds between two claims that each gave up on the server
DONE = {"finish": "finished", "fail": "failed", "discard": "discarded", "release": "released"}  # as the report says
LEFT = "the loop was left before this item was finished"


@dataclass(slots=True)
class ConsumeReport:
    """What became of the items that were claimed. Those that were unreadable are not counted.

    Attributes:
        finished: handled, and finished on the server.
        failed: their attempt failed, or the handler answered `Retry`.
        discarded: ended without success: the handler or `on_error` said so.
        released: given back without blame: not begun, interrupted, or answered with `Release`.
        lost: their lease was lost, or the server could not be told: they are, or will be, handled again.
        by_hand: settled by the handler, or by the body of the loop, with finish, release or fail.
    """

    finished: int = 0
    failed: int = 0
    discarded: int = 0
    released: int = 0
    lost: int = 0
    by_hand: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Finish `done` and take up to `count` items, in one call. Is sent the `Claimed` items."""

    done: Sequence[Item]
    count: int
    wait: float


@dataclass(frozen=True, slots=True)
class Settle:
    """End the holding of items. Is sent the ids whose lease was lost."""

    verb: Literal["finish", "fail", "discard", "release"]
    items: Sequence[Item]
    error: BaseException | str = ""
    after: Any = None


@dataclass(frozen=True, slots=True)
class Handle:
    """Let the handler or the body have these items. Is sent its answer, or `Raised`."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Rest:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Raised:
    """A handler raised this."""

    error: Exception


class Leave(Exception):  # no error: it is thrown into the plan by the one who runs it
    """The body will ask for no further item; what to do with the current one."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


Effect = Claim | Settle | Handle | Rest
Plan = Generator[Effect, Any, None]


@dataclass(slots=True)
class Consuming:
    """One run of consuming: what it holds, and what it has done."""

    rules: Rules
    queue: str
    clock: Callable[[], float] = time.monotonic
    report: ConsumeReport = field(default_factory=ConsumeReport)
    waiting: list[Item] = field(default_factory=list)  # claimed, not begun
    current: list[Item] = field(default_factory=list)  # with the handler
    done: list[Item] = field(default_factory=list)  # handled, not finished yet
    begun: int = 0
    until: float | None = None
    claiming: bool = False  # a claim was sent whose answer is not here
    settling: Settle | None = None  # likewise
    unreachable: bool = False  # the server left a call unanswered for the whole of its patience
    ending: bool = False

    def plan(self) -> Plan:
        """Consumes until a limit is met. However it ends, everything that is held is settled before that.

        An error that is thrown in comes out again after the settling, except for `Leave`.
        """
        self.until = None if self.rules.max_seconds is None else self.clock() + self.rules.max_seconds
        try:
            yield from self._work()
        except GeneratorExit:  # dropped: there is nobody who would perform anything
            raise
        except BaseException as error:
            self.unreachable = isinstance(error, Unavailable)
            yield from self._end_quietly(error.decision if isinstance(error, Leave) else Release())
            if not isinstance(error, Leave):
                raise
        else:
            yield from self._end(Release())

    def _work(self) -> Plan:
        while not self._is_over():
            empty = yield from self._claim()
            if empty and self.rules.return_when_empty:
                return
            while self.waiting and not self._is_late():
                yield from self._handle_next()
            if self.rules.pause and not empty:
                yield from self._finish()
                yield Rest(self._within(self.rules.pause))

    def _is_over(self) -> bool:
        return self._is_late() or (self.rules.max_items is not None and self.begun >= self.rules.max_items)

    def _is_late(self) -> bool:
        return self.until is not None and self.clock() >= self.until

    def _within(self, seconds: float) -> float:
        """So many seconds, or what is left of `max_seconds`."""
        return seconds if self.until is None else max(0.0, min(seconds, self.until - self.clock()))

    # Claiming

    def _claim(self) -> Generator[Effect, Any, bool]:
        """Finishes what is done and takes the next chunk. True where the queue has nothing."""
        rules, count = self.rules, self.rules.chunk
        if rules.max_items is not None:
            count = min(count, rules.max_items - self.begun)
        try:
            yield from self._take(count, 0.0 if rules.return_when_empty else self._within(IDLE_WAIT))
        except Unavailable as error:
            if rules.return_when_empty:  # nobody can say whether it is
                raise
            log.warning("queue %s: %s", self.queue, error)
            yield Rest(self._within(UNREACHABLE_PAUSE))
            return False
        return not self.waiting

    def _take(self, count: int, wait: float) -> Plan:
        self.done = self._held(self.done)
        self.claiming = True
        claimed: Claimed = yield Claim(self.done, count, wait)
        self.claiming = False
        self.waiting += claimed
        self._count("finished", self.done, claimed.lost)
        self.done = []

    # Handling

    def _handle_next(self) -> Plan:
        size = len(self.waiting) if self.rules.process_all else 1
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        if not (taken := self._held(taken)):
            return
        self.current = taken
        self.begun += len(taken)
        outcome = yield Handle(taken)
        self.current = []
        taken = self._not_by_hand(taken)
        if isinstance(outcome, Raised) and not isinstance(outcome.error, Answer):
            yield from self._after_error(taken, outcome.error)
        elif isinstance(answer := outcome.error if isinstance(outcome, Raised) else outcome, Answer):
            yield from self._carry_out(answer, taken)
        else:
            self.done += taken

    def _after_error(self, items: list[Item], error: Exception) -> Plan:
        """What `on_error` says of items whose handler raised."""
        log.info("queue %s: the handler failed on %s", self.queue, [item.id for item in items], exc_info=error)
        decision: object = self.rules.on_error
        if callable(decision):
            try:
                decision = decision(items if self.rules.process_all else items[0], error) if items else "fail"
            except Exception:  # the user's: the item fails with what its handler raised, and the loop with this
                yield from self._carry_out(error, items)
                raise
        yield from self._carry_out(decision_of(decision, error), items)
        if decision == "raise":
            raise error
        if decision_of(decision, error) is error and decision not in (None, *WORDS):
            raise InvalidArgument(f"on_error answers None, {', '.join(WORDS)}, or an answer, not {decision!r}")

    def _not_by_hand(self, items: list[Item]) -> list[Item]:
        left = [item for item in items if not item.settled]
        self.report.by_hand += len(items) - len(left)
        return left

    def _held(self, items: list[Item]) -> list[Item]:
        """Items without those whose lease is known to be lost: these are somebody else's."""
        gone = [item.id for item in items if item.lost]
        self._note_lost(gone)
        return [item for item in items if not item.lost] if gone else items

    # Settling

    def _carry_out(self, decision: Decision, items: list[Item]) -> Plan:
        match decision:
            case Release():
                yield from self._settle(Settle("release", items))
            case Discard():
                yield from self._settle(Settle("discard", items, decision.reason))
            case Retry():
                yield from self._settle(self._retry(decision, items))
            case _:
                yield from self._settle(Settle("fail", items, decision))

    def _retry(self, answer: Retry, items: list[Item]) -> Settle:
        try:
            after = None if answer.after is None else _policy.seconds(answer.after, "after", low=0, high=MAX_DELAY)
        except InvalidArgument as error:  # the handler's mistake, and so a failed attempt
            return Settle("fail", items, error)
        return Settle("fail", items, answer.reason, after)

    def _finish(self) -> Plan:
        done, self.done = self.done, []
        yield from self._settle(Settle("finish", done))

    def _settle(self, settle: Settle) -> Plan:
        """Settles items. What the server can't be told comes back when its lease has ended."""
        items = self._held(list(settle.items))
        if not items:
            return
        lost: Sequence[str] = [item.id for item in items]
        if not (self.ending and self.unreachable):  # one patience at the end, not one for each call
            self.settling = settle  # until there is an answer: what is broken off is repeated at the end
            try:
                lost = yield Settle(settle.verb, items, settle.error, settle.after)
            except Unavailable as error:
                self.unreachable = True
                log.warning("queue %s: %d items are handled again: %s", self.queue, len(items), error)
            self.settling = None
        self._count(DONE[settle.verb], items, lost)

    def _count(self, what: str, items: Sequence[Item], lost: Sequence[str]) -> None:
        setattr(self.report, what, getattr(self.report, what) + len(items) - len(lost))
        self._note_lost(lost)

    def _note_lost(self, ids: Sequence[str]) -> None:
        if ids:
            self.report.lost += len(ids)
            log.warning("queue %s: lease lost on %s; their work will be done again", self.queue, list(ids[:3]))

    def _end_quietly(self, decision: Decision) -> Plan:
        """As `_end`, where an error is on its way already that says more."""
        try:
            yield from self._end(decision)
        except ReliqError as error:
            log.warning("queue %s: what was held comes back when its lease has ended: %s", self.queue, error)

    def _end(self, decision: Decision) -> Plan:
        """Settles all that is held: what is done is finished, the rest goes back in order, `current` as decided."""
        self.ending = True
        yield from self._end_broken_off()
        yield from self._finish()
        current, self.current = self._not_by_hand(self.current), []
        waiting, self.waiting = self.waiting, []
        if isinstance(decision, Release):
            current, waiting = [], current + waiting
        yield from self._carry_out(decision, current)
        yield from self._settle(Settle("release", waiting))

    def _end_broken_off(self) -> Plan:
        """A call whose answer nobody read may have been applied: its repeat says so, or does it."""
        if self.settling:
            yield from self._settle(self.settling)
        if self.claiming and not self.unreachable:
            try:
                yield from self._take(1, 0.0)  # brings what that claim took
            except Unavailable as error:
                self.unreachable = True
                log.warning("queue %s: %s", self.queue, error)
