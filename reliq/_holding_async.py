"""What those do who hold items, for asyncio: claim, renew and settle them. A part of `AsyncQueue`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from reliq import _arguments, _commands, _plans, _policy
from reliq._arguments import DEFAULT_LEASE, NOTHING, Items
from reliq._coalesce_async import AsyncCoalescer
from reliq._driver_async import AsyncDriver
from reliq._durability import Durability
from reliq._gathering import Levels
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import LeaseLost
from reliq.item import Claimed, Item, New, Progress
from reliq.outcomes import Failed, Recovered


class AsyncHolding:
    """Asyncio twin of `Holding`."""

    name: str
    _session: Session
    _driver: AsyncDriver
    _finishes: Levels[AsyncCoalescer[Item, list[str]]]
    _durability: Durability

    async def claim(self, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0) -> Claimed:
        """Asyncio twin of `Queue.claim`."""
        return await self._driver.run(_plans.claim(self._session, _arguments.claim_request(count, lease, wait)))

    async def finish_and_claim(
        self, items: Items, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0
    ) -> Claimed:
        """Asyncio twin of `Queue.finish_and_claim`."""
        held = _arguments.listed(items)
        request = _arguments.claim_request(count, lease, wait)
        claimed = await self._driver.run(_plans.finish_and_claim(self._session, held, request))
        _arguments.mark_settled(held)
        return claimed

    async def finish(
        self,
        items: Items,
        *,
        result: Any = NOTHING,
        then: New | Sequence[New] = (),
        durability: str | None = None,
    ) -> None:
        """Asyncio twin of `Queue.finish`."""
        held = _arguments.listed(items)
        level = _arguments.finishing(durability, self._durability)
        if result is NOTHING and not then and len(held) == 1:
            lost = await self._finishes[level].call(held[0])
            lost = await self._driver.run(_plans.finish_unseen(held, lost, level)) if lost else lost
        elif result is NOTHING and not then:
            lost = await self._driver.run(_plans.finish(held, level))
        else:
            ending = [(_arguments.only(held), _arguments.packed_result(result))]
            following = _arguments.following(self._session, then)
            lost = await self._driver.run(_plans.finish_with(ending, following, level))
        _arguments.mark_settled(held)
        self._raise_lost(lost)

    async def finish_each(self, results: Iterable[tuple[Item, Any]]) -> None:
        """Asyncio twin of `Queue.finish_each`."""
        endings = [(item, _arguments.packed_result(result)) for item, result in results]
        lost = await self._driver.run(_plans.finish_with(endings))
        _arguments.mark_settled(item for item, _ in endings)
        self._raise_lost(lost)

    async def checkpoint(
        self, item: Item, state: Any = None, *, done: float | None = None, total: float | None = None, note: str = ""
    ) -> None:
        """Asyncio twin of `Queue.checkpoint`."""
        progress, asked_at = Progress(state, done, total, note), time.monotonic()
        packed = _arguments.packed_progress(progress)
        kept = await self._driver.call(_commands.checkpoint(_arguments.only([item]), packed, item.lease))
        item.lost = item.lost or not kept
        self._raise_lost([] if kept else [item.id])
        item.progress = progress
        _arguments.extend([item], (), asked_at + item.lease)

    async def release(self, items: Items) -> None:
        """Asyncio twin of `Queue.release`."""
        held = _arguments.listed(items)
        lost = await self._driver.run(_plans.in_batches(_commands.release, held))
        _arguments.mark_settled(held)
        self._raise_lost(lost)

    async def renew(self, items: Items, lease: Seconds = DEFAULT_LEASE) -> None:
        """Asyncio twin of `Queue.renew`."""
        length, asked_at, held = _arguments.lease_length(lease), time.monotonic(), _arguments.listed(items)
        lost = await self._driver.run(_plans.in_batches(lambda part: _commands.renew(part, length), held))
        _arguments.extend(held, lost, asked_at + length)
        self._raise_lost(lost)

    async def fail(
        self,
        items: Items,
        error: BaseException | str = "",
        *,
        retry_after: Seconds | None = None,
        dead: bool = False,
        discard: bool = False,
    ) -> list[Failed]:
        """Asyncio twin of `Queue.fail`."""
        after = (
            None if retry_after is None else _policy.seconds(retry_after, "retry_after", low=0, high=_policy.MAX_DELAY)
        )
        text = _arguments.error_text(error)
        held = _arguments.listed(items)
        return await self._fail([_commands.Failure(item, text, after, dead, discard) for item in held])

    async def fail_each(self, errors: Iterable[tuple[Item, Any]]) -> list[Failed]:
        """Asyncio twin of `Queue.fail_each`."""
        return await self._fail([_arguments.failure(item, error) for item, error in errors])

    async def _fail(self, failures: Sequence[_commands.Failure]) -> list[Failed]:
        outcomes = await self._driver.run(_plans.fail(failures))
        _arguments.mark_settled(failure.item for failure in failures)
        self._raise_lost([item.id for item, outcome in outcomes if outcome is None])
        return [outcome for _, outcome in outcomes if outcome is not None]

    async def recover(self, limit: int = MAX_BATCH) -> Recovered:
        """Asyncio twin of `Queue.recover`."""
        return await self._driver.run(_plans.recover(_policy.whole(limit, "limit", low=1, high=1_000_000)))

    def _raise_lost(self, lost: Sequence[str]) -> None:
        if lost:
            raise LeaseLost(self.name, lost)
