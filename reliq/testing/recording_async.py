"""An asyncio queue that records in a history what is asked of it and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from reliq._arguments import Items, lease_length, listed
from reliq._driver_async import AsyncDriver
from reliq._plans import Plan
from reliq._policy import MAX_BATCH
from reliq.errors import InvalidArgument
from reliq.item import Claimed, Item, New
from reliq.outcomes import Batch, Enqueued, Failed, Moved
from reliq.queue_async import AsyncQueue
from reliq.testing._noting import Noting
from reliq.testing.history import History, dead_of
from reliq.testing.recording import batches_of, options_of_new, with_ids

T = TypeVar("T")


class _Noting(AsyncDriver):
    """A driver that notes what a worker claims past the methods of its queue."""

    def __init__(self, driver: AsyncDriver, history: History) -> None:
        vars(self).update(vars(driver))
        self._noting = Noting(history)

    def seen(self, plan: Plan[T]) -> Plan[T]:
        return self._noting.seen(plan)

    async def once(self, plan: Plan[T]) -> T:
        return await super().once(self.seen(plan))


class AsyncRecording(AsyncQueue):
    """Asyncio twin of `Recording`.

    Args:
        queue: what does the work.
        history: where it is written down.
    """

    def __init__(self, queue: AsyncQueue, history: History) -> None:
        vars(self).update(vars(queue))
        self._recorded, self._history = queue, history
        self._driver = _Noting(queue._driver, history)
        self._session.owner = self  # so that an item's checkpoint comes here

    def __reduce__(self) -> tuple[Any, ...]:
        """Refused: a history belongs to one process."""
        raise InvalidArgument("a recording can't go to another process: make one there, with a history of its own")

    async def enqueue(self, payload: Any, *, id: str | None = None, **options: Any) -> Enqueued:
        """Asyncio twin of `Recording.enqueue`."""
        (entry,) = with_ids([New(payload, id, **options_of_new(options))])
        with self._history.enqueueing([entry]) as done:
            done.append(await self._recorded.enqueue(payload, id=entry.id, **options))
        return Enqueued(done[0].id, done[0].created or id is None)

    async def enqueue_many(self, payloads: Iterable[Any], *, batch: int = MAX_BATCH, **options: Any) -> list[Enqueued]:
        """Asyncio twin of `Recording.enqueue_many`."""
        results: list[Enqueued] = []
        for entries in batches_of(payloads, batch):
            with self._history.enqueueing(entries, before=results) as done:
                done.extend(await self._recorded.enqueue_many(entries, batch=batch, **options))
            results += done
        return results

    async def batch(self, payloads: Iterable[Any], *, then: New, **options: Any) -> Batch:
        """Asyncio twin of `Recording.batch`."""
        entries, following = with_ids(list(payloads)), with_ids([then])
        with self._history.enqueueing([*entries, *following], later=following) as done:
            made = await self._recorded.batch(entries, then=following[0], **options)
            done.extend(made.members)
        return made

    async def claim(self, *arguments: Any, **options: Any) -> Claimed:
        """Asyncio twin of `Recording.claim`."""
        claimed = await self._recorded.claim(*arguments, **options)
        self._history.claimed(claimed)
        return claimed

    async def finish_and_claim(self, items: Items, *arguments: Any, **options: Any) -> Claimed:
        """Asyncio twin of `Recording.finish_and_claim`."""
        done = listed(items)
        with self._history.settling("finish", done) as answer:
            claimed = await self._recorded.finish_and_claim(done, *arguments, **options)
            answer["lost"] = list(claimed.lost)
        self._history.claimed(claimed)
        return claimed

    async def finish(self, items: Items, *arguments: Any, then: New | Sequence[New] = (), **options: Any) -> None:
        """Asyncio twin of `Recording.finish`."""
        done, following = listed(items), with_ids([then] if isinstance(then, New) else list(then))
        with self._history.enqueueing(following) as sent, self._history.settling("finish", done):
            await self._recorded.finish(done, *arguments, then=following, **options)
            sent.extend(Enqueued(str(entry.id), True) for entry in following)

    async def finish_each(self, results: Iterable[tuple[Item, Any]]) -> None:
        """Asyncio twin of `Recording.finish_each`."""
        pairs = list(results)
        with self._history.settling("finish", [item for item, _ in pairs]):
            await self._recorded.finish_each(pairs)

    async def checkpoint(self, item: Item, *arguments: Any, **options: Any) -> None:
        """Asyncio twin of `Recording.checkpoint`."""
        with self._history.settling("renew", [item], lease=item.lease):
            await self._recorded.checkpoint(item, *arguments, **options)

    async def release(self, items: Items, *arguments: Any, **options: Any) -> Any:
        """Asyncio twin of `Recording.release`."""
        back = listed(items)
        with self._history.settling("release", back):
            return await self._recorded.release(back, *arguments, **options)

    async def fail(self, items: Items, *arguments: Any, **options: Any) -> list[Failed]:
        """Asyncio twin of `Recording.fail`."""
        failed = listed(items)
        with self._history.settling("fail", failed) as answer:
            outcomes = await self._recorded.fail(failed, *arguments, **options)
            answer["dead"] = dead_of(outcomes)
        return outcomes

    async def fail_each(self, errors: Iterable[tuple[Item, Any]]) -> list[Failed]:
        """Asyncio twin of `Recording.fail_each`."""
        pairs = list(errors)
        with self._history.settling("fail", [item for item, _ in pairs]) as answer:
            outcomes = await self._recorded.fail_each(pairs)
            answer["dead"] = dead_of(outcomes)
        return outcomes

    async def renew(self, items: Items, lease: Any = 30.0, *arguments: Any, **options: Any) -> Any:
        """Asyncio twin of `Recording.renew`."""
        held = listed(items)
        with self._history.settling("renew", held, lease=lease_length(lease)):
            return await self._recorded.renew(held, lease, *arguments, **options)

    async def cancel(self, *ids: str) -> Moved:
        """Asyncio twin of `Recording.cancel`."""
        with self._history.deciding("cancel", ids) as moved:
            result = await self._recorded.cancel(*ids)
            moved.extend(result.ids)
        return result

    async def discard(self, *ids: str) -> Moved:
        """Asyncio twin of `Recording.discard`."""
        with self._history.deciding("discard", ids) as moved:
            result = await self._recorded.discard(*ids)
            moved.extend(result.ids)
        return result

    async def resolve(self, id: Any, decision: str, *arguments: Any, **options: Any) -> Moved:
        """Asyncio twin of `Recording.resolve`."""
        ids = [id] if isinstance(id, str) else list(id)
        with self._history.deciding("resolve", ids, decision=decision) as moved:
            result = await self._recorded.resolve(ids, decision, *arguments, **options)
            moved.extend(result.ids)
        return result

    async def purge(self, *states: Any) -> int:
        """Asyncio twin of `Recording.purge`."""
        with self._history.deciding("purge", [], states=[str(state) for state in states]):
            return await self._recorded.purge(*states)
