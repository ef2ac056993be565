"""Taking items under a lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reliq import _reading, _scripts
from reliq._commands.arguments import in_runs, ms
from reliq._session import Command, Reply, Session
from reliq.errors import CodecError
from reliq.item import Claimed, Item


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

    return Command(_scripts.load("claim"), (receipt, count, ms(lease), worker, wait_ms), decode)


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
    flat, runs = in_runs(items)

    def decode(reply: Reply) -> ClaimReply:
        batch = _reading.Batch(session, receipt, lease, asked_at, int(reply[1] or 0))
        claimed, broken = batch.read(*reply[3:8])
        claimed.lost = tuple(flat[i].id for i in reply[2])
        return ClaimReply(claimed, broken, bool(reply[8]), int(reply[9]))

    keys = [item.key for item in flat]
    args = (receipt, count, ms(lease), worker, wait_ms, *runs)
    return Command(_scripts.load("finish_and_claim"), args, decode, keys)
