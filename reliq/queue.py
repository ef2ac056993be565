"""The queue as users have it, sync. `AsyncQueue` in queue_async.py has the same words; a test compares the two."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from reliq import _arguments, _codec, _ids, _plans, _policy, connect
from reliq._arguments import DEFAULT_TIMEOUT
from reliq._coalesce import Coalescer
from reliq._codec import Codec
from reliq._commands import Body
from reliq._driver import Driver
from reliq._durability import MEMORY
from reliq._gathering import Enqueues, Finishes, Levels
from reliq._holding import Holding
from reliq._keys import check_name
from reliq._links import OnFailover
from reliq._operating import Operating
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq._topology import Sentinel
from reliq.consume import consume
from reliq.errors import InvalidArgument
from reliq.item import Item, New
from reliq.outcomes import Batch, Enqueued
from reliq.typed import payload_type_of


class Queue(Holding, Operating):
    """A reliable FIFO queue in Redis or Valkey.

    Threads may share one; a forked child may go on using it. Nothing is sent before the first call.

    Every method that talks to the server repeats its request with the same ids when an answer is missing, for `timeout`
    seconds in all, and then raises `Unavailable`, which says whether the request may have been applied. Repeating any
    call is safe. All of them raise `StateLost` or `StaleEpoch` where the server lost or rebuilt the queue since this
    client first saw it, `AccessDenied`, `ServerTooOld` and `UnsafeServer` where the server can't be used, and
    `CorruptState` where a key holds what reliq never writes.

    Args:
        name: 1 to 200 printable characters without spaces and braces.
        url: redis://, rediss://, unix://, embedded://, redis+sentinel:// or rediss+sentinel://, or a `Sentinel`;
            without it the environment variable RELIQ_URL.
        client: instead of a URL, a redis.Redis whose connection settings are used (its retries are not).
        codecs: what payload bytes go through on their way in, in this order.
        max_payload: bytes that a stored payload may have.
        payload_type: what payloads are: a dataclass, TypedDict or msgspec.Struct, or a type made of these (extra
            `msgspec`), or a pydantic model (extra `pydantic`). None: what msgpack carries.
        timeout: seconds after which a call gives up.
        on_failover: with Sentinels, is called with the old and the new address of the master (`host:port`) when that
            has changed: in a thread of its own; by an `AsyncQueue` on the event loop.
        durability: what `enqueue` and `finish` are confirmed by where the call does not say: `memory`, the master has
            it; `replicated:2`, so many replicas have it too; `replicated:all`; `fsynced`, it is on the master's disk;
            `checkpointed`, Postgres has it (enqueue only). See docs/how-to/choose-durability.md.
        durability_timeout: seconds that a confirmation may take, 0.001 to 60; then `DurabilityNotReached`.
        mirror: the `reliq.Mirror` that this queue is followed into. `durability="checkpointed"` needs it.

    Raises:
        InvalidArgument, InvalidURL.
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
        connector = connect.connector(url or os.environ.get("RELIQ_URL"), client)
        seconds = _policy.seconds(timeout, "timeout", low=0, high=86400)
        make = Driver if mirror is None else mirror.guarded(self)
        self._driver: Driver = make(connector, self._session, seconds, on_failover)
        self._durability = _arguments.durability(durability, MEMORY, mirrored=mirror is not None)
        self._session.patience = _policy.seconds(durability_timeout, "durability_timeout", low=0.001, high=60.0)
        self._enqueues: Levels[Coalescer[Body, Enqueued]] = Levels(
            lambda level: Coalescer(self._driver, Enqueues(level))
        )
        self._finishes: Levels[Coalescer[Item, list[str]]] = Levels(
            lambda level: Coalescer(self._driver, Finishes(level))
        )
        self._session.owner = self
        self.mirror = mirror
        self._checkpointed: Any = None if mirror is None else mirror.link(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process makes the same queue of. A client object stays where it is."""
        if self._made_of["client"] is not None:
            raise InvalidArgument("a queue that was made with client= can't go to another process: pass a URL")
        return partial(type(self), **self._made_of), (self.name,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def close(self) -> None:
        """Closes idle connections. The queue can be used again afterwards."""
        self._driver.close()

    # Producers

    def enqueue(
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
        """Adds an item at the tail of the queue, or lets it wait until it is due.

        An id that the queue knows is left as it is, whatever its state: then `created` is False. Ids of finished and
        removed items are known for the queue's retention (`finished_age`, `finished_count`).

        Args:
            payload: anything that msgpack can carry, and datetime, date, timedelta, UUID, Decimal, large integers.
            id: 1 to 200 bytes of printable text, for a payload that must not be enqueued twice; None for a new UUIDv7.
            delay: seconds (or a timedelta) until it is due, up to ten years.
            at: Unix seconds on the server's clock at which it is due. Not together with `delay`.
            headers: string pairs that travel beside the payload.
            group: items of one group are handled one at a time and in their order, see `New`.
            wait: seconds to wait for room where the queue is full, 0 to 86,400. Waiting does not poll.
            durability: what it is confirmed by; None for the queue's own.

        Returns:
            The id, and whether this call created the item. Where a reply got lost on the way, an item with an `id` of
            yours that the lost attempt created counts as known.

        Raises:
            PayloadError: the payload can't be carried or is over `max_payload`; nothing was sent.
            QueueFull, QueuePaused, MemoryFull: nothing was added.
            DurabilityNotReached: it was added, and not confirmed as far as was asked for.
            Unavailable: see `may_have_been_applied`.

        If the caller dies in this call, the item was added whole or not at all.
        """
        body = _plans.body_of_one(self._session, payload, id, delay, at, headers, group)
        patience = _arguments.patience(wait)
        level = _arguments.durability(durability, self._durability, mirrored=self._checkpointed is not None)
        self._driver.register()
        if level.level == "checkpointed":
            added: list[Enqueued] = self._checkpointed.enqueue([body], patience)
            return added[0]
        if patience:
            return self._driver.run(_plans.enqueue(self._session, [body], patience, level))[0]
        return self._enqueues[level].call(body)

    def enqueue_many(
        self,
        payloads: Iterable[Any],
        *,
        batch: int = MAX_BATCH,
        wait: Seconds = 0.0,
        durability: str | None = None,
    ) -> list[Enqueued]:
        """Adds many items in the order given, in batches of one round trip each.

        Args:
            payloads: payloads, or `New(payload, id=..., delay=..., at=..., headers=...)` for those with options. Taken
                lazily: a generator over a large file is never held in memory.
            batch: items in a round trip, 1 to 1,000. Each batch is added whole or not at all.
            wait: seconds that each round trip may wait for room where the queue is full.
            durability: what each round trip is confirmed by; None for the queue's own.

        Returns:
            One `Enqueued` for each payload, in order.

        Raises:
            As `enqueue`. The error's `enqueued` has what was added before it.
        """
        size, patience = _policy.whole(batch, "batch", low=1, high=MAX_BATCH), _arguments.patience(wait)
        level = _arguments.durability(durability, self._durability, mirrored=self._checkpointed is not None)
        self._driver.register()
        run: Any = self._checkpointed.run if level.level == "checkpointed" else self._driver.run
        added: list[Enqueued] = run(_plans.enqueue_many(self._session, payloads, size, patience, level))
        return added

    def batch(
        self,
        payloads: Iterable[Any],
        *,
        then: New,
        when: str = "finished",
        id: str | None = None,
        durability: str | None = None,
    ) -> Batch:
        """Enqueues items that belong together, and one that follows them exactly once when they are through.

        Members are counted off as they end, in the step that ends them, so the item that follows is there once however
        often members are delivered. Pass ids of your own (for the batch and in `New`) to be able to repeat a call that
        was broken off: the repeat goes on where it was.

        Args:
            payloads: the members, as for `enqueue_many`. Ids that the queue knows already do not join.
            then: the item that follows.
            when: `finished`: when the last member has finished. Dead ones are waited for until somebody helps them;
                cancelled and discarded ones are not. `settled`: when each has finished, died or been removed.
            id: of the batch; None for a new one.
            durability: what each round trip is confirmed by; None for the queue's own. Not `checkpointed`.

        Returns:
            The batch, with what became of each member.

        Raises:
            As `enqueue_many`.
            InvalidArgument: also where the queue's own durability is `checkpointed` and the call says nothing else.

        If the caller dies in here, the batch stays open until the call is repeated with its id.
        """
        spec = _arguments.batch_spec(self._session, id, when, then)
        level = _arguments.batching(durability, self._durability)
        self._driver.register()
        members = self._driver.run(_plans.batch(self._session, spec, payloads, level))
        return Batch(_ids.unpack(spec.key), _ids.unpack(spec.then.key), tuple(members))

    # Consumers

    consume = consume  # consume.py


def queues(
    url: str | Sentinel | None = None, *, client: object = None, timeout: Seconds = DEFAULT_TIMEOUT
) -> list[str]:
    """Names of the queues on a server, in order: those that were ever made there with this layout.

    It reads a listing that no queue depends on: where the server refused to add a name to it, that name is missing.

    Args:
        url: as for `Queue`; without it the environment variable RELIQ_URL.
        client: instead of a URL, as for `Queue`.
        timeout: seconds after which it gives up.

    Raises:
        InvalidArgument, InvalidURL, AccessDenied, ServerTooOld, UnsafeServer.
        Unavailable: the server did not answer within `timeout`.
    """
    with Queue("-", url, client=client, timeout=timeout) as connection:  # nothing is sent for this name
        return connection._driver.names()
