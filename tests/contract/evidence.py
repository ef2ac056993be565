"""Reads a queue's keys without reliq's scripts, and checks that they agree: nothing lost, nothing left over."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import redis

from reliq import _scripts
from reliq._keys import REGISTRY, Keys

ENDED = 255
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
        self.live = {key for key, record in self.items.items() if record[:1] != bytes([ENDED])}

    def number(self, name: bytes) -> int:
        return int(self.meta.get(name, b"0"))

    def marked(self, how: set[bytes]) -> list[bytes]:
        return [key for key, record in self.items.items() if key not in self.live and record[7:8] in how]

    def cancelled_places(self) -> list[bytes]:
        cancelled = set(self.marked({b"c"}))
        return [key for key in self.queued if key in cancelled]

    def held(self) -> list[bytes]:
        return [key for packed in self.claims.values() for key in unpacked(packed)]

    def check_places(self) -> None:
        """A live item stands in exactly one place, and a place without an item is a cancelled one."""
        cancelled = set(self.cancelled_places())
        places = Counter([key for key in self.queued if key not in cancelled] + self.held())
        for keys in self.aside.values():
            places.update(keys)
        assert set(places) == self.live
        assert set(places.values()) <= {1}, f"in two places: {places.most_common(3)}"
        assert sorted(self.leases) == sorted(self.claims), "a lease without a claim, or a claim without a lease"

    def check_counters(self) -> None:
        """Everything that was enqueued is somewhere."""
        cancelled = self.cancelled_places()
        waiting = len(self.queued) - len(cancelled) + sum(map(len, self.aside.values()))
        assert self.number(b"in_progress") == len(self.held())
        assert self.number(b"cancelled_places") == len(cancelled)
        ended = self.number(b"finished") + self.number(b"removed")
        assert self.number(b"enqueued") == waiting + len(self.held()) + ended

    def check_leftovers(self) -> None:
        """What has ended has no history, and is listed once among what will be forgotten."""
        assert self.histories <= self.live
        ended = [key for packed in self.ended_calls for key in unpacked(packed[6:])]
        assert self.number(b"remembered") == len(ended)
        assert sorted(ended) == sorted(self.marked({b"f", b"r"}))


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
