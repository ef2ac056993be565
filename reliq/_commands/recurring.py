"""Recurring items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reliq import _scripts
from reliq._commands.enqueuing import Body
from reliq._session import Command, Reply


@dataclass(frozen=True, slots=True)
class StoredCron:
    """A recurring item as the server has it; `definition` is for _cron.py to read. Ticks are in ms, None for none."""

    name: str
    tick: int | None
    last: int | None
    revision: bytes
    definition: bytes


class CronsReply(NamedTuple):
    """Recurring items, and the server's time in ms."""

    now: int
    crons: list[StoredCron]


def crons(which: str, name: str = "", offset: int = 0) -> Command[CronsReply]:
    """Recurring items: the `one` of a name, those that are `due` (100 at most, from the offset on), or `all`."""

    def decode(reply: Reply) -> CronsReply:
        entries = zip(reply[3], reply[4], reply[5], strict=True)
        return CronsReply(int(reply[2]), [_stored(name, tick, value) for name, tick, value in entries if value])

    return Command(_scripts.load("crons"), (which, name, offset), decode)


def _stored(name: bytes, tick: bytes, value: bytes) -> StoredCron:
    last, revision, definition = value.split(b" ", 2)
    next_tick = None if tick == b"inf" else int(float(tick))
    return StoredCron(name.decode(), next_tick, int(last) or None, revision, definition)


def cron_set(name: str, seen: bytes, revision: bytes, definition: bytes, tick: str) -> Command[str]:
    """Keeps a recurring item (removes it: b""), if its revision is still the one that was seen.

    `tick`: the next one in ms, `inf` for none, "" to leave it as it is. Returns `done`, `changed` or `full`.
    """
    args = (name, seen, revision, definition, tick)
    return Command(_scripts.load("cron_set"), args, lambda reply: reply[2].decode())


def cron_tick(stored: StoredCron, tick: int | None, last: int | None, bodies: Sequence[Body]) -> Command[int | None]:
    """Enqueues the items of ticks and sets the next tick. Returns how many, None where somebody else was faster."""
    args: list[bytes | str | int] = [stored.name, stored.revision, "inf" if stored.tick is None else stored.tick]
    args += ("inf" if tick is None else tick, "" if last is None else last)
    for body in bodies:
        args += (body.key, body.body, body.group)

    def decode(reply: Reply) -> int | None:
        return int(reply[3]) if reply[2] else None

    return Command(_scripts.load("cron_tick"), args, decode, [body.key for body in bodies])
