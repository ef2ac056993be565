"""What the follower asks Redis: the journal, the items as they are now, and which server it is that answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reliq import _codec, _commands, _replies, _scripts
from reliq._commands import Body
from reliq._session import Command, Wire
from reliq.errors import StaleEpoch, StateLost
from reliq.mirror._rows import Reply, unpack_ids
from reliq.outcomes import Enqueued
from reliq.queue import Queue

DEFAULT_MAX = 1_000_000  # entries: lua/_journal.lua
NOTHING = "0-0"  # before every entry


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of the journal, read from a position on.

    Attributes:
        last: id of the last one: the position when they have been dealt with.
        entries: how many there were.
        ids: of items that they name, each once.
        batches: the same of batches.
        settings: whether settings or recurring items changed.
        full: there may be more.
        trimmed: the entry at the position is gone, and perhaps others behind it.
        named: ids, counted as often as they are named.
        first: id of the first entry.
    """

    last: str
    entries: int = 0
    ids: tuple[bytes, ...] = ()
    batches: tuple[bytes, ...] = ()
    settings: bool = False
    full: bool = False
    trimmed: bool = False
    named: int = 0
    first: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """How the server and the queue are now.

    Attributes:
        server: which run of which server this is, and of which replication history.
        master: it takes writes.
        now: Unix seconds by its clock.
        epoch, state: of the queue; the epoch is 0 where there is no such queue.
        stamp: the last one that was given out.
        entries, most: of the journal; `most` is where the oldest ones go.
    """

    server: str
    master: bool
    now: float
    epoch: int
    state: str
    stamp: int
    entries: int
    most: int


class Ended(NamedTuple):
    """Ids that have ended. `complete`: all that did within the time that was asked for."""

    ids: frozenset[bytes]
    complete: bool


NONE_ENDED = Ended(frozenset(), complete=False)
ENDED_MOST = 100_000  # ids: about 10 MB


class Beginning(NamedTuple):
    """What lua/mirror.lua says: entries of the journal, its last entry and the first one that is there."""

    entries: int
    last: str
    first: str


class Journal:
    """One queue, seen by its follower. Plain commands that only read go past the scripts: they cost the server less."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._keys = queue._session.keys

    @property
    def epoch(self) -> int:
        """The epoch that the client knows, 0 for none."""
        return int(self._queue._session.epoch or 0)

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._queue._session.epoch = str(value).encode() if value else b""

    def begin(self, most: int | None) -> Beginning:
        """Has the queue keep a journal from now on.

        Raises:
            StateLost, StaleEpoch, Rebuilding: the queue is not the one that this client knows.
            Unavailable, AccessDenied.
        """
        args = ("1", "" if most is None else most)
        return self._queue._driver.call(
            Command(_scripts.load("mirror"), args, lambda r: Beginning(r[2], r[3].decode(), r[4].decode()))
        )

    def end(self) -> None:
        """Has the queue keep no journal any more."""
        self._queue._driver.call(Command(_scripts.load("mirror"), ("0", ""), lambda _: None))

    def page(self, position: str, until: str, count: int) -> Page:
        """Entries behind a position, up to the id `until` and at most `count` of them."""
        if until != "+" and order(until) < order(position):  # the clock went back, or nothing has settled
            return Page(position)
        found = self._ask("XRANGE", self._keys["journal"], position, until, "COUNT", count + 1)
        if not found or found[0][0].decode() != position:
            return Page(position, trimmed=True)
        return _page([(entry.decode(), fields) for entry, fields in found[1:]], position, count)

    def wait(self, position: str, seconds: float) -> bool:
        """Waits until there is an entry behind a position. False where there is none yet."""
        milliseconds = max(1, round(seconds * 1000))
        answer = self._ask("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", self._keys["journal"], position)
        return bool(answer)

    def oldest_unread(self, position: str) -> float | None:
        """When the first entry behind a position was made: Unix seconds of the server's clock. None: there is none."""
        found = self._ask("XRANGE", self._keys["journal"], f"({position}", "+", "COUNT", 1)
        return int(found[0][0].decode().partition("-")[0]) / 1000 if found else None

    def trim(self, position: str) -> None:
        """Drops the entries before a position. The one at it stays: as long as it is there, nothing was missed."""
        self._ask("XTRIM", self._keys["journal"], "MINID", "=", position)

    def ended_since(self, milliseconds: int) -> Ended:
        """The ids that have ended since a time, by the list in which they wait to be forgotten. The newest come first.

        It has them by whole calls, so this costs the server next to nothing, where a look at each would cost it most of
        what a mirror costs.
        """
        found: set[bytes] = set()
        start, size = 0, 100
        while len(found) < ENDED_MOST and start < ENDED_MOST:
            page = self._ask("LRANGE", self._keys["finished_order"], -start - size, -start - 1)
            for entry in reversed(page):
                if _codec.enqueued_at(entry) * 1000 < milliseconds - 1:
                    return Ended(frozenset(found), complete=True)
                found.update(unpack_ids(entry[_codec.STAMP :]))
            if len(page) < size:
                return Ended(frozenset(found), complete=True)
            start, size = start + size, min(2000, size * 2)
        return Ended(frozenset(found), complete=False)

    def values(self, ids: Sequence[bytes]) -> list[bytes | None]:
        """The records or end markers of items."""
        found: list[bytes | None] = self._ask("HMGET", self._keys["items"], *ids)
        return found

    def get(self, ids: Sequence[bytes]) -> list[Reply]:
        """Everything about items: see lua/get.lua."""
        found: list[Reply] = self._queue._driver.call(Command(_scripts.load("get"), ids, lambda reply: reply[3], ids))
        return found

    def scan_items(self, cursor: bytes, count: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """A part of the hash of all items. What is in it all the time is met, wherever it moves to meanwhile."""
        cursor, flat = self._ask("HSCAN", self._keys["items"], cursor, "COUNT", count)
        return cursor, list(zip(flat[::2], flat[1::2], strict=True))

    def batches(self, names: Sequence[bytes]) -> list[tuple[bytes, bytes | None, bytes | None]]:
        """What is known of batches: how far they are, and what follows."""
        fields = [prefix + name for name in names for prefix in (b"b", b"t")]
        found = self._ask("HMGET", self._keys["batches"], *fields) if fields else []
        return list(zip(names, found[::2], found[1::2], strict=True))

    def scan_batches(self) -> Iterator[list[bytes]]:
        """The ids of all batches, by parts."""
        cursor = b"0"
        while True:
            cursor, flat = self._ask("HSCAN", self._keys["batches"], cursor, "MATCH", "b*", "COUNT", 500)
            yield [name[1:] for name in flat[::2]]
            if cursor == b"0":
                return

    def settings(self) -> dict[str, str]:
        """The queue's settings by their names on the server, defaults too, and what it is closed for."""
        command = _commands.inspect()
        flat: list[bytes] = self._queue._driver.call(Command(command.script, (), lambda reply: reply[3]))
        closed = self._ask("HMGET", self._keys["meta"], "paused_claim", "paused_enqueue")
        found = {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}
        names = ("paused_claim", "paused_enqueue")
        return found | {name: "1" for name, value in zip(names, closed, strict=True) if value}

    def crons(self) -> list[tuple[str, str, str]]:
        """Recurring items: name, next tick in ms ('inf' for none), and what lua/crons.lua has of it, in hex."""
        command = Command(_scripts.load("crons"), ("all", "", 0), lambda reply: reply[3:6])
        names, ticks, values = self._queue._driver.call(command)
        known = [(n.decode(), t.decode(), v.hex()) for n, t, v in zip(names, ticks, values, strict=False) if v]
        return sorted(known)

    def enqueue(self, bodies: Sequence[Body]) -> list[Enqueued]:
        """Enqueues items; those that the queue knows are left as they are."""
        return self._queue._driver.call(_commands.enqueue(bodies))

    def facts(self) -> Facts:
        """How the server and the queue are now. Asked after reading: then what was read is of this server and epoch."""
        epoch, state, stamp, most = self._ask("HMGET", self._keys["meta"], "epoch", "state", "stamp", "journal_max")
        entries = self._ask("XLEN", self._keys["journal"])
        info = dict(re.findall(r"^(\w+):(.*?)\r?$", self._ask("INFO", "server", "replication").decode(), re.MULTILINE))
        return Facts(
            f"{info['run_id']} {info['master_replid']}",
            info["role"] == "master",
            int(info["server_time_usec"]) / 1e6,
            int(epoch or 0),
            (state or b"").decode(),
            int(stamp or 0),
            entries,
            int(most or DEFAULT_MAX),
        )

    def check(self, facts: Facts) -> None:
        """Refuses what was read where it is of another generation than this client knows.

        Raises:
            StateLost, StaleEpoch.
        """
        if not facts.epoch:
            raise StateLost(self._queue.name, epoch=self.epoch)
        if facts.epoch != self.epoch:
            raise StaleEpoch(self._queue.name, known=self.epoch, found=facts.epoch)

    def _ask(self, *parts: bytes | str | int) -> Any:
        wire: Wire = parts
        return self._queue._driver._asked(_replies.pack(wire))


def _page(entries: list[tuple[str, list[bytes]]], position: str, count: int) -> Page:
    """What entries name. Later than they were made only their ids matter, so each is asked for once."""
    ids: dict[bytes, None] = {}
    batches: dict[bytes, None] = {}
    settings, named = False, 0
    for _, fields in entries:
        for field, value in zip(fields[::2], fields[1::2], strict=True):
            if field == b"i":
                some = unpack_ids(value)
                named += len(some)
                ids.update(dict.fromkeys(some))
            elif field == b"b":
                batches[value] = None
            elif field == b"q":
                settings = True
    last = entries[-1][0] if entries else position
    first = entries[0][0] if entries else ""
    return Page(last, len(entries), tuple(ids), tuple(batches), settings, len(entries) >= count, False, named, first)


def order(entry: str) -> tuple[int, float]:
    """The id of an entry as it is ordered. One without a number stands behind all of its millisecond."""
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number) if number else float("inf")
