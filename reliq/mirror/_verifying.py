"""Compares a queue that was rebuilt with Postgres, item by item and both ways, and opens it where they agree."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from reliq.errors import MirrorConflict
from reliq.mirror import _plan
from reliq.mirror._ahead import ahead
from reliq.mirror._filling import BATCH_BYTES, PAGE, Filling
from reliq.mirror._plan import Digest, StateCheck
from reliq.mirror._recoveries import Recoveries, Recovery
from reliq.mirror.reconcile import reconcile
from reliq.mirror.store import Store
from reliq.queue import Queue

SHOWN = 20  # differences that are named


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether Redis and Postgres hold the same queue.

    Attributes:
        queue: its name.
        ok: every item is on both sides, in the same state and with the same bytes.
        opened: the queue was closed for a rebuild, and is open now.
        checks: state by state.
        differences: up to 20 ids, each with what the mirror and what Redis says of it.
        seconds: how long it took.
    """

    queue: str
    ok: bool
    opened: bool
    checks: tuple[StateCheck, ...]
    differences: tuple[str, ...] = ()
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return self.ok


def verify(store: Store, queue: Queue, *, wait: float = 0.0) -> Verification:
    """Compares a rebuilt queue with Postgres, both ways, and opens it where they agree. Killed, it can be run again.

    A queue that is open already is only compared, as `reconcile` does it.

    Raises:
        MirrorConflict: this queue was never rebuilt here, or a rebuild is running.
        MirrorUnavailable, Unavailable: one of the two sides does not answer.
    """
    recoveries = Recoveries(store, queue.name)
    with recoveries.locked(wait), contextlib.closing(Filling(queue)) as filling:
        target, recovery = filling.look(), recoveries.last()
        if target.state == "ready":
            if recovery is not None and recovery.state == "applied" and target.rebuild == recovery.id:
                _open(recoveries, filling, recovery)  # it was compared, and broken off while it was opened
            return _verify_open(store, queue)
        if recovery is None or target.rebuild != recovery.id:
            raise MirrorConflict(f"Redis has no rebuild of queue {queue.name!r} that this mirror knows: apply one")
        if recovery.state == "applying":
            raise MirrorConflict(f"the rebuild of queue {queue.name!r} is not complete: apply goes on with it")
        return _verify_closed(recoveries, filling, recovery)


def _verify_open(store: Store, queue: Queue) -> Verification:
    started = time.monotonic()
    report = reconcile(store, queue, patience=5.0)
    named = tuple(f"{difference.id}: {difference.text}" for difference in report.differences[:SHOWN])
    return Verification(queue.name, report.ok, False, (), named, time.monotonic() - started)


def _verify_closed(recoveries: Recoveries, filling: Filling, recovery: Recovery) -> Verification:
    started = time.monotonic()
    following = recoveries.following()
    checks = _plan.compare(_mirrored(recoveries, recovery, following), _found(filling, following))
    ok = all(check.same for check in checks)
    different = () if ok else tuple(_differences(recoveries, filling, recovery, following))
    verdict = Verification(recoveries.queue, ok, ok, checks, different, time.monotonic() - started)
    report = {"ok": ok, "states": {check.state: check.found for check in checks}, "differences": list(different)}
    recoveries.report(recovery, report)
    if ok:
        recoveries.settle(recovery)
        filling.end(UUID(recovery.id), recovery.epoch)
        _open(recoveries, filling, recovery)
    return verdict


def _open(recoveries: Recoveries, filling: Filling, recovery: Recovery) -> None:
    """What is left to do when the queue is open; each of it can be done again."""
    for name, next_at, kept in recoveries.crons():
        filling.set_cron(name, next_at, kept)
    recoveries.verified(recovery, filling.first_in_journal(), filling.server())


def _mirrored(recoveries: Recoveries, recovery: Recovery, following: set[bytes]) -> Digest:
    digest = Digest()
    for batch in ahead(_plan.in_batches(recoveries.rows(), PAGE, BATCH_BYTES)):
        for entry in batch:
            if entry.id not in following:
                digest.add(_plan.back(entry, recovery.in_progress, recovery.at_ms))
    for entry in recoveries.ended(recovery):
        if entry.id not in following:
            digest.add(entry)
    return digest


def _found(filling: Filling, following: set[bytes]) -> Digest:
    """What Redis has. What followed a batch while it was restored is not in Postgres yet, and is left out."""
    digest = Digest()
    states = (*_plan.LIVE, "finished")  # the ids of removed items stand among those of finished ones
    for entries in ahead(filling.get(page) for state in states for page in filling.pages(state)):
        for entry in entries:
            if entry.id not in following:
                digest.add(entry)
    return digest


def _differences(recoveries: Recoveries, filling: Filling, recovery: Recovery, following: set[bytes]) -> Iterator[str]:
    """The first ids that are not the same on both sides, in words."""
    shown = 0
    entries = (_plan.back(entry, recovery.in_progress, recovery.at_ms) for entry in recoveries.rows())
    for batch in _plan.in_batches(entries, PAGE, BATCH_BYTES):
        for mirrored, found in zip(batch, filling.get([entry.id for entry in batch]), strict=True):
            if mirrored != found and mirrored.id not in following and shown < SHOWN:
                shown += 1
                yield _plan.difference(mirrored, found)
    for state in _plan.LIVE:
        for page in filling.pages(state):
            known = {entry.id for entry in recoveries.by_id(page)}
            for key in page:
                if key not in known and key not in following and shown < SHOWN:
                    shown += 1
                    yield _plan.difference(None, _plan.Entry(key, state.encode(), *[b""] * 7))
