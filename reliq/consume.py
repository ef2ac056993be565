"""Consuming a queue in one call or one loop, sync. The asyncio twin is consume_async.py; what both decide is pure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Self, overload

from reliq._arguments import DEFAULT_LEASE
from reliq._consume_rules import OnError, Rules, rules_of
from reliq._consuming import LEFT, Claim, ConsumeReport, Consuming, Effect, Handle, Leave, Raised, Rest, Settle
from reliq._policy import Seconds
from reliq._renewals_thread import ThreadRenewals, driver_for, sync_connector
from reliq.answers import Release
from reliq.errors import LeaseLost
from reliq.item import Claimed, Item


class Consumption:
    """A loop over the items of a queue, made by `Queue.consume` without a handler. It goes through the queue once.

    Asking for the next item finishes the one before, unless it was settled by hand. `report` says what became of the
    items so far. For one thread.
    """

    def __init__(self, queue: Any, rules: Rules) -> None:
        self._queue = queue
        self._rules = rules
        self._consuming = Consuming(rules, queue.name)
        self._plan = self._consuming.plan()
        driver = driver_for(sync_connector(queue), queue._session, rules.lease)
        self._renewals = ThreadRenewals(driver, rules.lease, _ignore)
        self._pid = os.getpid()
        self._begun = self._ended = self._entered = False

    @property
    def report(self) -> ConsumeReport:
        """What became of the items so far. An item counts when it has been settled."""
        return self._consuming.report

    def __iter__(self) -> Iterator[Item]:
        return self._rest() if self._entered else self._loop()

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave(error if isinstance(error, Exception) else Release())

    def run(self, handler: Callable[[Any], object]) -> ConsumeReport:
        """Consumes with a handler, to the end."""
        items = self._advance(partial(self._plan.send, None))
        while items is not None:
            items = self._advance(partial(self._handled, handler, items))
        return self.report

    def _handled(self, handler: Callable[[Any], object], items: Sequence[Item]) -> Any:
        """Calls the handler, and tells the plan. An interruption (Ctrl-C, SystemExit) is thrown into it as it is."""
        outcome: object
        try:
            outcome = handler(list(items) if self._rules.process_all else items[0])
        except Exception as error:  # noqa: BLE001  the handler is the user's: whatever it raises is a failed attempt
            outcome = Raised(error)
        except BaseException as error:  # noqa: BLE001  thrown into the plan, which raises it again
            return self._plan.throw(error)
        return self._plan.send(outcome)

    def _loop(self) -> Iterator[Item]:
        """A loop without `with`: the closing of this generator is all that is seen of its end, however it ends."""
        try:
            yield from self._rest()
        finally:
            self._leave(LEFT)

    def _rest(self) -> Iterator[Item]:
        while (items := self._advance(partial(self._plan.send, None))) is not None:
            yield items[0]

    def _leave(self, decision: Any) -> None:
        """Settles everything. A forked child holds nothing, and the parent's items are none of its business."""
        if self._pid != os.getpid() or self._ended:
            return
        if self._begun:
            self._advance(partial(self._plan.throw, Leave(decision)))
        else:
            self._plan.close()

    def _advance(self, step: Callable[[], Effect]) -> Sequence[Item] | None:
        """Takes a step of the plan and performs what it asks for, until there are items to handle; None: the end."""
        if self._ended:
            return None
        if not self._begun:
            self._renewals.start()
            self._begun = True
        try:
            while not isinstance(effect := step(), Handle):
                step = self._performed(effect)
        except BaseException as error:
            self._ended = True
            self._renewals.stop()
            if isinstance(error, StopIteration):  # the plan's end
                return None
            raise
        return effect.items

    def _performed(self, effect: Claim | Settle | Rest) -> Callable[[], Effect]:
        try:
            result = self._perform(effect)
        except BaseException as error:  # noqa: BLE001  the plan settles what is held, and raises it again
            return partial(self._plan.throw, error)
        return partial(self._plan.send, result)

    def _perform(self, effect: Claim | Settle | Rest) -> Any:
        match effect:
            case Claim(done, count, wait):
                self._renewals.forget(done)
                claimed = self._claim(done, count, wait)
                self._renewals.watch(claimed)
                return claimed
            case Settle():
                self._renewals.forget(effect.items)
                return self._settle(effect)
        return time.sleep(effect.seconds)

    def _claim(self, done: Sequence[Item], count: int, wait: float) -> Claimed:
        lease, queue = self._rules.lease, self._queue
        claimed: Claimed = (
            queue.finish_and_claim(done, count, lease=lease, wait=wait)
            if done
            else queue.claim(count, lease=lease, wait=wait)
        )
        return claimed

    def _settle(self, settle: Settle) -> Sequence[str]:
        """Returns the ids whose lease was lost."""
        try:
            match settle.verb:
                case "finish":
                    self._queue.finish(settle.items)
                case "release":
                    self._queue.release(settle.items)
                case "discard":
                    self._queue.fail(settle.items, settle.error, discard=True)
                case "fail":
                    self._queue.fail(settle.items, settle.error, retry_after=settle.after)
        except LeaseLost as error:  # an answer like any other: the report counts them
            return error.ids
        return ()


def _ignore(_: object) -> None:
    """The renewals mark what is lost; the body looks at `item.lost`, and the plan does before it settles."""


@overload
def consume(
    self: Any,
    handler: None = None,
    *,
    chunk: int = ...,
    pause: Seconds = ...,
    max_items: int | None = ...,
    max_seconds: Seconds | None = ...,
    return_when_empty: bool = ...,
    lease: Seconds = ...,
) -> Consumption: ...
@overload
def consume(
    self: Any,
    handler: Callable[[Any], object],
    *,
    chunk: int = ...,
    process_all: bool = ...,
    pause: Seconds = ...,
    max_items: int | None = ...,
    max_seconds: Seconds | None = ...,
    return_when_empty: bool = ...,
    on_error: OnError = ...,
    lease: Seconds = ...,
) -> ConsumeReport: ...
def consume(  # noqa: D417  `self` is the queue: this is its method
    self: Any,
    handler: Callable[[Any], object] | None = None,
    *,
    chunk: int = 1,
    process_all: bool = False,
    pause: Seconds = 0.0,
    max_items: int | None = None,
    max_seconds: Seconds | None = None,
    return_when_empty: bool = False,
    on_error: OnError = "fail",
    lease: Seconds = DEFAULT_LEASE,
) -> Any:
    """Consumes the queue in this thread: with a handler as one call, without one as a loop.

    Items are claimed `chunk` at a time, under leases that a thread renews. Those that were handled are finished
    together with the next claim, in one round trip. It installs no signal handlers, and waits for new items unless it
    is told to return. An unreachable server is waited for, unless `return_when_empty` is set.

    **With a handler** each item is handled in turn. A handler that returns finishes its item; what happens to one that
    raises, `on_error` says. It may also return or raise `reliq.Retry`, `reliq.Discard` or `reliq.Release`, or settle
    its item by hand. However the call ends, everything is settled before: what was handled is finished, and what was
    not begun goes back to the head of the queue, in order and without blame. So does an item whose handler was
    interrupted (Ctrl-C, `SystemExit`, a cancelled task).

    **Without a handler** it is to be gone through: `for item in queue.consume(): ...`. Asking for the next item
    finishes the one before, unless it was settled by hand. Leaving the loop settles everything:

    - A plain `for` can't tell a `break` from an exception. The item that it was at is failed, with the text "the loop
      was left before this item was finished": an attempt is counted, so that an item which breaks its handler does not
      come back for ever. To stop after an item that is done: `queue.finish(item); break`.
    - In `with queue.consume() as items:` an exception that leaves the block fails the item that it was at, with that
      exception. Leaving the block in any other way, or interrupted, releases this item without blame.

    Args:
        handler: called with each item.
        chunk: items in a claim, 1 to 1,000. Where this process dies, up to so many handled items are handled again.
        process_all: the handler is called with the list of all items of a chunk, which succeed or fail together.
        pause: seconds between a chunk and the next claim, 0 to 86,400; items are finished before it.
        max_items: return after so many items were begun; None for no end.
        max_seconds: begin no item, and wait for none, when so many seconds have passed; None for no end.
        return_when_empty: return when there is nothing to claim.
        on_error: what becomes of an item (with `process_all`, of the chunk) whose handler raised: `fail`, try it again
            as the queue's settings say; `release`, at once and without counting it; `discard`, end it; `raise`, fail
            it, settle the rest, and raise the error. Or a function of the item (the list of items) and the error
            that returns one of these words, a `reliq.Retry`, `Discard` or `Release`, or None for `fail`.
        lease: seconds until others may have the items of a process that died, 0.001 to 86,400.

    Returns:
        With a handler a `ConsumeReport`. Without one a `Consumption` to go through once, which has a `report`. Items
        whose lease was lost are not settled but counted there, and `item.lost` says so to whoever is at them.

    Raises:
        InvalidArgument.
        ReliqError: the queue can't be used: its state was lost, the server refuses.
        Unavailable: with `return_when_empty`, where the server does not say whether the queue is empty.

    If the process dies in here, what it held is claimed by others when the lease has ended.
    """
    rules = rules_of(
        handler,
        chunk=chunk,
        process_all=process_all,
        pause=pause,
        max_items=max_items,
        max_seconds=max_seconds,
        return_when_empty=return_when_empty,
        on_error=on_error,
        lease=lease,
    )
    consumption = Consumption(self, rules)
    return consumption if handler is None else consumption.run(handler)
