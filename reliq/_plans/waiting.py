"""Waiting until an item has ended, or a queue is empty."""

from __future__ import annotations

import time

from reliq import _commands, _ids
from reliq._plans.effects import Clock, Listen, Plan, Sleep
from reliq._session import Command, Session
from reliq.errors import DrainTimeout
from reliq.info import Counts, ItemInfo
from reliq.states import ItemState

UNKNOWN = "no item has this id"
_ENDS = (ItemState.FINISHED, ItemState.REMOVED, ItemState.DEAD)


def wait_for_end(session: Session, key: bytes, seconds: float) -> Plan[ItemInfo | None]:
    """What became of an item: when it has finished, died or been removed, or is unknown. None when the time is up."""

    def ask(left: float) -> Command[bool | None]:
        command = _commands.watch(key, left)
        return Command(command.script, command.args, lambda reply: _has_ended(command.decode(reply)), command.keys)

    if (yield Listen(session.keys["ended"], ask, seconds)) is None:
        return None
    infos = yield _commands.get(session, [key])
    return infos[0] or ItemInfo(_ids.unpack(key), ItemState.REMOVED, problem=UNKNOWN)


def _has_ended(state: ItemState | None) -> bool | None:
    return True if state is None or state in _ENDS else None


def drain(queue: str, timeout: float, *, clock: Clock = time.monotonic) -> Plan[Counts]:
    """Closes the queue for new items and waits until no item wants a worker any more.

    Raises:
        DrainTimeout: the time is up. The queue stays closed for new items.
    """
    until = clock() + timeout
    yield _commands.pause(claim=False, enqueue=True)
    pause = 0.01
    while True:
        counts: Counts = (yield _commands.inspect())[0]
        if counts.waiting == 0:
            return counts
        if clock() >= until:
            left = {"queued": counts.queued, "scheduled": counts.scheduled, "in_progress": counts.in_progress}
            raise DrainTimeout(queue, left)
        yield Sleep(max(0.0, min(pause, until - clock())))
        pause = min(0.5, pause * 1.5)
