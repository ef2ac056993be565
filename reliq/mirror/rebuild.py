"""Fills an empty Redis with a queue from Postgres: `plan_rebuild` looks, `apply` restores. `verify` stands beside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from reliq.errors import MirrorConflict, NotMirrored
from reliq.mirror import _plan
from reliq.mirror._ahead import ahead
from reliq.mirror._filling import BATCH_BYTES, PAGE, Filling
from reliq.mirror._plan import Entry, Hazard, RebuildPlan, StateCheck, Target
from reliq.mirror._recoveries import Recoveries, Recovery, who
from reliq.mirror._verifying import Verification, verify
from reliq.mirror.store import Store
from reliq.queue import Queue

__all__ = ["Hazard", "RebuildPlan", "RebuildProgress", "StateCheck", "Verification", "apply", "plan_rebuild", "verify"]

TELL_EVERY = 1.0  # seconds between two notes of how far it is


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is.

    Attributes:
        phase: `items`, `batches`, `ended`, `done`.
        done, total: items and ended ids, all phases together.
        seconds: since this call began.
        begun_at: what earlier calls had done.
    """

    queue: str
    phase: str
    done: int
    total: int
    seconds: float
    begun_at: int = 0

    @property
    def rate(self) -> float:
        """Items a second, in this call."""
        return (self.done - self.begun_at) / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds that are left at this rate; None while that can't be told."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


Report = Callable[[RebuildProgress], object]


def plan_rebuild(store: Store, queue: Queue, *, anew: bool = False) -> RebuildPlan:
    """Looks at both sides of a queue, and says what a rebuild would do. Changes nothing.

    Where a rebuild of this queue was broken off, the plan is to go on with it; `anew`: to begin again instead.

    Raises:
        NotMirrored: Postgres knows no such queue.
        MirrorUnavailable, Unavailable: one of the two sides does not answer.
    """
    recoveries = Recoveries(store, queue.name)
    with contextlib.closing(Filling(queue)) as filling:
        source, target = recoveries.source(), filling.look()
    if source is None:
        raise NotMirrored(f"the mirror has no queue {queue.name!r}: it was never followed")
    if (unfinished := recoveries.unfinished()) and not anew:
        return replace(_going_on(unfinished, target), client=queue)
    return replace(_plan.make(queue.name, str(uuid4()), source, target), client=queue)


def _going_on(unfinished: Recovery, target: Target) -> RebuildPlan:
    """The plan of a rebuild that was broken off, as it was made; with what is in its way now."""
    earlier = RebuildPlan.from_dict(unfinished.plan)
    found = [Hazard("unfinished", f"begun by {unfinished.who}; it goes on where it was, as {unfinished.in_progress}")]
    if not target.empty and target.rebuild != earlier.recovery:
        text = f"Redis has the queue with epoch {target.epoch}, {target.state}, and not from this rebuild"
        found.append(Hazard("target not empty", text, blocks=True))
    return replace(earlier, resumes=True, in_progress=unfinished.in_progress, hazards=tuple(found))


def apply(
    store: Store,
    plan: RebuildPlan,
    *,
    rate: float | None = None,
    on_progress: Report | None = None,
    in_progress: str = "requeue",
    wipe: bool = False,
    wait: float = 0.0,
) -> RebuildProgress:
    """Does what a plan says, and leaves the queue closed until `verify` has opened it.

    It can be killed at any point and run again, with this plan or a new one: the end is the same. From its first step
    on clients that know an earlier epoch are refused, and so is a follower of the old one.

    Args:
        store: the mirror's.
        plan: as `plan_rebuild` made it.
        rate: items a second at most; None for as fast as it goes.
        on_progress: is told about once a second, and at the end.
        in_progress: what becomes of items that somebody held: `requeue` at their old place, with one delivery more; or
            `hold` as orphaned, for people who look first. A rebuild that goes on keeps what it began with.
        wipe: remove what Redis has of the queue.
        wait: seconds to wait while another rebuild of this queue runs.

    Raises:
        MirrorConflict: another rebuild runs; or things have changed since the plan; or Redis is not empty.
        MirrorUnavailable, Unavailable: one of the two sides went away. Run it again.
    """
    run = _Run(store, plan, rate, on_progress or (lambda _: None))
    with run.recoveries.locked(wait), contextlib.closing(run.filling):
        recovery = run.begin(in_progress, wipe=wipe)
        run.restore(recovery)
        return run.tell("done", state="applied")


class _Run:
    """One call of `apply`."""

    def __init__(self, store: Store, plan: RebuildPlan, rate: float | None, report: Report) -> None:
        self.store, self.plan, self.rate, self.report = store, plan, rate, report
        self.recoveries = Recoveries(store, plan.queue)
        self.filling = Filling(plan.client)
        self.id = UUID(plan.recovery)
        self.started, self.told = time.monotonic(), 0.0
        self.done = self.begun_at = 0
        self.after: tuple[int, bytes] = (-1, b"")

    def begin(self, in_progress: str, *, wipe: bool) -> Recovery:
        """Fences off the past in Postgres, then in Redis. Finds out where to go on."""
        target, going_on = self.filling.look(), self.recoveries.find(self.plan.recovery)
        if going_on is None:
            self._unchanged(target)
        if not (target.empty or wipe or target.rebuild == self.plan.recovery):
            raise MirrorConflict(
                f"Redis has queue {self.plan.queue!r}: epoch {target.epoch}, {target.state}; wipe removes it"
            )
        recovery = going_on or self.recoveries.begin(self.plan, in_progress, who())
        if recovery.state == "verified":
            raise MirrorConflict(f"this rebuild of queue {self.plan.queue!r} has been done; make a new plan")
        fresh = target.rebuild != self.plan.recovery
        self.filling.begin(self.id, self.plan.epoch_after, recovery.settings, wipe=wipe and fresh)
        if not fresh:
            self._go_on(recovery.progress)
        return recovery

    def _unchanged(self, target: Target) -> None:
        source = self.recoveries.source()
        if source is None or _plan.fingerprint(self.plan.queue, source, target) != self.plan.fingerprint:
            raise MirrorConflict(f"queue {self.plan.queue!r} has changed since the plan was made; make a new one")

    def _go_on(self, progress: Mapping[str, Any]) -> None:
        """What was noted counts only where Redis still has it: it may have been restarted from an older file since."""
        if progress and self.filling.restored() >= progress["done"]:
            self.done = self.begun_at = progress["done"]
            self.after = (progress["stamp"], bytes.fromhex(progress["id"]))

    def restore(self, recovery: Recovery) -> None:
        """All items in the order of their stamps, then what counts them, then what has ended."""
        entries = self._entries(recovery)
        for batch in ahead(_plan.in_batches(entries, PAGE, BATCH_BYTES)):
            self._put(batch)
            self.after = (batch[-1].stamp, batch[-1].id)
            self._maybe_tell("items")
        for row in self.recoveries.batches():
            self.filling.restore_batch(self.id, row)
        for batch in _plan.in_batches(self.recoveries.ended(recovery), PAGE, BATCH_BYTES):
            self._put(batch)
            self._maybe_tell("ended")

    def _entries(self, recovery: Recovery) -> Iterator[Entry]:
        for entry in self.recoveries.rows(self.after):
            yield _plan.back(entry, recovery.in_progress, recovery.at_ms)

    def _put(self, batch: list[Entry]) -> None:
        self.filling.restore(self.id, batch)
        self.done += len(batch)
        if self.rate:
            ahead = (self.done - self.begun_at) / self.rate - (time.monotonic() - self.started)
            time.sleep(max(0.0, ahead))

    def _maybe_tell(self, phase: str) -> None:
        if time.monotonic() - self.told >= TELL_EVERY:
            self.tell(phase)

    def tell(self, phase: str, state: str = "applying") -> RebuildProgress:
        """Notes in Postgres how far it is, and tells whoever wants to know."""
        now, total = time.monotonic(), self.plan.items + self.plan.ended
        if phase == "done":
            total = self.done
        progress = RebuildProgress(self.plan.queue, phase, self.done, total, now - self.started, self.begun_at)
        if phase != "ended":
            stamp, key = self.after
            note = {"phase": phase, "done": self.done, "total": total, "stamp": stamp, "id": key.hex()}
            self.recoveries.note(self.plan.recovery, note, state)
        self.told = now
        self.report(progress)
        return progress
