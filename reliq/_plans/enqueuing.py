"""Putting items in: what is sent together, and waiting for room."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reliq import _commands, _ids, _policy
from reliq._codec import STAMP
from reliq._commands import Body
from reliq._durability import MEMORY, Durability
from reliq._plans.effects import Block, Clock, Plan
from reliq._policy import Seconds
from reliq._session import Session
from reliq.errors import InvalidArgument, PayloadError, QueueFull, ReliqError
from reliq.item import New
from reliq.outcomes import Enqueued


def enqueue(
    session: Session,
    bodies: Sequence[Body],
    wait: float,
    durability: Durability = MEMORY,
    *,
    clock: Clock = time.monotonic,
) -> Plan[list[Enqueued]]:
    """Adds items; where the queue is full it waits up to `wait` seconds for room."""
    until, size = clock() + wait, sum(len(body.body) + STAMP for body in bodies)
    while True:
        try:
            added: list[Enqueued] = yield _commands.enqueue(bodies, durability)
        except QueueFull:
            left = min(until - clock(), _policy.BLOCK)
            if left <= 0:
                raise
        else:
            return added
        if not (yield _commands.await_room(_ids.new_receipt(), left, len(bodies), size)):
            yield Block(left, (session.keys["room"],))


def enqueue_many(
    session: Session, entries: Iterable[Any], batch: int, wait: float = 0.0, durability: Durability = MEMORY
) -> Plan[list[Enqueued]]:
    """Sends entries in batches, in order. An error carries what had been enqueued before it as `enqueued`."""
    results: list[Enqueued] = []
    try:
        for bodies in _batches(session, entries, batch):
            results += yield from enqueue(session, bodies, wait, durability)
    except ReliqError as error:
        error.enqueued = tuple(results)
        raise
    return results


def batch(
    session: Session, spec: _commands.BatchSpec, entries: Iterable[Any], durability: Durability = MEMORY
) -> Plan[list[Enqueued]]:
    """Enqueues the members of a batch, 1,000 a call, and seals it with the last of them."""
    results: list[Enqueued] = []
    chunks = _batches(session, entries, _policy.MAX_BATCH)
    bodies: list[Body] | None = next(chunks, [])
    while bodies is not None:
        following = next(chunks, None)
        there: frozenset[bytes] = yield _commands.batch(spec, bodies, sealed=following is None, durability=durability)
        results += [Enqueued(_ids.unpack(body.key), body.key not in there, durability.text) for body in bodies]
        bodies = following
    return results


def _batches(session: Session, entries: Iterable[Any], batch: int) -> Iterator[list[Body]]:
    fresh = _ids.stream_of_keys()
    bodies: list[Body] = []
    size = 0
    for number, entry in enumerate(entries):
        body = _numbered(session, entry, number, fresh)
        if bodies and (len(bodies) >= batch or size + len(body.body) > _policy.MAX_BATCH_BYTES):
            yield bodies
            bodies, size = [], 0
        bodies.append(body)
        size += len(body.body)
    if bodies:
        yield bodies


def _numbered(session: Session, entry: Any, number: int, fresh: Iterator[bytes]) -> Body:
    try:
        if isinstance(entry, New):
            return body_of(session, entry, fresh)
        key = next(fresh)
        return Body(key, session.encode(entry, key), made_up=True)
    except PayloadError as error:
        raise PayloadError(f"item {number}: {error}", path=error.path) from error


def body_of(session: Session, new: New, fresh: Iterator[bytes]) -> Body:
    """Encodes an item to enqueue; its id comes from `fresh` where it has none.

    Raises:
        InvalidArgument: its payload, id or time can't be used.
    """
    key = next(fresh) if new.id is None else _ids.pack(_ids.check(new.id))
    group = b"" if new.group is None else _ids.check(new.group, "a group").encode()
    return Body(key, session.encode(new.payload, key, new.headers), _due(new), group, made_up=new.id is None)


def body_of_one(
    session: Session,
    payload: Any,
    id: str | None = None,
    delay: Seconds | None = None,
    at: float | None = None,
    headers: Mapping[str, str] | None = None,
    group: str | None = None,
) -> Body:
    """Encodes a single item. Most have a payload and nothing else: they take half as long.

    Raises:
        InvalidArgument, PayloadError: as `body_of`.
    """
    key = _ids.new_key()
    if id is None and delay is None and at is None and headers is None and group is None:
        return Body(key, session.encode(payload, key), "", b"", True)
    return body_of(session, New(payload, id, delay, at, headers, group), iter([key]))


def _due(new: New) -> str:
    if new.delay is not None and new.at is not None:
        raise InvalidArgument("delay and at exclude each other")
    if new.delay is not None:
        delay = _policy.seconds(new.delay, "delay", low=0, high=_policy.MAX_DELAY)
        return f"+{round(delay * 1000)}" if delay else ""
    if new.at is not None:
        return str(round(_policy.seconds(new.at, "at (Unix time)", low=0, high=2.0**33) * 1000))
    return ""
