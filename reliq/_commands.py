"""One pure function per script: arguments in, a `Command` out that knows how to read the reply. No I/O."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from reliq import _ids, _reading, _scripts
from reliq._durability import MEMORY, Durability
from reliq._session import Command, Reply, Session
from reliq.errors import CodecError
from reliq.item import (
    Claimed,
    Counts,
    Enqueued,
    Failed,
    Item,
    ItemInfo,
    ItemState,
    Moved,
    Recovered,
    Settings,
    WorkerInfo,
    sources,
)

MAX_ERROR = 4096  # bytes of an error's text that are kept


class Body(NamedTuple):
    """An item that is ready to be sent."""

    key: bytes
    body: bytes
    due: str = ""
    group: bytes = b""
    made_up: bool = False  # its id is ours: nobody else can have enqueued it


def _stride(body: Body) -> int:
    """How many of an item's parts have to be sent."""
    return 4 if body.group else 3 if body.due else 2


def enqueue(bodies: Sequence[Body], durability: Durability = MEMORY) -> Command[list[Enqueued]]:
    """Adds items. Of two with the same id in one call the first counts."""
    if len(bodies) == 1:
        return _enqueue_one(bodies[0], durability)
    unique = {body.key: body for body in reversed(bodies)}
    sent = bodies if len(unique) == len(bodies) else list({body.key: unique[body.key] for body in bodies}.values())
    stride = max(map(_stride, sent))
    args: list[bytes | str | int] = [stride]
    for body in sent:
        args += body[:stride]

    def decode(reply: Reply) -> list[Enqueued]:
        there = {sent[i].key for i in reply[2]}
        if not there and sent is bodies:
            return [Enqueued(_ids.unpack(body.key), True, durability.text) for body in bodies]
        results = []
        for body in bodies:
            created = body.made_up or body.key not in there
            results.append(Enqueued(_ids.unpack(body.key), created, durability.text))
            there.add(body.key)
        return results

    return Command(_scripts.load("enqueue"), args, decode, [body.key for body in sent], durability)


def _enqueue_one(body: Body, durability: Durability) -> Command[list[Enqueued]]:
    def decode(reply: Reply) -> list[Enqueued]:
        return [Enqueued(_ids.unpack(body.key), body.made_up or not reply[2], durability.text)]

    stride = _stride(body)
    args = (stride, *body[:stride])
    return Command(_scripts.load("enqueue"), args, decode, (body.key,), durability)


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """What a claim brought. `more`: the search met its bound; `next_ms`: when something falls due, -1 for never."""

    items: Claimed
    broken: list[tuple[Item, CodecError]]
    more: bool = False
    next_ms: int = -1


def claim(
    session: Session,
    count: int,
    *,
    lease: float,
    receipt: bytes,
    asked_at: float,
    worker: bytes = b"",
    wait_ms: int = 0,
) -> Command[ClaimReply]:
    """Takes up to `count` items. With a worker's name it is noted as idle for `wait_ms` where there are none."""

    def decode(reply: Reply) -> ClaimReply:
        batch = _reading.Batch(session, receipt, lease, asked_at, int(reply[1] or 0))
        items, broken = batch.read(*reply[2:7])
        return ClaimReply(items, broken, bool(reply[7]), int(reply[8]))

    return Command(_scripts.load("claim"), (receipt, count, _ms(lease), worker, wait_ms), decode)


def finish_and_claim(
    session: Session,
    items: Sequence[Item],
    count: int,
    *,
    lease: float,
    receipt: bytes,
    asked_at: float,
    worker: bytes = b"",
    wait_ms: int = 0,
) -> Command[ClaimReply]:
    """A worker's whole round trip: finishes items and takes the next ones. `worker` and `wait_ms` as for `claim`."""
    flat, runs = _runs(items)

    def decode(reply: Reply) -> ClaimReply:
        batch = _reading.Batch(session, receipt, lease, asked_at, int(reply[1] or 0))
        claimed, broken = batch.read(*reply[3:8])
        claimed.lost = tuple(flat[i].id for i in reply[2])
        return ClaimReply(claimed, broken, bool(reply[8]), int(reply[9]))

    keys = [item.key for item in flat]
    args = (receipt, count, _ms(lease), worker, wait_ms, *runs)
    return Command(_scripts.load("finish_and_claim"), args, decode, keys)


def finish(items: Iterable[Item], durability: Durability = MEMORY) -> Command[list[str]]:
    """Ends items for good. Returns the ids that are not held any more."""
    return replace(_by_receipt("finish", (), items), durability=durability)


def finish_with(
    endings: Sequence[tuple[Item, bytes]], following: Sequence[Body] = (), durability: Durability = MEMORY
) -> Command[list[str]]:
    """Ends items, each with a result (b"" for none), and enqueues what comes next. Returns the ids that are lost."""
    args: list[bytes | str | int] = [len(endings)]
    for item, result in endings:
        args += (item.proof, item.key, result)
    for body in following:
        args += body[:4]

    def decode(reply: Reply) -> list[str]:
        return [endings[int(i)][0].id for i in reply[2]]

    return Command(_scripts.load("finish_with"), args, decode, [item.key for item, _ in endings], durability)


def finish_unseen(items: Sequence[Item], durability: Durability = MEMORY) -> Command[list[str]]:
    """Ends items whose claim the server never saw, where nobody else had them. Returns the ids that it did not end."""
    args: list[bytes | str | int] = []
    for item in items:
        args += (item.held.proof, item.key, item.stamp, item.delivery - 1)

    def decode(reply: Reply) -> list[str]:
        return [items[int(i)].id for i in reply[2]]

    return Command(_scripts.load("finish_unseen"), args, decode, [item.key for item in items], durability)


def checkpoint(item: Item, progress: bytes, lease: float) -> Command[bool]:
    """Stores how far an item has come, and renews its lease. False where the lease was lost."""
    args = (item.proof, item.key, _ms(lease), progress)
    return Command(_scripts.load("checkpoint"), args, lambda reply: bool(reply[2]), (item.key,))


def release(items: Iterable[Item]) -> Command[list[str]]:
    """Gives items back unstarted. Returns the ids that are not held any more."""
    return _by_receipt("release", (), items)


def renew(items: Iterable[Item], lease: float) -> Command[list[str]]:
    """Extends leases. Returns the ids that are not held any more."""
    return _by_receipt("renew", (_ms(lease),), items)


def _by_receipt(verb: str, first: tuple[int, ...], items: Iterable[Item]) -> Command[list[str]]:
    flat, runs = _runs(items)

    def decode(reply: Reply) -> list[str]:
        return [flat[i].id for i in reply[2]]

    return Command(_scripts.load(verb), (*first, *runs), decode, [item.key for item in flat])


@dataclass(frozen=True, slots=True)
class Failure:
    """How one item failed. `after`: None as the queue's settings say, else seconds until the next attempt.

    `dead`: no further attempt. `discard`: nor is it kept.
    """

    item: Item
    error: str
    after: float | None = None
    dead: bool = False
    discard: bool = False

    @property
    def word(self) -> str | int:
        """Where to, as lua/fail.lua has it."""
        if self.discard:
            return "discard"
        return "dead" if self.dead else "" if self.after is None else _ms(self.after)


def fail(failures: Sequence[Failure]) -> Command[list[tuple[Item, Failed | None]]]:
    """Counts a failed attempt on items. Returns what became of each, None where the lease was lost.

    The jitter of the backoff is drawn here, because a script's random numbers are the same every time.
    """
    runs: dict[bytes, dict[bytes, Failure]] = {}
    for failure in failures:
        runs.setdefault(failure.item.proof, {}).setdefault(failure.item.key, failure)
    args: list[bytes | str | int] = []
    flat: list[Item] = []
    for proof, run in runs.items():
        args += (proof, len(run))
        for failure in run.values():
            flat.append(failure.item)
            args += (failure.item.key, failure.word, f"{random.random():.6f}", cut(failure.error))

    def decode(reply: Reply) -> list[tuple[Item, Failed | None]]:
        outcomes = {(item.proof, item.key): outcome for item, outcome in zip(flat, reply[2], strict=True)}
        items = [failure.item for failure in failures]
        return [(item, _failed(item.id, outcomes[item.proof, item.key])) for item in items]

    return Command(_scripts.load("fail"), args, decode, [item.key for item in flat])


def _failed(item_id: str, outcome: bytes) -> Failed | None:
    match outcome:
        case b"lost":
            return None
        case b"dead" | b"queued" | b"removed":
            return Failed(item_id, ItemState(outcome.decode()))
        case _:
            return Failed(item_id, ItemState.SCHEDULED, float(outcome) / 1000)


def recover(limit: int) -> Command[tuple[Recovered, int]]:
    """Takes back items whose lease ended. Returns how many, and how many ended leases are left."""

    def decode(reply: Reply) -> tuple[Recovered, int]:
        return Recovered(*reply[2:7]), reply[7]

    return Command(_scripts.load("recover"), (limit,), decode)


def requeue(ids: Sequence[str]) -> Command[Moved]:
    """Scheduled, orphaned and dead items to the tail of the queue."""
    return _by_id("requeue", (), ids, done={ItemState.QUEUED})


def resolve(ids: Sequence[str], decision: str) -> Command[Moved]:
    """Orphaned and dead items to finished, queued or dead."""
    done = {"finish": ItemState.FINISHED, "requeue": ItemState.QUEUED, "dead": ItemState.DEAD}[decision]
    return _by_id("resolve", (decision,), ids, done={done})


def cancel(ids: Sequence[str]) -> Command[Moved]:
    """Removes queued and scheduled items."""
    return _by_id("cancel", (), ids, done={ItemState.REMOVED})


def discard(ids: Sequence[str]) -> Command[Moved]:
    """Removes orphaned and dead items."""
    return _by_id("discard", (), ids, done={ItemState.REMOVED})


def _by_id(verb: str, first: tuple[str, ...], ids: Sequence[str], done: set[ItemState]) -> Command[Moved]:
    """A verb that goes by ids. The script tells the states before; an item that was there already is done as well."""
    unique = list(dict.fromkeys(_ids.check(item_id) for item_id in ids))
    keys = [_ids.pack(item_id) for item_id in unique]
    good = sources(verb) | done

    def decode(reply: Reply) -> Moved:
        states = {i: ItemState(s.decode()) if s else None for i, s in zip(unique, reply[2], strict=True)}
        skipped = {i: state for i, state in states.items() if state not in good}
        return Moved(tuple(i for i in unique if i not in skipped), skipped)

    return Command(_scripts.load(verb), (*first, *keys), decode, keys)


def redrive(limit: int, token: bytes) -> Command[int]:
    """Moves the items that died first back to the queue. The token makes a repeat harmless."""
    return Command(_scripts.load("redrive"), (token, limit), lambda reply: int(reply[2]))


def purge(state: ItemState, limit: int) -> Command[tuple[int, bool]]:
    """Removes items of one state. Returns how many, and whether there may be more."""
    return Command(_scripts.load("purge"), (state.value, limit), lambda reply: (reply[2], bool(reply[3])))


def configure(settings: Mapping[str, str]) -> Command[Settings]:
    """Changes settings, by their names on the server."""
    args = [part for pair in settings.items() for part in pair]
    return Command(_scripts.load("configure"), args, lambda reply: _reading.settings_of(reply[2]))


def pause(*, claim: bool, enqueue: bool) -> Command[None]:
    """Closes the queue."""
    return Command(_scripts.load("pause"), (int(claim), int(enqueue)), lambda _: None)


def resume() -> Command[None]:
    """Opens the queue."""
    return Command(_scripts.load("resume"), (), lambda _: None)


def inspect() -> Command[tuple[Counts, Settings]]:
    """Counts and settings."""

    def decode(reply: Reply) -> tuple[Counts, Settings]:
        counts: dict[str, Any] = {name: int(value) for name, value in _reading.pairs(reply[2]).items()}
        flags = {name: bool(counts.pop(name)) for name in ("paused_claim", "paused_enqueue")}
        return Counts(**counts, **flags), _reading.settings_of(reply[3])

    return Command(_scripts.load("inspect"), (), decode)


def oldest(state: ItemState) -> Command[float | None]:
    """Seconds since the first item of a state was enqueued."""
    return Command(
        _scripts.load("oldest"), (state.value,), lambda reply: None if int(reply[2]) < 0 else int(reply[2]) / 1000
    )


def scan(state: ItemState, cursor: bytes, limit: int) -> Command[tuple[list[bytes], bytes]]:
    """A page of ids and the cursor of the next page, b'' at the end."""
    return Command(_scripts.load("scan"), (state.value, cursor, limit), lambda reply: (reply[2], reply[3]))


def get(session: Session, keys: Sequence[bytes]) -> Command[list[ItemInfo | None]]:
    """Everything about items, None for those that the queue does not know."""

    def decode(reply: Reply) -> list[ItemInfo | None]:
        return [_reading.item_info(session, key, *entry) for key, entry in zip(keys, reply[3], strict=True)]

    return Command(_scripts.load("get"), keys, decode, keys)


@dataclass(frozen=True, slots=True)
class BatchReply:
    """How far a batch is: members in all and those awaited, None where it is through."""

    there: frozenset[bytes]
    total: int | None
    awaited: int | None


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A batch: its id, what follows it, and when (`finished` or `settled`)."""

    key: bytes
    when: str
    then: Body


def batch(spec: BatchSpec, bodies: Sequence[Body], *, sealed: bool) -> Command[BatchReply]:
    """Adds members to a batch, which is complete with them where it is sealed; tells how far it is."""
    unique = list({body.key: body for body in reversed(bodies)}.values())[::-1]
    args: list[bytes | str | int] = [spec.key, spec.when, int(sealed)]
    args += (spec.then.key, spec.then.due, spec.then.group, spec.then.body)
    for body in unique:
        args += (body.key, body.body, body.due, body.group)

    def decode(reply: Reply) -> BatchReply:
        there = frozenset(unique[int(i)].key for i in reply[2])
        through = int(reply[3]) < 0
        return BatchReply(there, None if through else int(reply[3]), None if through else int(reply[4]))

    return Command(_scripts.load("batch"), args, decode, [body.key for body in unique])


def watch(key: bytes, wait: float) -> Command[ItemState | None]:
    """The state of an item, and where it is not at an end, that somebody listens for this many seconds."""

    def decode(reply: Reply) -> ItemState | None:
        return ItemState(reply[2].decode()) if reply[2] else None

    return Command(_scripts.load("watch"), (key, _ms(wait)), decode, (key,))


def await_room(producer: bytes, wait: float, count: int, size: int) -> Command[bool]:
    """Whether so many items fit now; where not, a producer is noted as waiting for this many seconds."""
    return Command(_scripts.load("await_room"), (producer, _ms(wait), count, size), lambda reply: bool(reply[2]))


@dataclass(frozen=True, slots=True)
class Beat:
    """What a beat brought: whether this worker sweeps, and the seconds until time brings something (None: never).

    `tick_due`: a recurring item is to be enqueued.
    """

    sweeps: bool
    next_event: float | None
    tick_due: bool = False


def beat(worker: str, facts: bytes, sweep: float) -> Command[Beat]:
    """Says that a worker is there (b"": that it leaves), and sweeps where it holds the sweep lease of the fleet."""

    def decode(reply: Reply) -> Beat:
        return Beat(bool(reply[2]), None if int(reply[3]) < 0 else int(reply[3]) / 1000, int(reply[4]) == 0)

    return Command(_scripts.load("beat"), (worker, facts, _ms(sweep)), decode)


def workers() -> Command[list[WorkerInfo]]:
    """Who works on the queue, those seen last first."""

    def decode(reply: Reply) -> list[WorkerInfo]:
        now, sweeper = int(reply[2]), reply[3]
        seen = zip(reply[4], reply[5], reply[6], strict=True)
        return [_reading.worker_info(n, now, int(at), f or b"", sweeps=n == sweeper) for n, at, f in seen]

    return Command(_scripts.load("workers"), (), decode)


@dataclass(frozen=True, slots=True)
class StoredCron:
    """A recurring item as the server has it; `definition` is for _cron.py to read. Ticks are in ms, None for none."""

    name: str
    tick: int | None
    last: int | None
    revision: bytes
    definition: bytes


@dataclass(frozen=True, slots=True)
class CronsReply:
    """Recurring items, and the server's time in ms."""

    now: int
    crons: list[StoredCron]


def crons(which: str, name: str = "", offset: int = 0) -> Command[CronsReply]:
    """Recurring items: the `one` of a name, those that are `due` (100 at most, from the offset on), or `all`."""

    def decode(reply: Reply) -> CronsReply:
        entries = zip(reply[3], reply[4], reply[5], strict=True)
        return CronsReply(int(reply[2]), [_stored(name, tick, value) for name, tick, value in entries if value])

    return Command(_scripts.load("crons"), (which, name, offset), decode)


def _stored(name: bytes, tick: bytes, value: bytes) -> StoredCron:
    last, revision, definition = value.split(b" ", 2)
    next_tick = None if tick == b"inf" else int(float(tick))
    return StoredCron(name.decode(), next_tick, int(last) or None, revision, definition)


def cron_set(name: str, seen: bytes, revision: bytes, definition: bytes, tick: str) -> Command[str]:
    """Keeps a recurring item (removes it: b""), if its revision is still the one that was seen.

    `tick`: the next one in ms, `inf` for none, "" to leave it as it is. Returns `done`, `changed` or `full`.
    """
    args = (name, seen, revision, definition, tick)
    return Command(_scripts.load("cron_set"), args, lambda reply: reply[2].decode())


def cron_tick(stored: StoredCron, tick: int | None, last: int | None, bodies: Sequence[Body]) -> Command[int | None]:
    """Enqueues the items of ticks and sets the next tick. Returns how many, None where somebody else was faster."""
    args: list[bytes | str | int] = [stored.name, stored.revision, "inf" if stored.tick is None else stored.tick]
    args += ("inf" if tick is None else tick, "" if last is None else last)
    for body in bodies:
        args += (body.key, body.body, body.group)

    def decode(reply: Reply) -> int | None:
        return int(reply[3]) if reply[2] else None

    return Command(_scripts.load("cron_tick"), args, decode, [body.key for body in bodies])


def _runs(items: Iterable[Item]) -> tuple[list[Item], list[bytes | int]]:
    """Items in the order of the arguments, and the arguments: receipt, number of ids, ids, receipt ..."""
    by_proof: dict[bytes, list[Item]] = {}
    last, run = None, []
    for item in items:
        if item.held is not last:  # most are of one claim, side by side
            last = item.held
            run = by_proof.setdefault(last.proof, [])
        run.append(item)
    flat: list[Item] = []
    args: list[bytes | int] = []
    for proof, run in by_proof.items():
        flat += run
        args += (proof, len(run), *(item.key for item in run))
    return flat, args


def cut(text: str) -> bytes:
    """An error's text as it is stored: at most 4 KiB."""
    return text.encode("utf-8", "backslashreplace")[:MAX_ERROR]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
