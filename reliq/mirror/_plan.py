"""What a rebuild will do, what speaks against it, and what each row becomes. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from reliq import _ids, _scripts
from reliq._codec import STAMP
from reliq.states import ItemState

LIVE = ("queued", "scheduled", "in_progress", "orphaned", "dead")
FOLLOWED = 30.0  # seconds; a follower that wrote within them is taken to be running
FORGIVEN = 60.0  # seconds of state that a server may lack: asynchronous failovers were seen to lose up to 22
TICKS = 200_000  # of a stamp in a second: lua/_stamp.lua


class Entry(NamedTuple):
    """An item as lua/restore.lua takes it; what there is none of is empty."""

    id: bytes
    state: bytes
    record: bytes
    history: bytes
    at: bytes
    error: bytes
    group: bytes
    checkpoint: bytes
    batch: bytes

    @property
    def stamp(self) -> int:
        """Its place in the order."""
        return int.from_bytes(self.record[:STAMP], "big")


@dataclass(frozen=True, slots=True)
class Source:
    """What Postgres has of a queue."""

    epoch: int
    state: str
    position: str
    top_stamp: int
    lag_items: int
    lag_seconds: float
    followed_ago: float | None
    follower: str
    counts: Mapping[str, int]
    ended: int
    pending: int
    batches: int


@dataclass(frozen=True, slots=True)
class Target:
    """What the Redis that is to be filled has of it. `epoch` is None where it has nothing."""

    epoch: int | None = None
    state: str = ""
    stamp: int = 0
    rebuild: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing that a rebuild would remove."""
        return self.epoch is None


@dataclass(frozen=True, slots=True)
class Hazard:
    """Something that a person should know before a rebuild.

    Attributes:
        kind: a word for programs: `target not empty`, `follower running`, `lag`, `finished meanwhile`, `retention`,
            `epoch`, `incomplete`, `unfinished`.
        text: what it is, with figures.
        blocks: `apply` refuses unless it is told to go on: `wipe=True`.
    """

    kind: str
    text: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What a rebuild of a queue would do. Made by `Mirror.plan_rebuild`, which changes nothing.

    Attributes:
        queue: its name.
        recovery: names this rebuild in `reliq.recoveries`, and to Redis.
        epoch_before, epoch_after: generation of the queue's state.
        counts: rows of live items by state, as they were when the follower met them last.
        pending: items whose row was committed before Redis was asked, and that the follower has not met.
        ended: ids that will be refused as before.
        batches: batches that still wait for members.
        hazards: what to know first.
        fingerprint: of all that the plan is based on; `apply` refuses when that has changed.
        resumes: a rebuild was broken off, and this one goes on with it.
        in_progress: how that one treats what was in progress, '' where it has not begun.
    """

    queue: str
    recovery: str
    epoch_before: int
    epoch_after: int
    counts: Mapping[str, int]
    pending: int
    ended: int
    batches: int
    hazards: tuple[Hazard, ...]
    fingerprint: str
    resumes: bool = False
    in_progress: str = ""
    client: Any = field(default=None, repr=False, compare=False)  # of the queue that is to be filled

    @property
    def items(self) -> int:
        """Live items that will come back."""
        return sum(self.counts.values()) + self.pending

    @property
    def blocked(self) -> bool:
        """Whether `apply` refuses it unless it is told to go on."""
        return any(hazard.blocks for hazard in self.hazards)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON carries it."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "client"}
        return told | {"counts": dict(self.counts), "hazards": [asdict(h) for h in self.hazards], "items": self.items}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> RebuildPlan:
        """A plan out of JSON."""
        known = {f.name: told[f.name] for f in fields(cls) if f.name in told}
        return cls(**known | {"hazards": tuple(Hazard(**hazard) for hazard in told["hazards"])})


def make(queue: str, recovery: str, source: Source, target: Target) -> RebuildPlan:
    """The plan for a rebuild that has not begun."""
    return RebuildPlan(
        queue,
        recovery,
        source.epoch,
        max(source.epoch, target.epoch or 0) + 1,
        {state: source.counts.get(state, 0) for state in LIVE},
        source.pending,
        source.ended,
        source.batches,
        tuple(hazards(source, target)),
        fingerprint(queue, source, target),
    )


def fingerprint(queue: str, source: Source, target: Target) -> str:
    """Of everything that a rebuild depends on: not of the passing of time, nor of a follower that has nothing to do."""
    seen = asdict(source) | {"queue": queue, "target": asdict(target)}
    for passing in ("followed_ago", "follower", "lag_seconds", "lag_items"):
        del seen[passing]
    seen["state"] = "" if source.state in ("following", "stopped") else source.state
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]


def hazards(source: Source, target: Target) -> Iterator[Hazard]:
    """What speaks against a rebuild, worst first."""
    yield from _of_target(source, target)
    if source.followed_ago is not None and source.followed_ago < FOLLOWED:
        who = source.follower or "a follower"
        text = f"{who} wrote {source.followed_ago:.0f} s ago; what it has read of the old epoch is refused from now on"
        yield Hazard("follower running", text)
    if source.state == "resyncing":
        yield Hazard("incomplete", "a full resynchronisation was under way: rows may be missing, or be of ended items")
    if source.lag_items or source.lag_seconds:
        text = f"the mirror was {source.lag_items} items and {source.lag_seconds:.1f} s behind when it was last told"
        yield Hazard("lag", f"{text}; what was enqueued in that time without durability=checkpointed is not in it")
    if held := source.counts.get("in_progress", 0):
        yield Hazard("finished meanwhile", f"{held} items were in progress and may have been finished since")
    yield Hazard("retention", f"{source.ended} ended ids are known; ids that ended before the mirror met them are not")


def _of_target(source: Source, target: Target) -> Iterator[Hazard]:
    if target.epoch is None:
        return
    held = ", ".join(f"{count} {state}" for state, count in target.counts.items() if count) or "no items"
    text = f"Redis has the queue: epoch {target.epoch}, {target.state}, {held}; a rebuild with wipe removes all of it"
    yield Hazard("target not empty", text, blocks=True)
    if target.epoch > source.epoch:
        text = f"Redis has epoch {target.epoch}, the mirror {source.epoch}: the queue was made anew after the mirror's"
        yield Hazard("epoch", text)


def back(entry: Entry, in_progress: str, at_ms: int) -> Entry:
    """A row as it comes back: nobody holds anything, and nothing waits for a turn.

    What was in progress had one more delivery, which its next one must count: the number is a fencing number.
    """
    if entry.state != b"in_progress":
        return entry._replace(history=b"q" + entry.history[1:]) if entry.history else entry
    _, claims, rest = (entry.history or b"q 0 0 0 ").split(b" ", 2)
    history = b"q %d %s" % (int(claims) + 1, rest)
    if in_progress == "hold":
        return entry._replace(state=b"orphaned", history=history, at=b"%d" % at_ms)
    return entry._replace(state=b"queued", history=history)


def marker(key: bytes, ended: bytes) -> Entry:
    """An ended id as it comes back. One that was cancelled or finished in its place has no place any more."""
    how = {b"c": b"r", b"p": b"f", b"P": b"F"}.get(ended[7:8], ended[7:8])
    ended = ended[:7] + how + ended[8:]
    return Entry(key, b"finished" if how in b"fF" else b"removed", ended, b"", b"", b"", b"", b"", b"")


def unlike_default(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings that have to be said: those that scripts would not assume by themselves."""
    stated = re.findall(r"^local DEFAULT_(\w+) = '?(\w+)", _scripts.load("inspect").source, re.MULTILINE)
    defaults = {name.lower(): value for name, value in stated}
    return {name: str(value) for name, value in settings.items() if str(value) != defaults.get(name, "0")}


def too_old(top_stamp: int, stamp: int) -> bool:
    """Whether a server whose last stamp this is lacks more than a crash or a failover takes."""
    return top_stamp - stamp > FORGIVEN * TICKS


class Digest:
    """Counts and sums of entries by state. The order of the entries does not matter."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.sums: dict[bytes, int] = {}

    def add(self, entry: Entry) -> None:
        """Takes an entry in."""
        state = entry.state
        packed = b"%d %d %d %d %d %d %d " % tuple(map(len, entry[2:])) + b"".join(entry)
        number = int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "big")
        self.counts[state] = self.counts.get(state, 0) + 1
        self.sums[state] = (self.sums.get(state, 0) + number) % 2**64

    def of(self, state: str) -> tuple[int, str]:
        """How many entries, and their digest."""
        key = state.encode()
        return self.counts.get(key, 0), f"{self.sums.get(key, 0):016x}"


@dataclass(frozen=True, slots=True)
class StateCheck:
    """One state, counted and summed on both sides."""

    state: str
    mirrored: int
    found: int
    mirrored_digest: str
    found_digest: str

    @property
    def same(self) -> bool:
        """Whether both sides have the same items in it, byte by byte."""
        return self.mirrored == self.found and self.mirrored_digest == self.found_digest


def compare(mirrored: Digest, found: Digest) -> tuple[StateCheck, ...]:
    """State by state."""
    states = [state.value for state in ItemState if state.value.encode() in {*mirrored.counts, *found.counts}]
    checks = []
    for state in states:
        (count, digest), (other_count, other_digest) = mirrored.of(state), found.of(state)
        checks.append(StateCheck(state, count, other_count, digest, other_digest))
    return tuple(checks)


def in_batches(entries: Iterable[Entry], items: int, size: int) -> Iterator[list[Entry]]:
    """Entries as calls take them: so many of them, and about so many bytes, at most."""
    batch, held = list[Entry](), 0
    for entry in entries:
        weight = len(entry.record) + len(entry.error) + len(entry.checkpoint)
        if batch and (len(batch) >= items or held + weight > size):
            yield batch
            batch, held = [], 0
        batch.append(entry)
        held += weight
    if batch:
        yield batch


def difference(mirrored: Entry | None, found: Entry) -> str:
    """What is not the same of one item, in words."""
    name = _ids.unpack(found.id)
    if mirrored is None:
        return f"{name}: Redis has it {found.state.decode()}, the mirror does not know it"
    if not found.state:
        return f"{name}: the mirror has it {mirrored.state.decode()}, Redis does not know it"
    if mirrored.state != found.state:
        return f"{name}: the mirror has it {mirrored.state.decode()}, Redis {found.state.decode()}"
    parts = [part for part, one, other in zip(Entry._fields, mirrored, found, strict=True) if one != other]
    return f"{name}: {found.state.decode()} on both sides, with different {', '.join(parts)}"
