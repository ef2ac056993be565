"""Calls scripts by name on a bare connection, with a clock of the test's own, and reads what they left in each key."""

from __future__ import annotations

from typing import Any

import redis

from reliq import _scripts
from reliq._keys import Keys

START_MS = 1_800_000_000_000  # a time of the server's clock, in 2027
STAMP = 6  # bytes at the head of a record
Reply = list[Any]


def uid(number: int) -> bytes:
    """The id that a UUID has on the server: 16 bytes."""
    return b"\x01\x90" + number.to_bytes(14, "big")


def receipt(number: int = 1) -> bytes:
    """A claim id: 16 bytes as well."""
    return b"receipt-" + number.to_bytes(8, "big")


def unpacked(packed: bytes) -> list[bytes]:
    """The ids in a string that lua/_ids.lua packed, read by its description and not by its code."""
    if packed[:1] == b"u":
        return [packed[i : i + 16] for i in range(1, len(packed), 16)]
    assert packed[:1] == b"v", packed
    ids, at = [], 1
    while at < len(packed):
        ids.append(packed[at + 1 : at + 1 + packed[at]])
        at += 1 + packed[at]
    return ids


def stamp_of(record: bytes) -> int:
    return int.from_bytes(record[:STAMP], "big")


class Scripts:
    """One queue as its scripts see it. `now_ms` is their clock and `epoch` what their client knows.

    `is_whole`: the test has damaged no key, so that these are compared at its end.
    """

    def __init__(self, client: redis.Redis, queue: str = "q") -> None:
        self.client: Any = client  # redis-py's annotations are those of text and bytes at once
        self.keys = Keys(queue)
        self.now_ms = START_MS
        self.epoch = b""
        self.is_whole = True

    def call(self, verb: str, *rest: bytes | str | int, **named: bytes | str | int) -> Reply:
        """One call, without the status word and the epoch in its reply."""
        script = _scripts.load(verb)
        values: dict[str, bytes | str | int] = {"epoch": self.epoch, "now_ms": self.now_ms, **named}
        arguments = [values.pop(name) for name in script.args]
        assert values.keys() <= {"epoch", "now_ms"}, f"{verb} has no {sorted(values)}"
        keys = self.keys.of(script.keys)
        reply: Reply = self.client.execute_command("EVAL", script.source, len(keys), *keys, *arguments, *rest)
        assert reply[0] == b"ok"
        return reply[2:]

    # Verbs, with the arguments that most tests use

    def enqueue(self, *ids: bytes, body: bytes = b"\x01", due: str | None = None) -> list[int]:
        """Indexes of the ids that were there already."""
        items = [part for i in ids for part in ((i, body) if due is None else (i, body, due))]
        there: list[int] = self.call("enqueue", *items, stride=2 if due is None else 3)[0]
        return there

    def claim(self, by: bytes = receipt(), count: int = 10, lease_ms: int = 30_000) -> list[bytes]:
        """The ids of the items that it brought."""
        return self.claim_reply(by, count, lease_ms)[0]  # type: ignore[no-any-return]  # a reply is untyped

    def claim_reply(
        self, by: bytes = receipt(), count: int = 10, lease_ms: int = 30_000, worker: bytes = b"", wait_ms: int = 0
    ) -> Reply:
        return self.call("claim", claim_id=by, count=count, lease_ms=lease_ms, worker=worker, wait_ms=wait_ms)

    def settle(self, verb: str, by: bytes, *ids: bytes) -> list[bytes]:
        """finish or release. The ids that were refused."""
        return [ids[i] for i in self.call(verb, by, len(ids), *ids)[0]]

    def renew(self, by: bytes, *ids: bytes, lease_ms: int = 30_000) -> list[bytes]:
        return [ids[i] for i in self.call("renew", by, len(ids), *ids, lease_ms=lease_ms)[0]]

    def fail(self, by: bytes, *ids: bytes, after: str = "", jitter: float = 1.0, error: str = "broken") -> list[bytes]:
        """What became of each."""
        items = [part for i in ids for part in (i, after, jitter, error)]
        outcomes: list[bytes] = self.call("fail", by, len(ids), *map(str_or_bytes, items))[0]
        return outcomes

    def recover(self, limit: int = 1000) -> dict[str, int]:
        names = ("requeued", "orphaned", "dead", "unreadable", "due", "left")
        return dict(zip(names, self.call("recover", limit=limit), strict=True))

    def configure(self, **settings: str | int) -> None:
        self.call("configure", *[part for pair in settings.items() for part in pair])

    def states(self, *ids: bytes) -> list[str]:
        """Where `get` says that items are."""
        return [entry[0].decode() for entry in self.call("get", *ids)[1]]

    def counts(self) -> dict[str, int]:
        """Figures of `inspect`, checked for conservation."""
        flat = self.call("inspect")[0]
        counts = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        states = ("queued", "scheduled", "in_progress", "orphaned", "dead", "finished", "removed")
        assert counts["enqueued"] == sum(counts[state] for state in states), counts
        return counts

    # Keys

    def queued(self) -> list[bytes]:
        found: list[bytes] = self.client.lrange(self.keys["queued"], 0, -1)
        return found

    def hash(self, name: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.client.hgetall(self.keys[name])
        return found

    def scores(self, name: str) -> dict[bytes, int]:
        return {member: int(score) for member, score in self.client.zrange(self.keys[name], 0, -1, withscores=True)}

    def held(self) -> dict[bytes, list[bytes]]:
        """The ids that each receipt holds."""
        return {by: unpacked(packed) for by, packed in self.hash("claims").items()}

    def ended_calls(self) -> list[list[bytes]]:
        """The ids that ended together, oldest first."""
        return [unpacked(entry[STAMP:]) for entry in self.client.lrange(self.keys["finished_order"], 0, -1)]

    def meta(self, field: str) -> bytes | None:
        found: bytes | None = self.client.hget(self.keys["meta"], field)
        return found

    def tokens(self) -> int:
        return int(self.client.llen(self.keys["wake"]))

    def contents(self) -> dict[bytes, Any]:
        """Everything that the queue keeps, to compare before and after."""
        return {key: self.client.dump(key) for key in sorted(self.client.keys(self.keys["*"]))}


def str_or_bytes(value: bytes | str | float) -> bytes | str:
    return value if isinstance(value, bytes | str) else str(value)
