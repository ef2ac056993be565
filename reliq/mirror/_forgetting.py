"""Forgets marks of effects that no delivery can ask for any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from reliq import _commands, _scripts
from reliq._driver import Driver
from reliq._session import Command, Reply, Session
from reliq.mirror.store import Store

_PAGE = 200  # marks looked at in one call; `get` answers with the record of each item that is still there
_ENDED = (b"", b"finished", b"removed")


def forget_effects(store: Store, driver: Driver, session: Session, age: float | None = None) -> int:
    """Removes marks that are older than the queue remembers ids, and whose items the queue does not hold any more.

    An item that still waits, say among the dead, keeps its mark however old it is.

    Args:
        store: where the marks are.
        driver: asks Redis.
        session: what it knows of the queue.
        age: seconds that a mark is kept at least; None for the queue's `finished_age`.

    Returns:
        How many it removed: none where Redis has no such queue.

    Raises:
        ReliqError: Redis or Postgres can't be asked; what was removed before is gone.
    """
    _, settings = driver.call(_commands.inspect())
    if not session.epoch:
        return 0
    at, key, count = datetime.min.replace(tzinfo=UTC), b"", 0
    seconds = settings.finished_age if age is None else age
    while rows := store.rows("old_effects", **_after(session.queue, seconds, at, key)):
        gone = _not_held(driver, [row[0] for row in rows])
        store.rows("forget_effects", queue=session.queue, ids=gone)
        count += len(gone)
        key, at = rows[-1]
    return count


def _after(queue: str, seconds: float, at: datetime, key: bytes) -> dict[str, Any]:
    return {"queue": queue, "age": seconds, "done_at": at, "id": key, "rows": _PAGE}


def _not_held(driver: Driver, keys: Sequence[bytes]) -> list[bytes]:
    states = driver.call(Command(_scripts.load("get"), keys, _states))
    return [key for key, state in zip(keys, states, strict=True) if state in _ENDED]


def _states(reply: Reply) -> list[bytes]:
    return [found[0] for found in reply[3]]
