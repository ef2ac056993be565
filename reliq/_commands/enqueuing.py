"""Putting items in: alone, many at once, as members of a batch; and waiting for room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reliq import _ids, _scripts
from reliq._commands.arguments import ms
from reliq._durability import MEMORY, Durability
from reliq._session import Command, Reply
from reliq.outcomes import Enqueued


class Body(NamedTuple):
    """An item that is ready to be sent."""

    key: bytes
    body: bytes
    due: str = ""
    group: bytes = b""
    made_up: bool = False  # its id is ours: nobody else can have enqueued it


def _stride(body: Body) -> int:
    """How many of an item's parts have to be sent."""
    return 4 if body.group else 3 if body.due else 2


def enqueue(bodies: Sequence[Body], durability: Durability = MEMORY) -> Command[list[Enqueued]]:
    """Adds items. Of two with the same id in one call the first counts."""
    if len(bodies) == 1:
        return _enqueue_one(bodies[0], durability)
    unique = {body.key: body for body in reversed(bodies)}
    sent = bodies if len(unique) == len(bodies) else list({body.key: unique[body.key] for body in bodies}.values())
    stride = max(map(_stride, sent))
    args: list[bytes | str | int] = [stride]
    for body in sent:
        args += body[:stride]

    def decode(reply: Reply) -> list[Enqueued]:
        there = {sent[i].key for i in reply[2]}
        if not there and sent is bodies:
            return [Enqueued(_ids.unpack(body.key), True, durability.text) for body in bodies]
        results = []
        for body in bodies:
            created = body.made_up or body.key not in there
            results.append(Enqueued(_ids.unpack(body.key), created, durability.text))
            there.add(body.key)
        return results

    return Command(_scripts.load("enqueue"), args, decode, [body.key for body in sent], durability)


def _enqueue_one(body: Body, durability: Durability) -> Command[list[Enqueued]]:
    def decode(reply: Reply) -> list[Enqueued]:
        return [Enqueued(_ids.unpack(body.key), body.made_up or not reply[2], durability.text)]

    stride = _stride(body)
    args = (stride, *body[:stride])
    return Command(_scripts.load("enqueue"), args, decode, (body.key,), durability)


def await_room(producer: bytes, wait: float, count: int, size: int) -> Command[bool]:
    """Whether so many items fit now; where not, a producer is noted as waiting for this many seconds."""
    return Command(_scripts.load("await_room"), (producer, ms(wait), count, size), lambda reply: bool(reply[2]))


class BatchSpec(NamedTuple):
    """A batch: its id, what follows it, and when (`finished` or `settled`)."""

    key: bytes
    when: str
    then: Body


def batch(
    spec: BatchSpec, bodies: Sequence[Body], *, sealed: bool, durability: Durability = MEMORY
) -> Command[frozenset[bytes]]:
    """Adds members to a batch, which is complete with them where it is sealed. Returns the ids that were known."""
    unique = list({body.key: body for body in reversed(bodies)}.values())[::-1]
    args: list[bytes | str | int] = [spec.key, spec.when, int(sealed)]
    args += (spec.then.key, spec.then.due, spec.then.group, spec.then.body)
    for body in unique:
        args += (body.key, body.body, body.due, body.group)

    def decode(reply: Reply) -> frozenset[bytes]:
        return frozenset(unique[int(i)].key for i in reply[2])

    return Command(_scripts.load("batch"), args, decode, [body.key for body in unique], durability)
