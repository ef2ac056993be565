"""Recurring items: what is kept of them, and the plans that change them and enqueue their items.

Everything that has to be exact is in lua/cron_tick.lua: a tick is one script that looks whether it is still to be done.
So it does not matter who calls `tick`, how often, or at how many places at once.
"""

from __future__ import annotations

import datetime as dt
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from reliq import _codec, _commands, _ids, _policy
from reliq._commands import Body, StoredCron
from reliq._plans import Plan
from reliq._reading import decoded
from reliq._schedule import Schedule, schedule
from reliq._session import Session
from reliq.errors import CodecError, InvalidArgument, PayloadError, QueueFull, QueuePaused
from reliq.info import Cron

log = logging.getLogger("reliq.cron")

MISSED = ("one", "all", "skip")
MAX_NAME = 100  # bytes
MAX_BODY = 64 * 1024  # bytes of a payload as stored: listing a thousand of them is one call
PAGE = 100  # due ones in one reply
ROUNDS = 20  # pages that one call looks at
_told: set[tuple[str, ...]] = set()


@dataclass(frozen=True, slots=True)
class Definition:
    """A recurring item as clients know it. `body`: the payload and headers, encoded as the item `cron:{name}`."""

    schedule: Schedule
    group: str
    missed: str
    body: bytes

    def packed(self) -> bytes:
        """As the server has it."""
        schedule = self.schedule
        return _codec.pack_payload([schedule.expression, schedule.time_zone, self.group, self.missed, self.body])


def definition_of(stored: StoredCron) -> Definition:
    """Reads a definition. Raises CodecError where it has another form."""
    match _codec.unpack_payload(stored.definition):
        case [str() as expression, str() as zone, str() as group, str() as missed, bytes() as body, *_]:
            return Definition(Schedule(expression, zone), group, missed, body)
    raise CodecError(f"the recurring item {stored.name!r} has no form that this reliq knows")


def define(
    session: Session,
    name: str,
    expression: str,
    payload: Any,
    time_zone: str,
    headers: Mapping[str, str] | None,
    group: str | None,
    missed: str,
) -> Definition:
    """Checks and encodes a recurring item.

    Raises:
        InvalidArgument, PayloadError.
    """
    check_name(name)
    ticks = schedule(expression, time_zone)
    if group is not None:
        _ids.check(group, "a group")
    body = _codec.sized(session.encode(payload, _key(name), headers), MAX_BODY)
    return Definition(ticks, group or "", _policy.one_of(missed, "missed", MISSED), body)


def check_name(name: str) -> str:
    """Returns a name that may be one."""
    if len(_ids.check(name, "a name").encode()) > MAX_NAME:
        raise InvalidArgument(f"the name of a recurring item has {MAX_NAME} bytes at most")
    return name


def view(session: Session, stored: StoredCron) -> Cron:
    """A recurring item for people."""
    try:
        definition = definition_of(stored)
    except CodecError as error:
        return Cron(stored.name, "", paused=stored.tick is None, problem=str(error))
    payload, headers, problem = _content(session, stored.name, definition)
    return Cron(
        stored.name,
        definition.schedule.expression,
        payload,
        headers,
        definition.group or None,
        definition.schedule.time_zone,
        definition.missed,
        stored.tick is None,
        None if stored.tick is None else stored.tick / 1000,
        None if stored.last is None else stored.last / 1000,
        str(problem) if problem else None,
    )


def _content(session: Session, name: str, definition: Definition) -> tuple[Any, dict[str, str], CodecError | None]:
    return decoded(session, _key(name), bytes(_codec.STAMP) + definition.body)


def _key(name: str) -> bytes:
    """The id that its payload is encoded for: codecs may bind what they write to an id."""
    return _ids.pack(f"cron:{name}")


# Plans


def list_all(session: Session) -> Plan[list[Cron]]:
    """All recurring items, those whose tick comes first ahead."""
    reply: _commands.CronsReply = yield _commands.crons("all")
    return [view(session, stored) for stored in reply.crons]


def keep(session: Session, name: str, definition: Definition) -> Plan[Cron]:
    """Keeps a recurring item. One that has the same ticks as before keeps its next one, and stays paused."""
    revision, packed = _new_revision(), definition.packed()
    while True:
        before, now = yield from _find(name)
        if before and (before.tick is None or _ticks_as(before, definition)):
            tick, stays = before.tick, True
        else:
            tick, stays = _in_ms(definition.schedule.next(now)), False
        if (yield from _write(name, before, revision, packed, "" if stays else _word(tick))):
            return view(session, StoredCron(name, tick, before.last if before else None, revision, packed))


def _ticks_as(before: StoredCron, definition: Definition) -> bool:
    try:
        return definition_of(before).schedule == definition.schedule
    except CodecError:  # what can't be read is replaced
        return False


def pause(name: str) -> Plan[bool]:
    """Takes its next tick away. False where there is no such item."""
    return (yield from _change(name, lambda before, _: (before.definition, "inf")))


def resume(name: str) -> Plan[bool]:
    """Gives a paused one its next tick from now on. False where there is no such item."""

    def resumed(before: StoredCron, now: float) -> tuple[bytes, str]:
        paused = before.tick is None
        return before.definition, _word(_in_ms(definition_of(before).schedule.next(now))) if paused else ""

    return (yield from _change(name, resumed))


def remove(name: str) -> Plan[bool]:
    """Forgets a recurring item; its items stay. False where there is no such one."""
    return (yield from _change(name, lambda *_: (b"", "")))


def _change(name: str, changed: Callable[[StoredCron, float], tuple[bytes, str]]) -> Plan[bool]:
    """Changes one that is there: its definition, and its next tick as lua/cron_set.lua has it."""
    revision = _new_revision()
    while True:
        before, now = yield from _find(name)
        if before is None:
            return False
        if (yield from _write(name, before, revision, *changed(before, now))):
            return True


def _find(name: str) -> Plan[tuple[StoredCron | None, float]]:
    reply: _commands.CronsReply = yield _commands.crons("one", name)
    return (reply.crons[0] if reply.crons else None), reply.now / 1000


def _write(name: str, before: StoredCron | None, revision: bytes, packed: bytes, tick: str) -> Plan[bool]:
    """False where somebody else has changed it meanwhile."""
    seen = before.revision if before else b""
    outcome: str = yield _commands.cron_set(name, seen, revision, packed, tick)
    if outcome == "full":
        raise InvalidArgument("a queue has 1,000 recurring items at most")
    return outcome == "done"


def _new_revision() -> bytes:
    return secrets.token_hex(8).encode()


def tick(session: Session) -> Plan[int]:
    """Enqueues what is due. Returns how many items it enqueued. What can't be enqueued now keeps its tick."""
    count = stayed = 0
    for _ in range(ROUNDS):
        reply: _commands.CronsReply = yield _commands.crons("due", offset=stayed)
        for stored in reply.crons:
            try:
                count += yield from _tick_one(session, stored, reply.now / 1000)
            except _NotNow as error:
                stayed += 1
                _tell(session.queue, stored.name, str(error))
        if len(reply.crons) < PAGE:
            break
    return count


class _NotNow(Exception):
    """A tick has to wait, for a queue with room, or for a client that can make its item."""


def _tick_one(session: Session, stored: StoredCron, now: float) -> Plan[int]:
    count = 0
    for step in _steps(session, stored, now):
        try:
            made: int | None = yield _commands.cron_tick(stored, step.tick, step.last, step.bodies)
        except (QueueFull, QueuePaused) as error:
            raise _NotNow(str(error)) from error
        if made is None:  # somebody else was faster, or it has changed
            break
        count += made
        stored = replace(stored, tick=step.tick)
    return count


@dataclass(frozen=True, slots=True)
class _Step:
    """One call: items, the tick that comes after them, the last of their ticks; in ms, None where there is none."""

    bodies: Sequence[Body]
    tick: int | None
    last: int | None


def _steps(session: Session, stored: StoredCron, now: float) -> list[_Step]:
    """What to do for the ticks that are due."""
    try:
        definition = definition_of(stored)
        payload, headers, problem = _content(session, stored.name, definition)
        if problem:
            raise _NotNow(str(problem))
        ticks = definition.schedule.due((stored.tick or 0) // 1000, now, definition.missed)
        made = [(at, _body(session, stored.name, at, payload, headers, definition.group)) for at in ticks]
        following = _in_ms(definition.schedule.next(now))
    except (CodecError, PayloadError, InvalidArgument) as error:
        raise _NotNow(str(error)) from error
    calls = list(_calls(made))
    after = [call[0][0] * 1000 for call in calls[1:]] + [following]
    steps = zip(calls, after, strict=True) if calls else ()
    return [_Step([body for _, body in call], at, call[-1][0] * 1000) for call, at in steps] or [
        _Step((), following, None)
    ]


def _calls(made: Sequence[tuple[int, Body]]) -> Iterator[Sequence[tuple[int, Body]]]:
    """As many as go into one call."""
    if made:
        size = max(1, min(_policy.MAX_BATCH, _policy.MAX_BATCH_BYTES // max(len(body.body) for _, body in made)))
        edges = [*range(0, len(made), size), len(made)]
        for start, end in pairwise(edges):
            yield made[start:end]


def _body(session: Session, name: str, at: int, payload: Any, headers: Mapping[str, str], group: str) -> Body:
    key = _ids.pack(item_id(name, at))
    return Body(key, session.encode(payload, key, headers), group=group.encode())


def item_id(name: str, at: float) -> str:
    """The id of the item for a tick."""
    return f"cron:{name}:{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _in_ms(tick: int | None) -> int | None:
    return None if tick is None else tick * 1000


def _word(tick: int | None) -> str:
    return "inf" if tick is None else str(tick)


def _tell(*words: str) -> None:
    """Logs once in a process that a tick waits, and why."""
    if words not in _told:
        _told.add(words)
        log.warning("queue %s: the tick of %s waits: %s", *words)
