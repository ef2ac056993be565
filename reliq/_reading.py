"""Replies of the server, made into items and values. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reliq import _codec, _ids
from reliq._codec import STAMP
from reliq._session import Reply, Session
from reliq.errors import CodecError
from reliq.info import WORKER_FACTS, ItemInfo, Settings, WorkerInfo
from reliq.item import Claimed, Item, Lease, Progress
from reliq.states import ItemState


@dataclass(frozen=True, slots=True)
class Batch:
    """Turns ids, records and histories of one claim into items."""

    session: Session
    receipt: bytes
    lease: float
    asked_at: float
    epoch: int

    def read(
        self,
        keys: list[bytes],
        records: list[bytes | None],
        histories: list[bytes | None],
        groups: list[bytes | None],
        checkpoints: list[bytes | None],
    ) -> tuple[Claimed, list[tuple[Item, CodecError]]]:
        """The items in order, and apart from them those whose payload can't be decoded."""
        session, items, broken = self.session, Claimed(), []
        lease = self._lease()
        for i, key in enumerate(keys):
            record = records[i] or b""
            payload, headers, problem = decoded(session, key, record)
            item = Item(lease, key, payload, headers, record[:STAMP], histories[i] if histories else None)
            if groups and (group := groups[i]):
                item.group = group.decode()
            if checkpoints and (stored := checkpoints[i]):
                item.progress = progress_of(stored)
            if problem is None:
                items.append(item)
            else:
                broken.append((item, problem))
        if broken:
            items.unreadable = tuple(item.id for item, _ in broken)
        return items, broken

    def _lease(self) -> Lease:
        lease = held_under(self.session.queue, self.receipt)
        lease.seconds, lease.expires = self.lease, self.asked_at + self.lease
        lease.epoch, lease.owner = self.epoch, self.session.owner
        return lease


def held_under(queue: str, proof: bytes) -> Lease:
    """The lease with this receipt, of which nothing else is known."""
    return Lease(queue, proof, 0.0, 0.0, 0, None, _ids.unpack, _codec.enqueued_at)


def decoded(session: Session, key: bytes, record: bytes) -> tuple[Any, dict[str, str], CodecError | None]:
    """Payload and headers of a record, or why they can't be read."""
    body = record[STAMP:]
    headers: dict[str, str] = {}
    try:
        if _codec.is_short(body):
            payload = _codec.unpack_payload(body)
        else:
            payload, headers = _codec.decode(
                body, queue=session.queue, item_id=_ids.unpack(key), codecs=session.codecs_by_name
            )
        if session.payload_type is not None:
            payload = session.payload_type.decode(payload)
    except CodecError as error:
        return None, {}, error
    return payload, headers, None


def item_info(
    session: Session,
    key: bytes,
    state: bytes,
    record: bytes,
    history: bytes,
    error: bytes,
    at: bytes,
    group: bytes,
    checkpoint: bytes,
    batch: bytes,
) -> ItemInfo | None:
    """What `get` says of one item, None where the queue does not know it."""
    if not state:
        return None
    item_id, where = _ids.unpack(key), ItemState(state.decode())
    if where in (ItemState.FINISHED, ItemState.REMOVED):
        return _ended(item_id, where, record)
    claims, failures, expiries = history_of(history)
    payload, headers, problem = decoded(session, key, record)
    return ItemInfo(
        item_id,
        where,
        payload,
        headers,
        _codec.enqueued_at(record) if len(record) > STAMP else None,
        claims,
        failures,
        expiries,
        error.decode("utf-8", "replace") or None,
        float(at) / 1000 if at else None,
        str(problem) if problem else None,
        record[STAMP:],
        group.decode() or None,
        progress_of(checkpoint) if checkpoint else None,
        batch=_ids.unpack(batch) if batch else None,
    )


def _ended(item_id: str, state: ItemState, marker: bytes) -> ItemInfo:
    """What is left of an item that has ended: see `_end.lua`."""
    words = marker[9 + marker[8] :] if marker[7:8] in (b"F", b"P", b"R") else b""
    at = _codec.enqueued_at(marker[1:])
    if state is ItemState.REMOVED:
        return ItemInfo(item_id, state, at=at, error=words.decode("utf-8", "replace") or None)
    return ItemInfo(item_id, state, at=at, result=_codec.unpack_payload(words) if words else None)


def progress_of(stored: bytes) -> Progress:
    """A checkpoint, from what lua/checkpoint.lua wrote: time in ms, a space, what `pack_progress` packed."""
    at, _, packed = stored.partition(b" ")
    state, done, total, note = _codec.unpack_payload(packed)
    return Progress(state, done, total, note, int(at) / 1000)


def worker_info(name: bytes, now_ms: int, seen_ms: int, facts: bytes, *, sweeps: bool) -> WorkerInfo:
    """A worker, from what it said of itself."""
    told = _codec.unpack_payload(facts) if facts else {}
    known = {key: told[key] for key in WORKER_FACTS if key in told}
    return WorkerInfo(name.decode(), seen_at=seen_ms / 1000, age=(now_ms - seen_ms) / 1000, sweeps=sweeps, **known)


def history_of(value: bytes | None) -> tuple[int, int, int]:
    """Claims that ended, failures and expiries, from what lua/_history.lua wrote."""
    if not value:
        return 0, 0, 0
    _, claims, failures, expiries, _ = value.split(b" ", 4)
    return int(claims), int(failures), int(expiries)


def pairs(flat: Reply) -> dict[str, Any]:
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def settings_of(flat: Reply) -> Settings:
    found = pairs(flat)
    return Settings(
        max_length=int(found["max_length"]),
        max_bytes=int(found["max_bytes"]),
        max_in_progress=int(found["max_in_progress"]),
        rate=float(found["rate"]),
        rate_burst=int(found["rate_burst"]),
        group_limit=int(found["group_limit"]),
        max_attempts=int(found["max_attempts"]),
        max_deliveries=int(found["max_deliveries"]),
        expiry=found["expiry"].decode(),
        retry=found["retry"].decode(),
        backoff_base=int(found["backoff_base_ms"]) / 1000,
        backoff_cap=int(found["backoff_cap_ms"]) / 1000,
        finished_age=int(found["finished_age_ms"]) / 1000,
        finished_count=int(found["finished_count"]),
    )
