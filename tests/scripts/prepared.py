"""A queue with something in every place, and each verb as a call that changes it: for tests that break calls off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
from contract.clients import Clock
from contract.evidence import check_queue

from reliq import Item, New, Queue, _commands, _scripts
from reliq._codec import STAMP
from reliq._ids import pack
from reliq._keys import Keys
from reliq._reading import held_under
from reliq._session import Command
from reliq.answers import Discard

NAME = "q"
LONG = 3600.0  # seconds for which those wait who are noted as waiting


@dataclass
class Prepared:
    """The queue, its clock, the items that are held, and the stamp of the queued one.

    `restore` puts the server back to how it was prepared.
    """

    admin: Any  # redis-py's annotations are those of text and bytes at once
    queue: Queue
    clock: Clock
    live: list[Item]
    stamp: bytes
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
            case b"stream":
                # Each entry once and without its id, which is a time: a repeat may say again what to look at.
                return list(dict.fromkeys(tuple(fields.items()) for _, fields in self.admin.xrange(key)))
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
    """One item or two in each state, an expired lease, a due item, a cancelled place and an idle worker.

    Of these the orphaned one and `live-2` have the turn of groups in which others wait; the dead one, `delayed` and
    `live-1` are members of batches; the queue has limits and is mirrored, and somebody waits for room and for the end
    of items.
    """
    clock = Clock()
    queue = Queue(NAME, url, timeout=5)
    clock.follow(queue)
    queue.configure(expiry="hold", retry="tail", max_length=100, max_bytes=10**6, max_in_progress=1000, rate=10**6)
    queue._driver.call(Command(_scripts.load("mirror"), ("1", ""), lambda _: None))
    queue.enqueue("orphan", group="h")
    queue.batch(["dead"], then=New("after the dead"), id="finished batch")
    queue.enqueue_many(range(7))
    orphan, dead, ended, *_ = queue.claim(9, lease=1)
    queue.fail(dead, "broken", dead=True)
    queue.finish(ended, result="done")
    clock.advance(1)
    queue.recover(1)
    queue.configure(expiry="requeue")
    delayed = New("delayed", id="delayed", delay=3600)
    queue.batch([delayed], then=New("after the delayed"), when="settled", id="settled batch")
    queue.enqueue("due", id="due", delay=1)
    clock.advance(1)  # now six items are in a lease that has ended, and one is due
    queue.batch([New("live-1", id="live-1")], then=New("after the live", group="g"), when="settled", id="live batch")
    queue.enqueue_many([New("live-2", id="live-2", group="g"), New("g2", id="g2", group="g"), New("h2", group="h")])
    live = claim_alone(queue, admin, clock)
    queue.checkpoint(live[1], "half")
    queue.enqueue("cancelled", id="cancelled")
    queue.enqueue("queued", id="queued")
    queue.enqueue("g3", id="g3", group="g")
    queue.cancel("cancelled")
    queue._driver.call(_commands.cron_set("cron", b"", b"ab", b"definition", "1000"))
    note_those_who_wait(queue, admin, clock, ["live-1", "live-2", "queued", "delayed", "g2", orphan.id])
    assert orphan.id in {info.id for info in queue.scan("orphaned")}
    aside = [info.id for state in ("orphaned", "dead", "scheduled") for info in queue.scan(state)]
    record: Any = admin.hget(Keys(NAME)["items"], "queued")
    made = Prepared(admin, queue, clock, live, record[:STAMP], aside)
    made.dumps = made.snapshot()
    return made


def note_those_who_wait(queue: Queue, admin: Any, clock: Clock, ids: list[str]) -> None:
    """An idle worker and its token, a producer that waits for more room than there is, and watchers of items."""
    keys = Keys(NAME)
    admin.zadd(keys["waiting"], {"idle": clock.now * 1000 + 60_000})
    admin.rpush(keys["wake"], "1")
    for item_id in ids:
        queue._driver.call(_commands.watch(pack(item_id), LONG))
    assert not queue._driver.call(_commands.await_room(b"producer", LONG, 1000, 1000))
    assert (admin.zcard(keys["watched"]), admin.zcard(keys["producers"])) == (len(ids), 1)
    queue._driver.call(_commands.beat("worker", b"\x80", 0))
    assert queue.counts().blocked == 2


def claim_alone(queue: Queue, admin: redis.Redis, clock: Clock) -> list[Item]:
    """Claims two items as a time before the other lease ended: a claim would otherwise recover that first."""
    clock.advance(-1.5)
    live = list(queue.claim(4, lease=600))  # the other two wait for the turn of their groups
    clock.advance(1.5)
    assert [item.id for item in live] == ["live-1", "live-2"]
    return live


Act = Callable[[Queue, Prepared], object]


NEXT = [New("next", id="next", group="g"), New("later", id="later", delay=5)]


def call(queue: Queue, command: Any) -> Any:
    """One command, on either client."""
    sent: Any = queue._driver.call(command)
    runner = getattr(queue, "_runner", None)
    return runner.run(sent) if runner else sent


def unseen(prepared: Prepared) -> Command[list[str]]:
    """A finish of a queued item under a receipt that the server never saw, with a result and with what comes next."""
    item = Item(held_under(NAME, b"r" * 16), b"queued", None, {}, prepared.stamp)
    following = [_commands.Body(b"next", b"\x01", group=b"g"), _commands.Body(b"later", b"\x01", due="+5000")]
    return _commands.finish_unseen([(item, b"\x01")], following)


CRON = _commands.StoredCron("cron", 1000, None, b"ab", b"definition")
TICK = _commands.Body(b"cron:cron:1", b"\x01", group=b"g")


BODY = b"1 \x94\xc0\xc0\xc0\xa0"


def put_back(queue: Queue, _: Prepared) -> None:
    """Items that a mirror has and the queue has lost, one in each state that they come back in."""
    lost = [
        (b"l1", b"queued", b"", b"", b"g", b"live batch"),
        (b"l2", b"scheduled", b"q 1 1 0 ", b"1", b"l", b"settled batch"),
        (b"l3", b"orphaned", b"q 1 0 1 ", b"1", b"k", b""),
        (b"l4", b"dead", b"q 2 2 0 ", b"1", b"", b"finished batch"),
    ]
    args = [
        part
        for n, (key, state, history, at, group, batch) in enumerate(lost)
        for part in (key, state, bytes(5) + bytes([n]) + b"\x01", history, at, b"broken", group, BODY, batch)
    ]
    call(queue, Command(_scripts.load("put_back"), args, lambda _: None, [one[0] for one in lost]))


def put_back_batch(phase: str, name: bytes) -> Act:
    following = b"\x03end" + bytes(2) + b"\x01"
    args = (name, phase, "finished", 3, following)
    return lambda q, _: call(q, Command(_scripts.load("put_back_batch"), args, lambda _: None))


def end_again(queue: Queue, prepared: Prepared) -> None:
    """Whatever nobody holds: in the list, in line for a turn, and set aside."""
    late = b"\xff" + b"\xfe" * 6
    ids = [pack(one) for one in ("queued", "g2", "g3", *prepared.set_aside)]
    markers = [late + (b"f", b"F\x00\x01", b"r")[n % 3] for n in range(len(ids))]
    args = [part for pair in zip(ids, markers, strict=True) for part in pair]
    call(queue, Command(_scripts.load("end_again"), args, lambda _: None, ids))


# name: script, call
ACTIONS: dict[str, tuple[str, Act]] = {
    "enqueue": ("enqueue", lambda q, _: q.enqueue("new", id="new")),
    "enqueue delayed": ("enqueue", lambda q, _: q.enqueue("new", id="new", delay=5)),
    "enqueue grouped": (
        "enqueue",
        lambda q, _: q.enqueue_many([New(1, id="new", group="g"), New(2, id="n2", delay=5)]),
    ),
    "batch": ("batch", lambda q, _: q.batch([New(1, id="new"), NEXT[1]], then=New("end", group="g"), id="new batch")),
    "batch of none": ("batch", lambda q, _: q.batch([], then=New("end", delay=5), id="new batch")),
    "claim": ("claim", lambda q, _: q.claim(3)),
    "finish_and_claim": ("finish_and_claim", lambda q, p: q.finish_and_claim(p.live[:1], 3)),
    "finish": ("finish", lambda q, p: q.finish(p.live)),
    "finish one": ("finish", lambda q, p: q.finish(p.live[1])),
    "release": ("release", lambda q, p: q.release(p.live)),
    "finish with": ("finish_with", lambda q, p: q.finish(p.live[1], result=1, then=NEXT)),
    "finish each": ("finish_with", lambda q, p: q.finish_each([(item, item.id) for item in p.live])),
    "finish unseen": ("finish_unseen", lambda q, p: call(q, unseen(p))),
    "checkpoint": ("checkpoint", lambda q, p: q.checkpoint(p.live[0], {"n": 1}, note="half")),
    "renew": ("renew", lambda q, p: q.renew(p.live, 900)),
    "fail": ("fail", lambda q, p: q.fail(p.live[:1], "broken")),
    "fail later": ("fail", lambda q, p: q.fail(p.live, "broken", retry_after=5)),
    "fail dead": ("fail", lambda q, p: q.fail(p.live, "broken", dead=True)),
    "fail discard": ("fail", lambda q, p: q.fail(p.live, "useless", discard=True)),
    "fail each": (
        "fail",
        lambda q, p: q.fail_each(zip(p.live, [ValueError("broken"), Discard("useless")], strict=True)),
    ),
    "recover": ("recover", lambda q, _: q.recover()),
    "requeue": ("requeue", lambda q, p: q.requeue(*p.set_aside)),
    "redrive": ("redrive", lambda q, _: q.redrive()),
    "resolve finish": ("resolve", lambda q, p: q.resolve(p.set_aside[:2], "finish")),
    "resolve requeue": ("resolve", lambda q, p: q.resolve(p.set_aside[:2], "requeue")),
    "resolve dead": ("resolve", lambda q, p: q.resolve(p.set_aside[:2], "dead")),
    "cancel": ("cancel", lambda q, _: q.cancel("queued", "delayed")),
    "cancel grouped": ("cancel", lambda q, _: q.cancel("g2", "g3", "delayed")),
    "discard": ("discard", lambda q, p: q.discard(*p.set_aside[:2])),
    "purge queued": ("purge", lambda q, _: q.purge("queued")),
    "purge scheduled": ("purge", lambda q, _: q.purge("scheduled")),
    "purge orphaned": ("purge", lambda q, _: q.purge("orphaned")),
    "purge dead": ("purge", lambda q, _: q.purge("dead")),
    "purge finished": ("purge", lambda q, _: q.purge("finished")),
    "watch": ("watch", lambda q, _: call(q, _commands.watch(b"g3", 10 * LONG))),
    "await_room": ("await_room", lambda q, _: call(q, _commands.await_room(b"new", 2 * LONG, 1000, 1000))),
    "beat": ("beat", lambda q, _: call(q, _commands.beat("new", b"\x80", 5))),
    "beat of one that leaves": ("beat", lambda q, _: call(q, _commands.beat("worker", b"", 5))),
    "cron_set new": ("cron_set", lambda q, _: call(q, _commands.cron_set("new", b"", b"cd", b"d", "2000"))),
    "cron_set other": ("cron_set", lambda q, _: call(q, _commands.cron_set("cron", b"ab", b"cd", b"d", "inf"))),
    "cron_set none": ("cron_set", lambda q, _: call(q, _commands.cron_set("cron", b"ab", b"cd", b"", ""))),
    "cron_tick": ("cron_tick", lambda q, _: call(q, _commands.cron_tick(CRON, 9000, 1000, [TICK]))),
    "put_back": ("put_back", put_back),
    "put_back_batch opens": ("put_back_batch", put_back_batch("open", b"lost batch")),
    "put_back_batch seals": ("put_back_batch", put_back_batch("seal", b"live batch")),
    "end_again": ("end_again", end_again),
    "pause": ("pause", lambda q, _: q.pause(claim=True, enqueue=True)),
    "resume": ("resume", lambda q, _: q.resume()),
    "configure": ("configure", lambda q, _: q.configure(max_attempts=7, retry=None)),
}
