"""Consuming a queue in one call or one loop, for asyncio. Twin of consume.py, which has the full documentation."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
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

Step = Callable[[], Effect]


class AsyncConsumption:
    """Asyncio twin of `Consumption`: for `async for`, and `async with`. For one task."""

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

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._rest() if self._entered else self._loop()

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._leave(error if isinstance(error, Exception) else Release())

    async def run(self, handler: Callable[[Any], object]) -> ConsumeReport:
        """Consumes with a handler, to the end."""
        items = await self._advance(partial(self._plan.send, None))
        while items is not None:
            items = await self._advance(await self._handled(handler, items))
        return self.report

    async def _handled(self, handler: Callable[[Any], object], items: Sequence[Item]) -> Step:
        """Calls the handler, and says how to tell the plan. A cancellation is thrown into it as it is."""
        outcome: object
        try:
            outcome = handler(list(items) if self._rules.process_all else items[0])
            if inspect.isawaitable(outcome):
                outcome = await outcome
        except Exception as error:  # noqa: BLE001  the handler is the user's: whatever it raises is a failed attempt
            outcome = Raised(error)
        except BaseException as error:  # noqa: BLE001  thrown into the plan, which raises it again
            return partial(self._plan.throw, error)
        return partial(self._plan.send, outcome)

    async def _loop(self) -> AsyncIterator[Item]:
        """A loop without `async with`: the closing of this generator is all that is seen of its end."""
        try:
            while (items := await self._advance(partial(self._plan.send, None))) is not None:
                yield items[0]  # not by `_rest`: a generator within would be left open
        finally:
            await self._leave(LEFT)

    async def _rest(self) -> AsyncIterator[Item]:
        while (items := await self._advance(partial(self._plan.send, None))) is not None:
            yield items[0]

    async def _leave(self, decision: Any) -> None:
        """Settles everything. A forked child holds nothing, and the parent's items are none of its business."""
        if self._pid != os.getpid() or self._ended:
            return
        if self._begun:
            await self._advance(partial(self._plan.throw, Leave(decision)))
        else:
            self._plan.close()

    async def _advance(self, step: Step) -> Sequence[Item] | None:
        """Takes a step of the plan and performs what it asks for, until there are items to handle; None: the end."""
        if self._ended:
            return None
        if not self._begun:
            self._renewals.start()
            self._begun = True
        try:
            while not isinstance(effect := step(), Handle):
                step = await self._performed(effect)
        except BaseException as error:
            self._ended = True
            await asyncio.to_thread(self._renewals.stop)  # it waits for a renewal that is on its way
            if isinstance(error, StopIteration):  # the plan's end
                return None
            raise
        return effect.items

    async def _performed(self, effect: Claim | Settle | Rest) -> Step:
        try:
            result = await self._perform(effect)
        except BaseException as error:  # noqa: BLE001  the plan settles what is held, and raises it again
            return partial(self._plan.throw, error)
        return partial(self._plan.send, result)

    async def _perform(self, effect: Claim | Settle | Rest) -> Any:
        match effect:
            case Claim(done, count, wait):
                self._renewals.forget(done)
                claimed = await self._claim(done, count, wait)
                self._renewals.watch(claimed)
                return claimed
            case Settle():
                self._renewals.forget(effect.items)
                return await self._settle(effect)
        return await asyncio.sleep(effect.seconds)

    async def _claim(self, done: Sequence[Item], count: int, wait: float) -> Claimed:
        lease, queue = self._rules.lease, self._queue
        claimed: Claimed = await (
            queue.finish_and_claim(done, count, lease=lease, wait=wait)
            if done
            else queue.claim(count, lease=lease, wait=wait)
        )
        return claimed

    async def _settle(self, settle: Settle) -> Sequence[str]:
        """Returns the ids whose lease was lost."""
        try:
            match settle.verb:
                case "finish":
                    await self._queue.finish(settle.items)
                case "release":
                    await self._queue.release(settle.items)
                case "discard":
                    await self._queue.fail(settle.items, settle.error, discard=True)
                case "fail":
                    await self._queue.fail(settle.items, settle.error, retry_after=settle.after)
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
) -> AsyncConsumption: ...
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
) -> Coroutine[Any, Any, ConsumeReport]: ...
def consume(
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
    """Asyncio twin of `Queue.consume`."""
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
    consumption = AsyncConsumption(self, rules)
    return consumption if handler is None else consumption.run(handler)
