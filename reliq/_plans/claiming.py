"""Claiming, and waiting for something to claim."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reliq import _commands, _ids, _policy
from reliq._commands import ClaimReply
from reliq._plans.effects import Block, Clock, Plan
from reliq._plans.settling import finish_lost
from reliq._policy import Applied, Retry
from reliq._session import Session
from reliq.errors import Unavailable
from reliq.item import Claimed, Item


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
    before = session.abandoned_receipt()
    receipt = before or _ids.new_receipt()
    try:
        yield receipt
    except BaseException as error:
        if before:
            session.abandoned.insert(0, receipt)
        elif _may_have_been_applied(error):
            session.abandoned.append(receipt)
        raise


def _may_have_been_applied(error: BaseException) -> bool:
    if isinstance(error, Retry):
        return error.applied is Applied.MAYBE
    return not isinstance(error, Unavailable) or error.may_have_been_applied


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


def set_aside(reply: ClaimReply) -> Plan[None]:
    """Buries items whose payload can't be decoded: their bytes stay, a person decides."""
    if not reply.broken:
        return
    try:
        yield _commands.fail([_commands.Failure(item, f"unreadable: {e}", dead=True) for item, e in reply.broken])
    except Retry as failure:
        raise Retry(str(failure), Applied.MAYBE) from failure  # the claim was applied, whatever became of this
    except Unavailable as error:
        error.may_have_been_applied = True
        raise
