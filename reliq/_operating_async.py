"""What people do to a queue, and how they look at it, for asyncio. A part of `AsyncQueue`, twin of _operating.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from reliq import _arguments, _commands, _cron, _ids, _plans, _policy
from reliq._driver_async import AsyncDriver
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import ItemNotFound, WaitTimeout
from reliq.info import BatchProgress, Counts, Cron, ItemInfo, Settings, WorkerInfo
from reliq.outcomes import Moved
from reliq.states import ItemState


class AsyncOperating:
    """Asyncio twin of `Operating`."""

    name: str
    _session: Session
    _driver: AsyncDriver

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

    # Recurring items

    async def set_cron(
        self,
        name: str,
        expression: str,
        payload: Any,
        *,
        time_zone: str = "UTC",
        headers: Mapping[str, str] | None = None,
        group: str | None = None,
        missed: str = "one",
    ) -> Cron:
        """Asyncio twin of `Queue.set_cron`."""
        definition = _cron.define(self._session, name, expression, payload, time_zone, headers, group, missed)
        await self._driver.register()
        return await self._driver.run(_cron.keep(self._session, name, definition))

    async def remove_cron(self, name: str) -> bool:
        """Asyncio twin of `Queue.remove_cron`."""
        return await self._driver.run(_cron.remove(_cron.check_name(name)))

    async def pause_cron(self, name: str) -> bool:
        """Asyncio twin of `Queue.pause_cron`."""
        return await self._driver.run(_cron.pause(_cron.check_name(name)))

    async def resume_cron(self, name: str) -> bool:
        """Asyncio twin of `Queue.resume_cron`."""
        return await self._driver.run(_cron.resume(_cron.check_name(name)))

    async def crons(self) -> list[Cron]:
        """Asyncio twin of `Queue.crons`."""
        return await self._driver.run(_cron.list_all(self._session))

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

    async def wait(self, id: str, timeout: Seconds = 60.0) -> ItemInfo:
        """Asyncio twin of `Queue.wait`."""
        key, seconds = _ids.pack(_ids.check(id)), _policy.seconds(timeout, "timeout", low=0, high=7 * 86400.0)
        info = await self._driver.run(_plans.wait_for_end(self._session, key, seconds))
        if info is None:
            raise WaitTimeout(self.name, id, seconds)
        if info.problem == _plans.UNKNOWN:
            raise ItemNotFound(self.name, id)
        return info

    async def batch_progress(self, batch_id: str) -> BatchProgress | None:
        """Asyncio twin of `Queue.batch_progress`."""
        return await self._driver.call(_commands.batch_progress(_ids.pack(_ids.check(batch_id))))

    async def workers(self) -> list[WorkerInfo]:
        """Asyncio twin of `Queue.workers`."""
        return await self._driver.call(_commands.workers())

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
