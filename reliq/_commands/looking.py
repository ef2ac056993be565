"""Looking at a queue and its items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reliq import _reading, _scripts
from reliq._commands.arguments import ms
from reliq._session import Command, Reply, Session
from reliq.info import BatchProgress, Counts, ItemInfo, Settings
from reliq.states import ItemState


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


def batch_progress(key: bytes) -> Command[BatchProgress | None]:
    """How far a batch is, None where it is through or was never begun."""

    def decode(reply: Reply) -> BatchProgress | None:
        return None if int(reply[2]) < 0 else BatchProgress(int(reply[2]), int(reply[3]))

    return Command(_scripts.load("batch_progress"), (key,), decode)


def watch(key: bytes, wait: float) -> Command[ItemState | None]:
    """The state of an item, and where it is not at an end, that somebody listens for this many seconds."""

    def decode(reply: Reply) -> ItemState | None:
        return ItemState(reply[2].decode()) if reply[2] else None

    return Command(_scripts.load("watch"), (key, ms(wait)), decode, (key,))
