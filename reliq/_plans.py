"""The loops, as generators that yield what is to be done and are sent what came of it. They do no I/O themselves.

A driver runs a plan: for a `Command` it sends one and gives its result, for a `Sleep` it waits, for a `Block` it waits
on the queue's wake-up key. Errors of a command are thrown into the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from reliq import _commands, _ids, _policy
from reliq._codec import STAMP
from reliq._commands import Body, ClaimReply
from reliq._durability import MEMORY, Durability
from reliq._policy import Applied, Retry
from reliq._session import Command, Session
from reliq.errors import DrainTimeout, InvalidArgument, PayloadError, QueueFull, ReliqError, Unavailable
from reliq.item import Claimed, Counts, Enqueued, Failed, Item, ItemInfo, ItemState, New, Recovered

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Block:
    """Wait until somebody pushes a token to the wake-up key, this many seconds at most.

    Its result is the key that had a token, None where none had.

    Attributes:
        keys: wake-up keys to wait on, where they are not the one of this session's queue: the first that has a token.
        breakable: is called with a function that breaks the wait off from another thread. (A task is cancelled.)
        exact: end on time: the server's own clock for this has steps of 0.1 s. Costs a connection where it ends so.
    """

    seconds: float
    keys: tuple[bytes, ...] = ()
    breakable: Callable[[Callable[[], object]], object] | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen on a channel, ask, and ask again at each message and every few seconds, until there is an answer.

    Attributes:
        ask: makes the command from the seconds until it is sent again; an answer is what is not None.
        seconds: how long. Its result is the answer, or None when the time is up.
    """

    channel: bytes
    ask: Callable[[float], Command[Any]]
    seconds: float


Effect = Command[Any] | Sleep | Block | Listen
Plan = Generator[Effect, Any, T]
Clock = Callable[[], float]


def persist(command: Command[T], timeout: float, first: Retry, *, clock: Clock = time.monotonic) -> Plan[T]:
    """Repeats a command whose first attempt failed with `first`, until it succeeds or `timeout` seconds are over.

    Raises:
        Unavailable: the time is up. Says whether any attempt may have been applied, and names the ids.
    """
    started, attempts, last = clock(), 1, first
    maybe = first.applied is Applied.MAYBE
    while True:
        pause = _policy.pause_before(attempts)
        if clock() - started + pause > timeout:
            raise _gave_up(command, last, maybe, attempts, timeout) from last
        yield Sleep(pause)
        attempts += 1
        try:
            result: T = yield command
        except Retry as failure:
            last, maybe = failure, maybe or failure.applied is Applied.MAYBE
        else:
            return result


def _gave_up(command: Command[Any], last: Retry, maybe: bool, attempts: int, timeout: float) -> Unavailable:
    known = "it may have been applied; repeating it with the same ids is safe" if maybe else "it was not applied"
    return Unavailable(
        f"{command.script.name} got no answer in {timeout:g} s and {attempts} attempts, {known}. Last: {last}",
        may_have_been_applied=maybe,
        attempts=attempts,
        seconds=timeout,
        ids=[_ids.unpack(key) for key in command.keys],
    )


def enqueue(
    session: Session,
    bodies: Sequence[Body],
    wait: float,
    durability: Durability = MEMORY,
    *,
    clock: Clock = time.monotonic,
) -> Plan[list[Enqueued]]:
    """Adds items; where the queue is full it waits up to `wait` seconds for room."""
    until, size = clock() + wait, sum(len(body.body) + STAMP for body in bodies)
    while True:
        try:
            added: list[Enqueued] = yield _commands.enqueue(bodies, durability)
        except QueueFull:
            left = min(until - clock(), _policy.BLOCK)
            if left <= 0:
                raise
        else:
            return added
        if not (yield _commands.await_room(_ids.new_receipt(), left, len(bodies), size)):
            yield Block(left, (session.keys["room"],))


def enqueue_many(
    session: Session, entries: Iterable[Any], batch: int, wait: float = 0.0, durability: Durability = MEMORY
) -> Plan[list[Enqueued]]:
    """Sends entries in batches, in order. An error carries what had been enqueued before it as `enqueued`."""
    results: list[Enqueued] = []
    try:
        for bodies in _batches(session, entries, batch):
            results += yield from enqueue(session, bodies, wait, durability)
    except ReliqError as error:
        error.enqueued = tuple(results)
        raise
    return results


def _batches(session: Session, entries: Iterable[Any], batch: int) -> Iterator[list[Body]]:
    fresh = _ids.stream_of_keys()
    bodies: list[Body] = []
    size = 0
    for number, entry in enumerate(entries):
        body = _numbered(session, entry, number, fresh)
        if bodies and (len(bodies) >= batch or size + len(body.body) > _policy.MAX_BATCH_BYTES):
            yield bodies
            bodies, size = [], 0
        bodies.append(body)
        size += len(body.body)
    if bodies:
        yield bodies


def _numbered(session: Session, entry: Any, number: int, fresh: Iterator[bytes]) -> Body:
    try:
        if isinstance(entry, New):
            return body_of(session, entry, fresh)
        key = next(fresh)
        return Body(key, session.encode(entry, key), made_up=True)
    except PayloadError as error:
        raise PayloadError(f"item {number}: {error}", path=error.path) from error


def body_of(session: Session, new: New, fresh: Iterator[bytes]) -> Body:
    """Encodes an item to enqueue; its id comes from `fresh` where it has none.

    Raises:
        InvalidArgument: its payload, id or time can't be used.
    """
    key = next(fresh) if new.id is None else _ids.pack(_ids.check(new.id))
    group = b"" if new.group is None else _ids.check(new.group, "a group").encode()
    return Body(key, session.encode(new.payload, key, new.headers), _due(new), group, made_up=new.id is None)


def _due(new: New) -> str:
    if new.delay is not None and new.at is not None:
        raise InvalidArgument("delay and at exclude each other")
    if new.delay is not None:
        delay = _policy.seconds(new.delay, "delay", low=0, high=_policy.MAX_DELAY)
        return f"+{round(delay * 1000)}" if delay else ""
    if new.at is not None:
        return str(round(_policy.seconds(new.at, "at (Unix time)", low=0, high=2.0**33) * 1000))
    return ""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a claim asks for: items, seconds of lease, seconds to wait where nothing is there."""

    count: int
    lease: float
    wait: float


@contextmanager
def _receipt(session: Session) -> Iterator[bytes]:
    """The receipt for a claim.

    Where the claim is broken off, by an error or a cancelled task, it may have taken items whose reply nobody read. The
    next claim asks with the same receipt and gets them, instead of their lease running out.
    """
    receipt = session.abandoned_receipt() or _ids.new_receipt()
    try:
        yield receipt
    except BaseException:
        session.abandoned.append(receipt)
        raise


def claim(session: Session, request: ClaimRequest, *, clock: Clock = time.monotonic) -> Plan[Claimed]:
    """Claims, and where there is nothing waits for `wait` seconds until there is. Sets undecodable items aside."""
    until = clock() + request.wait
    unreadable: tuple[str, ...] = ()
    while True:
        wait = min(until - clock(), _policy.BLOCK)
        with _receipt(session) as receipt:
            reply: ClaimReply = yield _commands.claim(
                session,
                request.count,
                lease=request.lease,
                receipt=receipt,
                asked_at=clock(),
                worker=receipt if wait > 0 else b"",
                wait_ms=round(max(wait, 0) * 1000),
            )
            yield from set_aside(reply)  # within: broken off here, the next claim brings the readable ones
        unreadable = reply.items.unreadable = unreadable + reply.items.unreadable
        again = reply.more or reply.broken or session.abandoned  # there may be items that this call did not look for
        if reply.items or (wait <= 0 and not again):
            return reply.items
        if wait > 0 and not again:
            block = wait if reply.next_ms < 0 else min(wait, reply.next_ms / 1000)
            yield Block(max(block, 0.001))


def finish_and_claim(
    session: Session, items: Sequence[Item], request: ClaimRequest, *, clock: Clock = time.monotonic
) -> Plan[Claimed]:
    """Finishes and claims in one round trip; where nothing is there it waits as claim does."""
    with _receipt(session) as receipt:
        reply: ClaimReply = yield _commands.finish_and_claim(
            session, items, request.count, lease=request.lease, receipt=receipt, asked_at=clock()
        )
        yield from set_aside(reply)
    ended = yield from finish_lost(items, reply.items)
    if reply.items or not (request.wait > 0 or reply.more or reply.broken or ended or session.abandoned):
        return reply.items
    claimed = yield from claim(session, request, clock=clock)
    claimed.lost = reply.items.lost
    claimed.unreadable = reply.items.unreadable + claimed.unreadable
    return claimed


def batch(session: Session, spec: _commands.BatchSpec, entries: Iterable[Any]) -> Plan[list[Enqueued]]:
    """Enqueues the members of a batch, 1,000 a call, and seals it with the last of them."""
    results: list[Enqueued] = []
    chunks = _batches(session, entries, _policy.MAX_BATCH)
    bodies: list[Body] | None = next(chunks, [])
    while bodies is not None:
        following = next(chunks, None)
        reply: _commands.BatchReply = yield _commands.batch(spec, bodies, sealed=following is None)
        results += [Enqueued(_ids.unpack(body.key), body.key not in reply.there) for body in bodies]
        bodies = following
    return results


UNKNOWN = "no item has this id"
_ENDS = (ItemState.FINISHED, ItemState.REMOVED, ItemState.DEAD)


def wait_for_end(session: Session, key: bytes, seconds: float) -> Plan[ItemInfo | None]:
    """What became of an item: when it has finished, died or been removed, or is unknown. None when the time is up."""

    def ask(left: float) -> Command[bool | None]:
        command = _commands.watch(key, left)
        return Command(command.script, command.args, lambda reply: _has_ended(command.decode(reply)), command.keys)

    if (yield Listen(session.keys["ended"], ask, seconds)) is None:
        return None
    infos = yield _commands.get(session, [key])
    return infos[0] or ItemInfo(_ids.unpack(key), ItemState.REMOVED, problem=UNKNOWN)


def _has_ended(state: ItemState | None) -> bool | None:
    return True if state is None or state in _ENDS else None


def set_aside(reply: ClaimReply) -> Plan[None]:
    """Buries items whose payload can't be decoded: their bytes stay, a person decides."""
    if reply.broken:
        yield _commands.fail([_commands.Failure(item, f"unreadable: {e}", dead=True) for item, e in reply.broken])


def finish(items: Sequence[Item], durability: Durability = MEMORY) -> Plan[list[str]]:
    """Finishes items, in batches. Returns the ids that are lost."""
    lost = yield from in_batches(partial(_commands.finish, durability=durability), items)
    return (yield from finish_unseen(items, lost, durability)) if lost else lost


def finish_unseen(items: Sequence[Item], lost: Sequence[str], durability: Durability = MEMORY) -> Plan[list[str]]:
    """Of items that are not held any more, ends those whose claim a failover lost. Returns the ids of the others."""
    gone = set(lost)
    unseen = [item for item in items if item.id in gone]
    return (yield from in_batches(partial(_commands.finish_unseen, durability=durability), unseen))


def finish_lost(items: Sequence[Item], claimed: Claimed) -> Plan[int]:
    """Of what `claimed.lost` names, ends those whose claim a failover lost: where they are queued, or in `claimed`.

    In there is what this very call has just taken again. Nobody had it in between where it is the same item still and
    this is no further delivery. Takes what it has ended out of both; returns how many of the items claimed that were.
    """
    if not claimed.lost:
        return 0
    lost, before = set(claimed.lost), {item.key: (item.stamp, item.delivery) for item in items}
    again = [item for item in claimed if item.id in lost and before.get(item.key) == (item.stamp, item.delivery)]
    refused = set((yield from in_batches(_commands.finish, again))) if again else set()
    ended = {item.id for item in again} - refused
    claimed[:] = [item for item in claimed if item.id not in ended]
    rest = [item_id for item_id in claimed.lost if item_id not in ended]
    claimed.lost = tuple((yield from finish_unseen(items, rest))) if rest else ()
    return len(ended)


def in_batches(make: Callable[[Sequence[T]], Command[list[Any]]], values: Sequence[T]) -> Plan[list[Any]]:
    """One verb over many values, at most 1,000 a call."""
    results: list[Any] = []
    for start in range(0, len(values), _policy.MAX_BATCH):
        results += yield make(values[start : start + _policy.MAX_BATCH])
    return results


def fail(failures: Sequence[_commands.Failure]) -> Plan[list[tuple[Item, Failed | None]]]:
    """Fails items, in batches."""
    return (yield from in_batches(_commands.fail, failures))


def recover(limit: int) -> Plan[Recovered]:
    """Takes back up to `limit` items."""
    total = Recovered()
    while limit > 0:
        found, left = yield _commands.recover(min(limit, _policy.MAX_BATCH))
        total += found
        limit -= max(1, found.requeued + found.orphaned + found.dead + found.unreadable)
        if not left:
            break
    return total


def redrive(limit: int) -> Plan[int]:
    """Moves up to `limit` dead items back to the queue."""
    moved = 0
    while moved < limit:
        asked = min(limit - moved, _policy.MAX_BATCH)
        count: int = yield _commands.redrive(asked, _ids.new_receipt())
        moved += count
        if count < asked:
            break
    return moved


def purge(states: Sequence[ItemState]) -> Plan[int]:
    """Removes all items of some states, as they were when the purge came by."""
    removed = 0
    for state in states:
        more = True
        while more:
            count, more = yield _commands.purge(state, _policy.MAX_BATCH)
            removed += count
    return removed


def drain(queue: str, timeout: float, *, clock: Clock = time.monotonic) -> Plan[Counts]:
    """Closes the queue for new items and waits until no item wants a worker any more.

    Raises:
        DrainTimeout: the time is up. The queue stays closed for new items.
    """
    until = clock() + timeout
    yield _commands.pause(claim=False, enqueue=True)
    pause = 0.01
    while True:
        counts: Counts = (yield _commands.inspect())[0]
        if counts.waiting == 0:
            return counts
        if clock() >= until:
            left = {"queued": counts.queued, "scheduled": counts.scheduled, "in_progress": counts.in_progress}
            raise DrainTimeout(queue, left)
        yield Sleep(max(0.0, min(pause, until - clock())))
        pause = min(0.5, pause * 1.5)


def peek(session: Session, count: int) -> Plan[list[ItemInfo]]:
    """The first `count` queued items. Places of cancelled ones are passed over, so a page may have fewer."""
    found: list[ItemInfo] = []
    cursor, more = b"", True
    while more and len(found) < count:
        infos, cursor = yield from scan_page(session, ItemState.QUEUED, cursor, count if not cursor else 100)
        found += infos
        more = cursor != b""
    return found[:count]


def scan_page(session: Session, state: ItemState, cursor: bytes, limit: int) -> Plan[tuple[list[ItemInfo], bytes]]:
    """A page of items. What left the state between the two calls is left out."""
    keys, cursor = yield _commands.scan(state, cursor, limit)
    if not keys:
        return [], cursor
    infos = yield _commands.get(session, keys)
    return [info for info in infos if info is not None and info.state is state], cursor
