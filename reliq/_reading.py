"""Replies of the server, made into items and values. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reliq import _codec, _ids
from reliq._session import Reply, Session
from reliq.errors import CodecError
from reliq.item import Claimed, Item, ItemInfo, ItemState, Settings


@dataclass(frozen=True, slots=True)
class Batch:
    """Turns ids, records and histories of one claim into items."""

    session: Session
    receipt: bytes
    lease: float
    asked_at: float
    epoch: int

    def read(
        self, keys: list[bytes], records: list[bytes | None], histories: list[bytes | None]
    ) -> tuple[Claimed, list[tuple[Item, CodecError]]]:
        """The items in order, and apart from them those whose payload can't be decoded."""
        items, broken, receipt = Claimed(), [], _ids.unpack(self.receipt)
        for i, key in enumerate(keys):
            item, problem = self._item(key, records[i] or b"", histories[i] if histories else None, receipt)
            if problem is None:
                items.append(item)
            else:
                broken.append((item, problem))
        items.unreadable = tuple(item.id for item, _ in broken)
        return items, broken

    def _item(self, key: bytes, record: bytes, history: bytes | None, receipt: str) -> tuple[Item, CodecError | None]:
        item_id = _ids.unpack(key)
        claims, failures, _ = history_of(history)
        payload, headers, problem = decoded(self.session, item_id, record)
        item = Item(
            item_id,
            payload,
            headers,
            claims + 1,
            failures + 1,
            self.epoch,
            _codec.enqueued_at(record),
            receipt,
            self.session.queue,
            self.lease,
            self.asked_at + self.lease,
            key,
            self.receipt,
        )
        return item, problem


def decoded(session: Session, item_id: str, record: bytes) -> tuple[Any, dict[str, str], CodecError | None]:
    """Payload and headers of a record, or why they can't be read."""
    try:
        payload, headers = _codec.decode(
            record[_codec.STAMP :], queue=session.queue, item_id=item_id, codecs=session.codecs_by_name
        )
    except CodecError as error:
        return None, {}, error
    return payload, headers, None


def item_info(
    session: Session, key: bytes, state: bytes, record: bytes, history: bytes, error: bytes, at: bytes
) -> ItemInfo | None:
    """What `get` says of one item, None where the queue does not know it."""
    if not state:
        return None
    item_id, where = _ids.unpack(key), ItemState(state.decode())
    if where in (ItemState.FINISHED, ItemState.REMOVED):
        return ItemInfo(item_id, where, at=_codec.enqueued_at(record[1:]))
    claims, failures, expiries = history_of(history)
    payload, headers, problem = decoded(session, item_id, record)
    return ItemInfo(
        item_id,
        where,
        payload,
        headers,
        _codec.enqueued_at(record) if len(record) > _codec.STAMP else None,
        claims,
        failures,
        expiries,
        error.decode("utf-8", "replace") or None,
        float(at) / 1000 if at else None,
        str(problem) if problem else None,
        record[_codec.STAMP :],
    )


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
        max_attempts=int(found["max_attempts"]),
        max_deliveries=int(found["max_deliveries"]),
        expiry=found["expiry"].decode(),
        retry=found["retry"].decode(),
        backoff_base=int(found["backoff_base_ms"]) / 1000,
        backoff_cap=int(found["backoff_cap_ms"]) / 1000,
        finished_age=int(found["finished_age_ms"]) / 1000,
        finished_count=int(found["finished_count"]),
    )
