"""Verbs without a bound, in calls that have one."""

from __future__ import annotations

from collections.abc import Sequence

from reliq import _commands, _ids, _policy
from reliq._plans.effects import Plan
from reliq._session import Session
from reliq.info import ItemInfo
from reliq.outcomes import Recovered
from reliq.states import ItemState


def recover(limit: int) -> Plan[Recovered]:
    """Takes back up to `limit` items."""
    total = Recovered()
    while limit > 0:
        found, left = yield _commands.recover(min(limit, _policy.MAX_BATCH))
        total += found
        limit -= max(1, found.requeued + found.orphaned + found.dead + found.unreadable)
        if not left:
            break
    return total


def redrive(limit: int) -> Plan[int]:
    """Moves up to `limit` dead items back to the queue."""
    moved = 0
    while moved < limit:
        asked = min(limit - moved, _policy.MAX_BATCH)
        count: int = yield _commands.redrive(asked, _ids.new_receipt())
        moved += count
        if count < asked:
            break
    return moved


def purge(states: Sequence[ItemState]) -> Plan[int]:
    """Removes all items of some states, as they were when the purge came by."""
    removed = 0
    for state in states:
        more = True
        while more:
            count, more = yield _commands.purge(state, _policy.MAX_BATCH)
            removed += count
    return removed


def peek(session: Session, count: int) -> Plan[list[ItemInfo]]:
    """The first `count` queued items. Places of cancelled ones are passed over, so a page may have fewer."""
    found: list[ItemInfo] = []
    cursor, more = b"", True
    while more and len(found) < count:
        infos, cursor = yield from scan_page(session, ItemState.QUEUED, cursor, count if not cursor else 100)
        found += infos
        more = cursor != b""
    return found[:count]


def scan_page(session: Session, state: ItemState, cursor: bytes, limit: int) -> Plan[tuple[list[ItemInfo], bytes]]:
    """A page of items. What left the state between the two calls is left out."""
    keys, cursor = yield _commands.scan(state, cursor, limit)
    if not keys:
        return [], cursor
    infos = yield _commands.get(session, keys)
    return [info for info in infos if info is not None and info.state is state], cursor
