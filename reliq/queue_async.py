"""The queue as users have it, for asyncio: the words of queue.py, which has the full documentation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from reliq import _arguments, _codec, _ids, _plans, _policy, connect
from reliq._arguments import DEFAULT_TIMEOUT
from reliq._coalesce_async import AsyncCoalescer
from reliq._codec import Codec
from reliq._commands import Body
from reliq._driver_async import AsyncDriver
from reliq._durability import MEMORY
from reliq._gathering import Enqueues, Finishes, Levels
from reliq._holding_async import AsyncHolding
from reliq._keys import check_name
from reliq._links_async import OnFailover
from reliq._operating_async import AsyncOperating
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq._topology import Sentinel
from reliq.consume_async import consume
from reliq.errors import InvalidArgument
from reliq.item import Item, New
from reliq.outcomes import Batch, Enqueued
from reliq.typed import payload_type_of


class AsyncQueue(AsyncHolding, AsyncOperating):
    """Asyncio twin of `Queue`: the same arguments, results and promises. Tasks of one event loop may share it.

    A task that is cancelled in a call leaves nothing behind that a later call could take for its own answer.
    """

    def __init__(
        self,
        name: str,
        url: str | Sentinel | None = None,
        *,
        client: object = None,
        codecs: Sequence[Codec] = (),
        max_payload: int = _codec.MAX_PAYLOAD,
        payload_type: Any = None,
        timeout: Seconds = DEFAULT_TIMEOUT,
        on_failover: OnFailover | None = None,
        mirror: Any = None,
        durability: str = "memory",
        durability_timeout: Seconds = 5.0,
    ) -> None:
        self.name = check_name(name)
        self._made_of: dict[str, Any] = {"url": url, "client": client, "codecs": codecs, "max_payload": max_payload}
        self._made_of |= {"payload_type": payload_type, "timeout": timeout, "on_failover": on_failover}
        self._made_of |= {"mirror": mirror, "durability": durability, "durability_timeout": durability_timeout}
        kind = payload_type_of(payload_type)
        self._session = Session(name, codecs=codecs, max_payload=max_payload, payload_type=kind)
        connector = connect.async_connector(url or os.environ.get("RELIQ_URL"), client)
        seconds = _policy.seconds(timeout, "timeout", low=0, high=86400)
        make = AsyncDriver if mirror is None else mirror.async_guarded(self)
        self._driver: AsyncDriver = make(connector, self._session, seconds, on_failover)
        self._durability = _arguments.durability(durability, MEMORY, mirrored=mirror is not None)
        self._session.patience = _policy.seconds(durability_timeout, "durability_timeout", low=0.001, high=60.0)
        self._enqueues: Levels[AsyncCoalescer[Body, Enqueued]] = Levels(
            lambda level: AsyncCoalescer(self._driver, Enqueues(level))
        )
        self._finishes: Levels[AsyncCoalescer[Item, list[str]]] = Levels(
            lambda level: AsyncCoalescer(self._driver, Finishes(level))
        )
        self._session.owner = self
        self.mirror = mirror
        self._checkpointed: Any = None if mirror is None else mirror.async_link(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process makes the same queue of. A client object stays where it is."""
        if self._made_of["client"] is not None:
            raise InvalidArgument("a queue that was made with client= can't go to another process: pass a URL")
        return partial(type(self), **self._made_of), (self.name,)

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
        group: str | None = None,
        wait: Seconds = 0.0,
        durability: str | None = None,
    ) -> Enqueued:
        """Asyncio twin of `Queue.enqueue`."""
        body = _plans.body_of_one(self._session, payload, id, delay, at, headers, group)
        patience = _arguments.patience(wait)
        level = _arguments.durability(durability, self._durability, mirrored=self._checkpointed is not None)
        await self._driver.register()
        if level.level == "checkpointed":
            added: list[Enqueued] = await self._checkpointed.enqueue([body], patience)
            return added[0]
        if patience:
            return (await self._driver.run(_plans.enqueue(self._session, [body], patience, level)))[0]
        return await self._enqueues[level].call(body)

    async def enqueue_many(
        self,
        payloads: Iterable[Any],
        *,
        batch: int = MAX_BATCH,
        wait: Seconds = 0.0,
        durability: str | None = None,
    ) -> list[Enqueued]:
        """Asyncio twin of `Queue.enqueue_many`."""
        size, patience = _policy.whole(batch, "batch", low=1, high=MAX_BATCH), _arguments.patience(wait)
        level = _arguments.durability(durability, self._durability, mirrored=self._checkpointed is not None)
        await self._driver.register()
        run: Any = self._checkpointed.run if level.level == "checkpointed" else self._driver.run
        added: list[Enqueued] = await run(_plans.enqueue_many(self._session, payloads, size, patience, level))
        return added

    async def batch(
        self,
        payloads: Iterable[Any],
        *,
        then: New,
        when: str = "finished",
        id: str | None = None,
        durability: str | None = None,
    ) -> Batch:
        """Asyncio twin of `Queue.batch`."""
        spec = _arguments.batch_spec(self._session, id, when, then)
        level = _arguments.batching(durability, self._durability)
        await self._driver.register()
        members = await self._driver.run(_plans.batch(self._session, spec, payloads, level))
        return Batch(_ids.unpack(spec.key), _ids.unpack(spec.then.key), tuple(members))

    # Consumers

    consume = consume  # consume_async.py
