"""Arguments of the public methods, checked once for both clients. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reliq import _plans, _policy
from reliq._policy import MAX_BATCH, Seconds
from reliq.errors import InvalidArgument
from reliq.item import Item, ItemState

DEFAULT_LEASE = 30.0
DEFAULT_TIMEOUT = 30.0
Items = Item | Iterable[Item]


def listed(items: Items) -> list[Item]:
    held = [items] if isinstance(items, Item) else list(items)
    for item in held:
        if not isinstance(item, Item):
            raise InvalidArgument(f"expected items that were claimed, not {type(item).__name__}")
    return held


def checked_ids(ids: Sequence[str]) -> Sequence[str]:
    if not 0 < len(ids) <= MAX_BATCH:
        raise InvalidArgument(f"pass 1 to {MAX_BATCH} ids, not {len(ids)}")
    return ids


def lease_length(lease: Seconds) -> float:
    return _policy.seconds(lease, "lease", low=0.001, high=_policy.MAX_LEASE)


def claim_request(count: int, lease: Seconds, wait: Seconds) -> _plans.ClaimRequest:
    return _plans.ClaimRequest(
        _policy.whole(count, "count", low=1, high=MAX_BATCH),
        lease_length(lease),
        _policy.seconds(wait, "wait", low=0, high=86400.0),
    )


def extend(items: Iterable[Item], lost: Iterable[str], expires: float) -> None:
    gone = set(lost)
    for item in items:
        if item.id not in gone:
            item.expires = max(item.expires, expires)


def error_text(error: BaseException | str) -> str:
    return error if isinstance(error, str) else f"{type(error).__name__}: {error}"


_PURGEABLE = (ItemState.QUEUED, ItemState.SCHEDULED, ItemState.ORPHANED, ItemState.DEAD)


def purgeable(states: Sequence[ItemState | str]) -> list[ItemState]:
    allowed = (*_PURGEABLE, ItemState.FINISHED)
    return [ItemState(_policy.one_of(state, "state", allowed)) for state in states] or list(_PURGEABLE)


def live_state(state: ItemState | str) -> ItemState:
    return ItemState(_policy.one_of(state, "state", (*_PURGEABLE, ItemState.IN_PROGRESS)))
