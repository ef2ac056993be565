"""What tests of the mirror have in common: rows of Postgres and items of Redis, side by side."""

from __future__ import annotations

import random
from typing import Any

from reliq import Item, New, Queue, _scripts
from reliq._codec import STAMP
from reliq._session import Command
from reliq.mirror import Mirror
from reliq.mirror._journal import Journal

COLUMNS = ("id", "stamp", "state", "body", "history", "at_ms", "error", "group_name", "checkpoint", "batch")
STATES = ("queued", "scheduled", "in_progress", "orphaned", "dead")


def rows_of(mirror: Mirror, name: str) -> dict[bytes, dict[str, Any]]:
    """The rows of a queue by id."""
    with mirror.store.lend() as connection:
        found = connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM reliq.items WHERE queue = %s".encode(), (name,)
        ).fetchall()
    rows = {row[0]: dict(zip(COLUMNS[1:], row[1:], strict=True)) for row in found}
    return {key: {**row, "history": counts_in(row["history"])} for key, row in rows.items()}


def counts_in(history: str) -> tuple[int, ...]:
    """Claims, failures and expiries."""
    return tuple(map(int, history.split(" ")[1:4])) if history else (0, 0, 0)


def ended_of(mirror: Mirror, name: str) -> set[bytes]:
    """The ids that the mirror remembers as ended."""
    with mirror.store.lend() as connection:
        return {key for (key,) in connection.execute(b"SELECT id FROM reliq.ended WHERE queue = %s", (name,))}


def pending_of(mirror: Mirror, name: str) -> list[bytes]:
    """The ids of checkpointed items that were not met yet, in order."""
    with mirror.store.lend() as connection:
        found = connection.execute(b"SELECT id FROM reliq.pending WHERE queue = %s ORDER BY number", (name,))
        return [key for (key,) in found]


def items_of(queue: Queue) -> dict[bytes, dict[str, Any]]:
    """The live items of a queue as rows should have them, from every state's own structure."""
    keys: dict[bytes, None] = {}
    for state in STATES:
        cursor = b""
        while True:
            command = Command(_scripts.load("scan"), (state, cursor, 1000), lambda reply: (reply[2], reply[3]))
            ids, cursor = queue._driver.call(command)
            keys.update(dict.fromkeys(ids))
            if not cursor:
                break
    return _rows(queue, list(keys))


def _rows(queue: Queue, keys: list[bytes]) -> dict[bytes, dict[str, Any]]:
    rows = {}
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        for key, reply in zip(
            some, queue._driver.call(Command(_scripts.load("get"), some, lambda r: r[3])), strict=True
        ):
            state, record, history, error, at, group, checkpoint, batch = reply
            rows[key] = {
                "stamp": int.from_bytes(record[:STAMP], "big"),
                "state": state.decode(),
                "body": record[STAMP:],
                "history": counts_in(history.decode("latin-1")),
                "at_ms": int(float(at)) if at else None,
                "error": error.decode("utf-8", "backslashreplace").replace("\0", "\\x00"),
                "group_name": group.decode(),
                "checkpoint": checkpoint,
                "batch": batch,
            }
    return rows


def assert_same(mirror: Mirror, queue: Queue) -> None:
    """The rows are the items, one by one and part by part."""
    rows, items = rows_of(mirror, queue.name), items_of(queue)
    assert rows.keys() == items.keys(), {key: rows.get(key, items.get(key)) for key in rows.keys() ^ items.keys()}
    different = {key: (rows[key], items[key]) for key in rows if rows[key] != items[key]}
    assert not different, different


def redis_value(queue: Queue, key: bytes) -> bytes:
    """What Redis has for an id: a record or an end marker."""
    (value,) = Journal(queue).values([key])
    assert value is not None
    return value


class Life:
    """What users do to a queue, at random: every verb, with groups, batches, checkpoints, results and errors."""

    VERBS = "enqueue enqueue claim claim finish fail release checkpoint cancel batch configure".split()

    def __init__(self, queue: Queue, seed: int) -> None:
        self._queue = queue
        self._dice = random.Random(seed)
        self._held: list[Item] = []
        self._ids: list[str] = []

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            getattr(self, self._dice.choice(self.VERBS))()

    def enqueue(self) -> None:
        dice = self._dice
        fresh = [
            New({"n": n}, delay=dice.choice([None, 100.0]), group=dice.choice([None, "a", "b"]))
            for n in range(dice.randint(1, 20))
        ]
        self._ids += [enqueued.id for enqueued in self._queue.enqueue_many(fresh)]

    def claim(self) -> None:
        self._held += self._queue.claim(self._dice.randint(1, 8))

    def finish(self) -> None:
        for item in self._some():
            self._queue.finish(item, result={"done": True})

    def fail(self) -> None:
        for item in self._some():
            text = self._dice.choice(["é\0 broken", "ü" * 5000])
            self._queue.fail(item, text, retry_after=self._dice.choice([0.0, 50.0, None]))

    def release(self) -> None:
        for item in self._some():
            self._queue.release(item)

    def checkpoint(self) -> None:
        for item in self._held[:2]:
            self._queue.checkpoint(item, {"seen": len(self._ids)}, done=1)

    def cancel(self) -> None:
        if self._ids:
            self._queue.cancel(*self._dice.sample(self._ids, min(3, len(self._ids))))

    def batch(self) -> None:
        self._queue.batch([{"member": n} for n in range(5)], then=New("after"))

    def configure(self) -> None:
        self._queue.configure(max_attempts=self._dice.randint(1, 9))

    def _some(self) -> list[Item]:
        self._dice.shuffle(self._held)
        taken = self._held[:2]
        del self._held[:2]
        return taken
