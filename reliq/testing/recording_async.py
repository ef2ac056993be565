"""An asyncio queue that records in a history what is asked of it and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reliq._arguments import Items, listed
from reliq._policy import MAX_BATCH
from reliq.item import Claimed, Enqueued, Failed, Item, Moved, New
from reliq.queue_async import AsyncQueue
from reliq.testing.history import History, dead_of
from reliq.testing.recording import batches_of, options_of_new, seconds_of, verb_of, with_ids


class AsyncRecording(AsyncQueue):
    """Asyncio twin of `Recording`.

    Args:
        queue: what does the work.
        history: where it is written down.
    """

    def __init__(self, queue: AsyncQueue, history: History) -> None:
        vars(self).update(vars(queue))
        self._recorded, self._history = queue, history

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

    async def finish(self, items: Items, *arguments: Any, **options: Any) -> Any:
        """Asyncio twin of `Recording.finish`."""
        done = listed(items)
        with self._history.settling("finish", done):
            return await self._recorded.finish(done, *arguments, **options)

    async def finish_each(self, results: Iterable[tuple[Item, Any]], *arguments: Any, **options: Any) -> Any:
        """Asyncio twin of `Recording.finish_each`."""
        pairs = list(results)
        with self._history.settling("finish", [item for item, _ in pairs]) as answer:
            lost = await verb_of(self._recorded, "finish_each")(pairs, *arguments, **options)
            answer["lost"] = list(lost)
        return lost

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

    async def fail_each(self, failures: Iterable[tuple[Item, Any]], *arguments: Any, **options: Any) -> Any:
        """Asyncio twin of `Recording.fail_each`."""
        pairs = list(failures)
        with self._history.settling("fail", [item for item, _ in pairs]):
            return await verb_of(self._recorded, "fail_each")(pairs, *arguments, **options)

    async def renew(self, items: Items, lease: Any = 30.0, *arguments: Any, **options: Any) -> Any:
        """Asyncio twin of `Recording.renew`."""
        held = listed(items)
        with self._history.settling("renew", held, lease=seconds_of(lease)):
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
        with self._history.deciding("purge", []):
            return await self._recorded.purge(*states)
