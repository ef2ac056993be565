"""Queues with something of everything, for tests of rebuilding: made, mirrored, and brought back."""

from __future__ import annotations

from typing import Any

import redis
from mirror.stories import assert_same
from servers import wait_until

from reliq import New, Queue
from reliq.mirror import Mirror
from reliq.mirror.rebuild import Verification


def various(queue: Queue) -> dict[str, str]:
    """Items in every state, and how some of them are called."""
    queue.configure(expiry="hold", backoff_base=3600, max_attempts=4)
    queue.enqueue_many([New(n, id=f"held-{n}") for n in range(3)])
    queue.claim(2, lease=0.05)
    wait_until(lambda: queue.recover().orphaned == 2 or queue.counts().orphaned == 2, "their leases have ended")
    names = ("failed", "dead", "released", "finished", "lasting")
    queue.enqueue_many([New({"to": name}, id=name, headers={"trace": name}) for name in names])
    held, failed, dead, released, finished, lasting = queue.claim(6, lease=600)
    queue.fail(failed, "no such host")
    queue.fail(dead, "never", dead=True)
    queue.release(released)
    queue.finish(finished)
    queue.checkpoint(lasting, {"page": 7}, done=7, total=9)
    queue.enqueue_many([New(n, id=f"of-{n % 2}-{n}", group=f"group-{n % 2}") for n in range(6)])
    queue.enqueue("later", id="later", delay=3600)
    queue.enqueue_many([New(n, id=f"cancelled-{n}") for n in range(2)])
    queue.cancel("cancelled-0", "cancelled-1")
    queue.batch([New(n, id=f"member-{n}") for n in range(3)], then=New("all", id="following"), id="batch")
    return {"in_progress": lasting.id, "held": held.id, "retried": failed.id, "ended": finished.id}


def mirrored(mirror: Mirror, queue: Queue) -> Mirror:
    """Mirrors a queue as it is now."""
    mirror.follow(queue, once=True)
    assert_same(mirror, queue)
    return mirror


def brought_back(mirror: Mirror, queue: Queue, **options: Any) -> Verification:
    """Rebuilds a queue that Redis has lost, and opens it."""
    mirror.apply(mirror.plan_rebuild(queue), **options)
    verification = mirror.verify(queue)
    assert verification, verification
    return verification


def client_of(queue: Queue, **options: Any) -> Queue:
    """A new client of the same queue, which knows nothing."""
    return Queue(queue.name, queue._made_of["url"], **options)


def contents(client: redis.Redis) -> dict[bytes, Any]:
    """Everything that the server has, to compare. What names a rebuild, or says when it was made, is left out."""
    found: dict[bytes, Any] = {}
    c: Any = client
    for key in sorted(c.keys("*")):
        match c.type(key):
            case b"hash":
                found[key] = c.hgetall(key)
            case b"list":
                found[key] = c.lrange(key, 0, -1)
            case b"zset":
                found[key] = c.zrange(key, 0, -1, withscores=True)
            case b"set":
                found[key] = c.smembers(key)
    for key, value in found.items():
        if key.endswith(b":meta"):
            for name in (b"rebuild_id", b"created_at_ms", b"epoch"):
                value.pop(name, None)
    return found
