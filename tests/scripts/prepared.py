"""A queue with something in every place, and each verb as a call that changes it: for tests that break calls off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
from contract.clients import Clock
from contract.evidence import check_queue

from reliq import Item, Queue
from reliq._keys import Keys

NAME = "q"


@dataclass
class Prepared:
    """The queue, its clock, and the items that are held. `restore` puts the server back to how it was prepared."""

    admin: Any  # redis-py's annotations are those of text and bytes at once
    queue: Queue
    clock: Clock
    live: list[Item]
    set_aside: list[str] = field(default_factory=list)  # ids: orphaned, dead, scheduled
    dumps: dict[bytes, bytes] = field(default_factory=dict)

    def restore(self, queue: Queue) -> None:
        """The server's data as prepared; `queue`, another client of it, knows nothing of what came after."""
        queue._session.abandoned.clear()
        with self.admin.pipeline(transaction=False) as pipe:
            pipe.flushall()
            for key, dump in self.dumps.items():
                pipe.restore(key, 0, dump)
            pipe.execute()

    def snapshot(self) -> dict[bytes, bytes]:
        return {key: self.admin.dump(key) for key in sorted(self.admin.keys("reliq:{*"))}

    def contents(self) -> dict[bytes, Any]:
        """Everything that the queue keeps, to compare."""
        return {key: self._value(key) for key in sorted(self.admin.keys("reliq:{*"))}

    def _value(self, key: bytes) -> Any:
        match self.admin.type(key):
            case b"hash":
                return self.admin.hgetall(key)
            case b"list":
                return self.admin.lrange(key, 0, -1)
            case b"zset":
                return self.admin.zrange(key, 0, -1, withscores=True)
            case _:
                return self.admin.dump(key)

    def drain(self) -> list[str]:
        """Has every item handled, whatever its state; returns their ids in the order of delivery."""
        queue, delivered = self.queue, []
        queue._session.abandoned.clear()
        queue.resume()
        self.clock.advance(3 * 3600)
        queue.recover()
        for info in list(queue.scan("orphaned")):
            queue.resolve(info.id, "requeue")
        queue.redrive()
        while items := queue.claim(100):
            delivered += [item.id for item in items]
            queue.finish(items)
        return delivered

    def check(self) -> None:
        check_queue(self.admin, NAME)


def prepare(admin: redis.Redis, url: str) -> Prepared:
    """One item or two in each state, an expired lease, a due item, a cancelled place and an idle worker."""
    clock = Clock()
    queue = Queue(NAME, url, timeout=5)
    clock.follow(queue)
    queue.configure(expiry="hold", retry="tail")
    queue.enqueue_many(range(9))
    orphan, dead, ended, *_ = queue.claim(9, lease=1)
    queue.fail(dead, "broken", dead=True)
    queue.finish(ended)
    clock.advance(1)
    queue.recover(1)
    queue.configure(expiry="requeue")
    queue.enqueue("delayed", id="delayed", delay=3600)
    queue.enqueue("due", id="due", delay=1)
    clock.advance(1)  # now six items are in a lease that has ended, and one is due
    for name in ("live-1", "live-2"):
        queue.enqueue(name, id=name)
    admin_keys = Keys(NAME)
    live = claim_alone(queue, admin, clock)
    queue.enqueue("cancelled", id="cancelled")
    queue.enqueue("queued", id="queued")
    queue.cancel("cancelled")
    admin.zadd(admin_keys["waiting"], {"idle": clock.now * 1000 + 60_000})
    admin.rpush(admin_keys["wake"], "1")
    assert orphan.id in {info.id for info in queue.scan("orphaned")}
    aside = [info.id for state in ("orphaned", "dead", "scheduled") for info in queue.scan(state)]
    made = Prepared(admin, queue, clock, live, aside)
    made.dumps = made.snapshot()
    return made


def claim_alone(queue: Queue, admin: redis.Redis, clock: Clock) -> list[Item]:
    """Claims two items as a time before the other lease ended: a claim would otherwise recover that first."""
    clock.advance(-1.5)
    live = list(queue.claim(2, lease=600))
    clock.advance(1.5)
    assert [item.id for item in live] == ["live-1", "live-2"]
    return live


Act = Callable[[Queue, Prepared], object]


# name: script, call
ACTIONS: dict[str, tuple[str, Act]] = {
    "enqueue": ("enqueue", lambda q, _: q.enqueue("new", id="new")),
    "enqueue delayed": ("enqueue", lambda q, _: q.enqueue("new", id="new", delay=5)),
    "claim": ("claim", lambda q, _: q.claim(3)),
    "finish_and_claim": ("finish_and_claim", lambda q, p: q.finish_and_claim(p.live[:1], 3)),
    "finish": ("finish", lambda q, p: q.finish(p.live)),
    "finish one": ("finish", lambda q, p: q.finish(p.live[1])),
    "release": ("release", lambda q, p: q.release(p.live)),
    "renew": ("renew", lambda q, p: q.renew(p.live, 900)),
    "fail": ("fail", lambda q, p: q.fail(p.live[:1], "broken")),
    "fail later": ("fail", lambda q, p: q.fail(p.live, "broken", retry_after=5)),
    "fail dead": ("fail", lambda q, p: q.fail(p.live, "broken", dead=True)),
    "recover": ("recover", lambda q, _: q.recover()),
    "requeue": ("requeue", lambda q, p: q.requeue(*p.set_aside)),
    "redrive": ("redrive", lambda q, _: q.redrive()),
    "resolve finish": ("resolve", lambda q, p: q.resolve(p.set_aside[:2], "finish")),
    "resolve requeue": ("resolve", lambda q, p: q.resolve(p.set_aside[:2], "requeue")),
    "resolve dead": ("resolve", lambda q, p: q.resolve(p.set_aside[:2], "dead")),
    "cancel": ("cancel", lambda q, _: q.cancel("queued", "delayed")),
    "discard": ("discard", lambda q, p: q.discard(*p.set_aside[:2])),
    "purge queued": ("purge", lambda q, _: q.purge("queued")),
    "purge scheduled": ("purge", lambda q, _: q.purge("scheduled")),
    "purge orphaned": ("purge", lambda q, _: q.purge("orphaned")),
    "purge dead": ("purge", lambda q, _: q.purge("dead")),
    "purge finished": ("purge", lambda q, _: q.purge("finished")),
    "pause": ("pause", lambda q, _: q.pause(claim=True, enqueue=True)),
    "resume": ("resume", lambda q, _: q.resume()),
    "configure": ("configure", lambda q, _: q.configure(max_attempts=7, retry=None)),
}
