"""Items of groups, named for what they are: `a2` is the second one of group `a`, `-1` is of no group."""

from __future__ import annotations

from collections.abc import Iterable

from reliq import Item, New, Queue


def add(queue: Queue, names: str, *, delay: float | None = None) -> None:
    """Enqueues items by their names, which are ids, payloads and, with their first letter, groups."""
    queue.enqueue_many([New(n, id=n, group=None if n[0] == "-" else n[0], delay=delay) for n in names.split()])


def names(items: Iterable[Item]) -> str:
    return " ".join(item.id for item in items)


def claimed(queue: Queue, count: int = 100) -> str:
    """Claims, and says what that brought."""
    return names(queue.claim(count, lease=30))


def drained(queue: Queue) -> str:
    """Finishes what can be claimed, batch by batch; the names in their order, a bar between the batches."""
    batches: list[str] = []
    while items := queue.claim(100):
        batches.append(names(items))
        queue.finish(items)
    return " | ".join(batches)
