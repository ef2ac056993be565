"""The Postgres side of rebuilding: what there is of a queue, and the record of what was done to bring it back."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reliq.errors import MirrorConflict
from reliq.mirror import _plan
from reliq.mirror._plan import Entry, RebuildPlan, Source
from reliq.mirror._sql import statement
from reliq.mirror.store import Store, query

ROWS = 50_000  # of one statement: a transaction that runs for long keeps Postgres from cleaning up
HELD = 1000  # rows of items in progress in one statement
AGE, COUNT = 3600.0, 1_000_000  # of ended ids, where the queue's settings say nothing: as lua/_end.lua


@dataclass(frozen=True, slots=True)
class Recovery:
    """A rebuild that has begun, as Postgres has it."""

    id: str
    fingerprint: str
    options: Mapping[str, Any]
    plan: Mapping[str, Any]
    progress: Mapping[str, Any]
    state: str
    epoch: int
    who: str

    @property
    def in_progress(self) -> str:
        """What becomes of items that were in progress."""
        return str(self.options["in_progress"])

    @property
    def at_ms(self) -> int:
        """When it began: what is held was set aside then, however often the rebuild was broken off."""
        return int(self.options["at_ms"])

    @property
    def settings(self) -> dict[str, str]:
        """What Redis notes of the queue from the start: its settings, and that it is mirrored."""
        return {str(name): str(value) for name, value in self.options["settings"].items()}


class Recoveries:
    """Of one queue."""

    def __init__(self, store: Store, queue: str) -> None:
        self.store, self.queue = store, queue

    def _row(self, name: str, **values: Any) -> tuple[Any, ...] | None:
        return next(iter(self.store.rows(name, **values)), None)

    def _copy(self, name: str, **values: Any) -> Iterator[tuple[bytes, ...]]:
        """Rows as Postgres sends them, one at a time: none is held but that which is looked at."""
        with self.store.lend() as connection, connection.cursor() as cursor:
            with cursor.copy(statement(name), values) as copy:
                yield from copy.rows()

    # What there is

    def source(self) -> Source | None:
        """What Postgres has of the queue, None where that is nothing."""
        row = self._row("recovery_source", queue=self.queue)
        if row is None:
            return None
        epoch, state, position, top, lag_items, lag_seconds, ago, follower, settings, _ = row
        counts = self.store.rows("recovery_counts", queue=self.queue)
        pending, ended, batches = self._row("recovery_others", queue=self.queue, age=_age(settings))
        return Source(
            epoch,
            state,
            position,
            max(top, *(stamp for _, _, stamp in counts), 0),
            lag_items,
            lag_seconds,
            ago,
            follower,
            {name: count for name, count, _ in counts},
            ended,
            pending,
            batches,
        )

    def rows(self, after: tuple[int, bytes] = (-1, b"")) -> Iterator[Entry]:
        """All live items behind a stamp and id, in order, as they were when the follower met them."""
        stamp, key = after
        while True:
            last, count = b"", 0
            place = {"queue": self.queue, "stamp": stamp, "id": key, "limit": ROWS}
            for *parts, last in self._copy("recovery_items", **place):
                entry = Entry._make(parts)
                key, count = entry.id, count + 1
                yield entry
            if count < ROWS:
                return
            stamp = int.from_bytes(last, "big")

    def by_id(self, ids: Sequence[bytes]) -> list[Entry]:
        """The live items among these ids."""
        found = self.store.rows("recovery_rows_by_id", queue=self.queue, ids=list(ids))
        return [Entry(*(part.encode() if isinstance(part, str) else part for part in row)) for row in found]

    def ended(self, recovery: Recovery) -> Iterator[Entry]:
        """Ids that ended within the retention, as it was when the rebuild began; those that ended first come first."""
        since = datetime.fromisoformat(recovery.options["ended_since"])
        for key, ended in self._copy(
            "recovery_ended", queue=self.queue, since=since, count=recovery.options["ended_count"]
        ):
            yield _plan.marker(key, ended)

    def batches(self) -> list[Sequence[Any]]:
        """Batches as lua/restore_batch.lua takes them."""
        return self.store.rows("recovery_batches", queue=self.queue)

    def following(self) -> set[bytes]:
        """Ids of the items that follow batches which await nobody: they were enqueued when the batch was restored."""
        through = [bytes(row[5]) for row in self.batches() if row[2] and row[4] <= 0]
        return {packed[1 : 1 + packed[0]] for packed in through}

    # What was done

    @contextlib.contextmanager
    def locked(self, wait: float) -> Iterator[None]:
        """While one holds this, nobody else rebuilds or verifies the queue.

        Raises:
            MirrorConflict: after `wait` seconds somebody else still does.
        """
        until = time.monotonic() + wait
        with contextlib.closing(self.store.connect()) as connection:
            while not query(connection, "recovery_lock", {"queue": self.queue})[0][0]:
                if time.monotonic() >= until:
                    raise MirrorConflict(f"{self._holder()} is rebuilding queue {self.queue!r}; wait, or stop it")
                time.sleep(0.1)
            yield

    def _holder(self) -> str:
        row = self._row("recovery_lock_holder", queue=self.queue)
        found = self.unfinished()
        who = found.who if found else "another program"
        return f"{who} (Postgres session {row[2]} from {row[1]})" if row else who

    def begin(self, plan: RebuildPlan, in_progress: str, who: str) -> Recovery:
        """Raises the epoch, notes the rebuild, and takes in what is pending: in one transaction."""
        options = self._options(in_progress)
        facts = {"options": json.dumps(options), "plan": json.dumps(plan.as_dict()), "who": who, "queue": self.queue}
        facts |= {"recovery": plan.recovery, "fingerprint": plan.fingerprint}
        facts |= {"epoch_before": plan.epoch_before, "epoch_after": plan.epoch_after}
        with self.store.lend() as connection, connection.transaction():
            if not query(connection, "recovery_begin", facts):
                raise MirrorConflict(f"the epoch of queue {self.queue!r} has changed; make a new plan")
            query(connection, "recovery_abort_earlier", facts)
            query(connection, "recovery_adopt_pending", facts)
        begun = self.find(plan.recovery)
        assert begun is not None
        return begun

    def _options(self, in_progress: str) -> dict[str, Any]:
        row = self._row("recovery_source", queue=self.queue)
        settings = dict(row[8])
        now, since = self._row("recovery_times", age=_age(settings))
        return {
            "in_progress": in_progress,
            "at_ms": int(now.timestamp() * 1000),
            "ended_since": since.isoformat(),
            "ended_count": int(settings.get("finished_count") or COUNT),
            "settings": {name: str(value) for name, value in settings.items()} | {"mirrored": "1"},
        }

    def find(self, recovery: str) -> Recovery | None:
        """A rebuild by its id."""
        return _recovery(self._row("recovery_find", queue=self.queue, recovery=recovery))

    def unfinished(self) -> Recovery | None:
        """The rebuild that was begun and has not been verified."""
        return _recovery(self._row("recovery_unfinished", queue=self.queue))

    def last(self) -> Recovery | None:
        """The rebuild that was begun last."""
        return _recovery(self._row("recovery_last", queue=self.queue))

    def note(self, recovery: str, progress: Mapping[str, Any], state: str) -> None:
        """How far it is."""
        self.store.rows("recovery_progress", recovery=recovery, progress=json.dumps(progress), state=state)

    def verified(self, recovery: Recovery, report: Mapping[str, Any]) -> None:
        """The rows become what Redis has, and a follower may begin at the start of the new journal."""
        facts = {"queue": self.queue, "epoch": recovery.epoch, "recovery": recovery.id, "report": json.dumps(report)}
        with self.store.lend() as connection, connection.transaction():
            while held := query(connection, "recovery_held", {"queue": self.queue, "limit": HELD}):
                query(connection, "recovery_settle_held", facts | _settled(held, recovery))
            query(connection, "recovery_verified", facts)

    def failed(self, recovery: Recovery, report: Mapping[str, Any]) -> None:
        """Notes what was not the same. The queue stays closed."""
        self.store.rows("recovery_failed", recovery=recovery.id, report=json.dumps(report))


def _settled(held: Sequence[Sequence[Any]], recovery: Recovery) -> dict[str, Any]:
    """What rows of items in progress become, as columns."""
    rows = [Entry(key, b"in_progress", b"", history.encode(), b"", b"", b"", b"", b"") for key, history in held]
    entries = [_plan.back(entry, recovery.in_progress, recovery.at_ms) for entry in rows]
    orphaned = recovery.in_progress == "hold"
    return {
        "state": "orphaned" if orphaned else "queued",
        "at_ms": recovery.at_ms if orphaned else None,
        "ids": [entry.id for entry in entries],
        "histories": [entry.history.decode() for entry in entries],
    }


def _recovery(row: Sequence[Any] | None) -> Recovery | None:
    return None if row is None else Recovery(str(row[0]), *row[1:])


def _age(settings: Mapping[str, Any]) -> float:
    """Seconds for which ended ids are remembered."""
    return float(settings["finished_age_ms"]) / 1000 if settings.get("finished_age_ms") else AGE
