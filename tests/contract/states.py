"""A queue with an item in every state."""

from __future__ import annotations

from contract.clients import Clock

from reliq import New, Queue


def one_of_each(queue: Queue, clock: Clock) -> None:
    """An item in each state, whose id is the state's name."""
    queue.configure(expiry="hold")
    queue.enqueue_many([New(name, id=name) for name in ("finished", "dead", "orphaned")])
    finished, dead, _ = queue.claim(3, lease=10)
    queue.finish(finished)
    queue.fail(dead, dead=True)
    clock.advance(10)
    queue.recover()
    queue.enqueue_many([New(name, id=name) for name in ("in_progress", "queued", "removed")])
    queue.cancel("removed")
    queue.claim()
    queue.enqueue("scheduled", id="scheduled", delay=60)


STATES = ("queued", "scheduled", "in_progress", "orphaned", "dead", "finished", "removed")
