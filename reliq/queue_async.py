"""The queue as users have it, for asyncio: the words of queue.py, which has the full documentation."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Self

from reliq import _arguments, _codec, _commands, _ids, _plans, _policy, connect
from reliq._arguments import DEFAULT_LEASE, DEFAULT_TIMEOUT, Items
from reliq._codec import Codec
from reliq._driver_async import AsyncDriver
from reliq._keys import check_name
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import ItemNotFound, LeaseLost
from reliq.item import (
    Claimed,
    Counts,
    Enqueued,
    Failed,
    ItemInfo,
    ItemState,
    Moved,
    New,
    Recovered,
    Settings,
)


class AsyncQueue:
    """Asyncio twin of `Queue`: the same arguments, results and promises. Tasks of one event loop may share it.

    A task that is cancelled in a call leaves nothing behind that a later call could take for its own answer.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        client: object = None,
        codecs: Sequence[Codec] = (),
        max_payload: int = _codec.MAX_PAYLOAD,
        timeout: Seconds = DEFAULT_TIMEOUT,
    ) -> None:
        self.name = check_name(name)
        self._session = Session(name, codecs=codecs, max_payload=max_payload)
        connector = connect.async_connector(url or os.environ.get("RELIQ_URL"), client)
        self._driver = AsyncDriver(connector, self._session, _policy.seconds(timeout, "timeout", low=0, high=86400))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def close(self) -> None:
        """Asyncio twin of `Queue.close`."""
        await self._driver.close()

    # Producers

    async def enqueue(
        self,
        payload: Any,
        *,
        id: str | None = None,
        delay: Seconds | None = None,
        at: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Enqueued:
        """Asyncio twin of `Queue.enqueue`."""
        body = _plans.body_of(self._session, New(payload, id, delay, at, headers), iter(_ids.new_keys(1)))
        await self._driver.register()
        return (await self._driver.call(_commands.enqueue([body])))[0]

    async def enqueue_many(self, payloads: Iterable[Any], *, batch: int = MAX_BATCH) -> list[Enqueued]:
        """Asyncio twin of `Queue.enqueue_many`."""
        size = _policy.whole(batch, "batch", low=1, high=MAX_BATCH)
        await self._driver.register()
        return await self._driver.run(_plans.enqueue_many(self._session, payloads, size))

    # Consumers

    async def claim(self, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0) -> Claimed:
        """Asyncio twin of `Queue.claim`."""
        return await self._driver.run(_plans.claim(self._session, _arguments.claim_request(count, lease, wait)))

    async def finish_and_claim(
        self, items: Items, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0
    ) -> Claimed:
        """Asyncio twin of `Queue.finish_and_claim`."""
        return await self._driver.run(
            _plans.finish_and_claim(
                self._session, _arguments.listed(items), _arguments.claim_request(count, lease, wait)
            )
        )

    async def finish(self, items: Items) -> None:
        """Asyncio twin of `Queue.finish`."""
        self._raise_lost(await self._driver.run(_plans.in_batches(_commands.finish, _arguments.listed(items))))

    async def release(self, items: Items) -> None:
        """Asyncio twin of `Queue.release`."""
        self._raise_lost(await self._driver.run(_plans.in_batches(_commands.release, _arguments.listed(items))))

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
    ) -> list[Failed]:
        """Asyncio twin of `Queue.fail`."""
        after = (
            None if retry_after is None else _policy.seconds(retry_after, "retry_after", low=0, high=_policy.MAX_DELAY)
        )
        failures = [
            _commands.Failure(item, _arguments.error_text(error), after, dead) for item in _arguments.listed(items)
        ]
        outcomes = await self._driver.run(_plans.fail(failures))
        self._raise_lost([item.id for item, outcome in outcomes if outcome is None])
        return [outcome for _, outcome in outcomes if outcome is not None]

    async def recover(self, limit: int = MAX_BATCH) -> Recovered:
        """Asyncio twin of `Queue.recover`."""
        return await self._driver.run(_plans.recover(_policy.whole(limit, "limit", low=1, high=1_000_000)))

    # Operators

    async def requeue(self, *ids: str) -> Moved:
        """Asyncio twin of `Queue.requeue`."""
        return await self._driver.call(_commands.requeue(_arguments.checked_ids(ids)))

    async def redrive(self, limit: int = MAX_BATCH) -> int:
        """Asyncio twin of `Queue.redrive`."""
        return await self._driver.run(_plans.redrive(_policy.whole(limit, "limit", low=1, high=100_000_000)))

    async def resolve(self, id: str | Sequence[str], decision: str) -> Moved:
        """Asyncio twin of `Queue.resolve`."""
        ids = [id] if isinstance(id, str) else list(id)
        word = _policy.one_of(decision, "decision", ("finish", "requeue", "dead"))
        return await self._driver.call(_commands.resolve(_arguments.checked_ids(ids), word))

    async def cancel(self, *ids: str) -> Moved:
        """Asyncio twin of `Queue.cancel`."""
        return await self._driver.call(_commands.cancel(_arguments.checked_ids(ids)))

    async def discard(self, *ids: str) -> Moved:
        """Asyncio twin of `Queue.discard`."""
        return await self._driver.call(_commands.discard(_arguments.checked_ids(ids)))

    async def purge(self, *states: ItemState | str) -> int:
        """Asyncio twin of `Queue.purge`."""
        return await self._driver.run(_plans.purge(_arguments.purgeable(states)))

    async def pause(self, *, claim: bool = True, enqueue: bool = False) -> None:
        """Asyncio twin of `Queue.pause`."""
        await self._driver.register()
        await self._driver.call(_commands.pause(claim=claim, enqueue=enqueue))

    async def resume(self) -> None:
        """Asyncio twin of `Queue.resume`."""
        await self._driver.call(_commands.resume())

    async def drain(self, timeout: Seconds = 60.0) -> Counts:
        """Asyncio twin of `Queue.drain`."""
        limit = _policy.seconds(timeout, "timeout", low=0, high=7 * 86400.0)
        await self._driver.register()
        return await self._driver.run(_plans.drain(self.name, limit))

    async def configure(self, **changes: Any) -> Settings:
        """Asyncio twin of `Queue.configure`."""
        command = _commands.configure(_policy.settings(changes))
        await self._driver.register()
        return await self._driver.call(command)

    async def adopt(self) -> None:
        """Asyncio twin of `Queue.adopt`."""
        self._session.epoch = b""

    # Looking

    async def counts(self) -> Counts:
        """Asyncio twin of `Queue.counts`."""
        return (await self._driver.call(_commands.inspect()))[0]

    async def settings(self) -> Settings:
        """Asyncio twin of `Queue.settings`."""
        return (await self._driver.call(_commands.inspect()))[1]

    async def oldest_age(self, state: ItemState | str = ItemState.QUEUED) -> float | None:
        """Asyncio twin of `Queue.oldest_age`."""
        return await self._driver.call(_commands.oldest(_arguments.live_state(state)))

    async def get(self, id: str) -> ItemInfo:
        """Asyncio twin of `Queue.get`."""
        info = (await self._driver.call(_commands.get(self._session, [_ids.pack(_ids.check(id))])))[0]
        if info is None:
            raise ItemNotFound(self.name, id)
        return info

    async def scan(self, state: ItemState | str = ItemState.QUEUED, *, page: int = 100) -> AsyncIterator[ItemInfo]:
        """Asyncio twin of `Queue.scan`."""
        wanted = ItemState(_policy.one_of(state, "state", list(ItemState)))
        size = _policy.whole(page, "page", low=1, high=1000)
        cursor, more = b"", True
        while more:
            infos, cursor = await self._driver.run(_plans.scan_page(self._session, wanted, cursor, size))
            for info in infos:
                yield info
            more = cursor != b""

    async def peek(self, count: int = 1) -> list[ItemInfo]:
        """Asyncio twin of `Queue.peek`."""
        size = _policy.whole(count, "count", low=1, high=1000)
        return await self._driver.run(_plans.peek(self._session, size))

    def _raise_lost(self, lost: Sequence[str]) -> None:
        if lost:
            raise LeaseLost(self.name, lost)
