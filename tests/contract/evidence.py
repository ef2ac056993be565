"""Reads a queue's keys without reliq's scripts, and checks that they agree: nothing lost, nothing left over."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import redis

from reliq import _scripts
from reliq._keys import REGISTRY, Keys

ENDED = 255
LEFTOVERS = 1000  # names and tokens of those who waited, at most: they outlive the wait until somebody else waits
_KEY = re.compile(r"reliq:\{([^{}]+)\}:(\w+)")


def known_keys() -> set[str]:
    """Every key name that a script binds."""
    return {key for name in _scripts.names() for key in _scripts.load(name).keys}


def queues_on(client: redis.Redis) -> set[str]:
    """The queues that have a key. Fails on a key that is nobody's."""
    names, queues = known_keys(), set()
    for key in client.scan_iter(count=1000):
        if key == REGISTRY:
            continue
        match = _KEY.fullmatch(key.decode())
        assert match, f"a stray key: {key!r}"
        assert match[2] in names, f"a key that no script binds: {key!r}"
        queues.add(match[1])
    return queues


def check_server(client: redis.Redis) -> None:
    """Checks each queue on the server."""
    for queue in queues_on(client):
        check_queue(client, queue)


def check_queue(client: redis.Redis, queue: str) -> None:
    """Every item has one place, every counter counts what it says, and what has ended left nothing but its id."""
    state = Snapshot(client, queue)
    state.check_places()
    state.check_counters()
    state.check_leftovers()
    state.check_turns()
    state.check_batches()


class Snapshot:
    """All keys of a queue, as they are."""

    def __init__(self, client: redis.Redis, queue: str) -> None:
        keys = Keys(queue)
        c: Any = client  # redis-py's annotations mix sync and async results
        self.meta: dict[bytes, bytes] = c.hgetall(keys["meta"])
        self.items: dict[bytes, bytes] = c.hgetall(keys["items"])
        self.queued: list[bytes] = c.lrange(keys["queued"], 0, -1)
        self.claims: dict[bytes, bytes] = c.hgetall(keys["claims"])
        self.leases: list[bytes] = c.zrange(keys["leases"], 0, -1)
        self.aside = {name: c.zrange(keys[name], 0, -1) for name in ("scheduled", "orphaned", "dead")}
        self.histories: set[bytes] = {*c.hkeys(keys["attempts"]), *c.hkeys(keys["errors"])}
        self.ended_calls: list[bytes] = c.lrange(keys["finished_order"], 0, -1)
        self.history: dict[bytes, bytes] = c.hgetall(keys["attempts"])
        self.checkpoints: set[bytes] = {*c.hkeys(keys["checkpoints"])}
        self.groups: dict[bytes, bytes] = c.hgetall(keys["groups"])
        self.turns: dict[bytes, bytes] = c.hgetall(keys["turns"])
        self.parked = [Parked(member) for member in c.zrange(keys["parked"], 0, -1)]
        self.members: dict[bytes, bytes] = c.hgetall(keys["members"])
        self.batches: dict[bytes, bytes] = c.hgetall(keys["batches"])
        self.waiters = {name: c.zcard(keys[name]) for name in ("watched", "producers", "waiting")}
        self.tokens = {name: c.llen(keys[name]) for name in ("room", "alarm", "wake")}
        self.live = {key for key, record in self.items.items() if record[:1] != bytes([ENDED])}

    def number(self, name: bytes) -> int:
        return int(self.meta.get(name, b"0"))

    def marked(self, how: set[bytes]) -> list[bytes]:
        return [key for key, record in self.items.items() if key not in self.live and record[7:8] in how]

    def cancelled_places(self) -> list[bytes]:
        cancelled = set(self.marked({b"c", b"p", b"P"}))
        return [key for key in self.queued if key in cancelled]

    def held(self) -> list[bytes]:
        return [key for packed in self.claims.values() for key in unpacked(packed)]

    def check_places(self) -> None:
        """A live item stands in exactly one place, and a place without an item is a cancelled one."""
        cancelled = set(self.cancelled_places())
        places = Counter([key for key in self.queued if key not in cancelled] + self.held())
        places.update(one.key for one in self.parked)
        for keys in self.aside.values():
            places.update(keys)
        assert set(places) == self.live
        assert set(places.values()) <= {1}, f"in two places: {places.most_common(3)}"
        assert sorted(self.leases) == sorted(self.claims), "a lease without a claim, or a claim without a lease"

    def check_counters(self) -> None:
        """Everything that was enqueued is somewhere."""
        cancelled = self.cancelled_places()
        waiting = len(self.queued) - len(cancelled) + len(self.parked) + sum(map(len, self.aside.values()))
        assert self.number(b"in_progress") == len(self.held())
        assert self.number(b"cancelled_places") == len(cancelled)
        ended = self.number(b"finished") + self.number(b"removed")
        assert self.number(b"enqueued") == waiting + len(self.held()) + ended
        waits = self.live & {*self.queued, *self.aside["scheduled"], *(one.key for one in self.parked)}
        assert self.number(b"waiting_bytes") == sum(len(self.items[key]) for key in waits)

    def check_leftovers(self) -> None:
        """What has ended has no history, and is listed once among what will be forgotten."""
        assert self.histories <= self.live
        assert self.checkpoints <= self.live
        assert max(*self.waiters.values(), *self.tokens.values()) <= LEFTOVERS
        ended = [key for packed in self.ended_calls for key in unpacked(packed[6:])]
        assert self.number(b"remembered") == len(ended)
        assert sorted(ended) == sorted(self.marked({b"f", b"r", b"F", b"R"}))

    def check_turns(self) -> None:
        """A turn is with a live item of its group that is not dead; who works has one; nobody waits for a free one."""
        assert set(self.groups) <= self.live
        waiting = {one.key for one in self.parked}
        assert waiting == {key for key, history in self.history.items() if history[:1] == b"w"}
        for group, packed in self.turns.items():
            holders = unpacked(packed)
            assert holders, f"a turn that nobody has: {group!r}"
            assert len(set(holders)) == len(holders)
            assert {self.groups.get(key) for key in holders} == {group}, f"not of group {group!r}: {holders}"
            assert not {*holders} & ({*self.aside["dead"]} | waiting), f"{group!r} has given its turn to the dead"
        for key in {*self.held()} & set(self.groups):
            assert key in self.holders(self.groups[key]), f"{key!r} works without a turn"
        limit = int(self.meta.get(b"group_limit", b"1"))
        for key in {*self.aside["orphaned"]} & set(self.groups):  # a rebuild may bring back more than can have one
            assert key in (them := self.holders(self.groups[key])) or len(them) >= limit, f"{key!r} has lost its turn"
        for one in self.parked:
            assert self.groups.get(one.key) == one.group
            assert self.items[one.key][:6] == one.stamp
            assert len(self.holders(one.group)) >= limit, f"{one.key!r} waits for a turn that nobody has"

    def holders(self, group: bytes) -> list[bytes]:
        return unpacked(self.turns.get(group, b"v"))

    def check_batches(self) -> None:
        """A batch awaits its members, which are live, and knows what follows them."""
        assert set(self.members) <= self.live
        awaited = Counter(self.members.values())
        states = {key[1:]: value for key, value in self.batches.items() if key[:1] == b"b"}
        assert set(self.batches) == {b"b" + key for key in states} | {b"t" + key for key in states}
        assert set(awaited) <= set(states)
        for key, value in states.items():
            when, sealed, total, left = value.split(b" ")
            assert int(left) == awaited[key] <= int(total)
            assert (sealed, awaited[key]) != (b"1", 0), "a batch that is through is still there"
            dead = {*self.aside["dead"]} & {member for member, of in self.members.items() if of == key}
            assert when == b"finished" or not dead


class Parked:
    """A member of `parked`, as lua/_turns.lua describes it."""

    def __init__(self, member: bytes) -> None:
        end = 1 + member[0]
        self.group, self.stamp, self.key = member[1:end], member[end : end + 6], member[end + 6 :]


def unpacked(packed: bytes) -> list[bytes]:
    """Packed ids, as lua/_ids.lua describes them."""
    if packed[:1] == b"u":
        return [packed[at : at + 16] for at in range(1, len(packed), 16)]
    ids, at = [], 1
    while at < len(packed):
        size = packed[at]
        ids.append(packed[at + 1 : at + 1 + size])
        at += 1 + size
    return ids
