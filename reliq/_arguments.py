"""Arguments of the public methods, checked once for both clients. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from reliq import _codec, _commands, _durability, _ids, _plans, _policy, answers
from reliq._durability import Durability
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import InvalidArgument
from reliq.item import Item, New, Progress
from reliq.states import ItemState

DEFAULT_LEASE = 30.0
DEFAULT_TIMEOUT = 30.0
Items = Item | Iterable[Item]


def listed(items: Items) -> list[Item]:
    held = [items] if isinstance(items, Item) else list(items)
    for item in held:
        if not isinstance(item, Item):
            raise InvalidArgument(f"expected items that were claimed, not {type(item).__name__}")
    return held


def only(items: Sequence[Item]) -> Item:
    if len(items) != 1 or not isinstance(items[0], Item):
        raise InvalidArgument(f"this goes with one item that was claimed, not with {len(items)}")
    return items[0]


def checked_ids(ids: Sequence[str]) -> Sequence[str]:
    if not 0 < len(ids) <= MAX_BATCH:
        raise InvalidArgument(f"pass 1 to {MAX_BATCH} ids, not {len(ids)}")
    return ids


def lease_length(lease: Seconds) -> float:
    return _policy.seconds(lease, "lease", low=0.001, high=_policy.MAX_LEASE)


def patience(wait: Seconds) -> float:
    return 0.0 if wait == 0 else _policy.seconds(wait, "wait", low=0, high=86400.0)


def durability(value: object, default: Durability, *, mirrored: bool) -> Durability:
    """The level of one call: its own, or that of its queue.

    Raises:
        InvalidArgument: there is no such level, or `checkpointed` without a mirror.
    """
    level = default if value is None else _durability.parse(value)
    if level.level == "checkpointed" and not mirrored:
        raise InvalidArgument('durability="checkpointed" needs a queue with mirror=')
    return level


def batching(value: object, default: Durability) -> Durability:
    """As `durability`, for a batch: its counting is Redis's, so no row can be committed before it.

    Raises:
        InvalidArgument: there is no such level; or it is `checkpointed`, the queue's own too: that would be weaker than
            what was asked for.
    """
    level = default if value is None else _durability.parse(value)
    if level.level == "checkpointed":
        raise InvalidArgument(
            'a batch can\'t be "checkpointed": pass durability="replicated:all", or another level, to batch; or enqueue'
            " its items one by one or with enqueue_many, without an item that follows them"
        )
    return level


def finishing(value: object, default: Durability) -> Durability:
    """As `durability`, for a finish: that is in Postgres when the follower has met it, and never before."""
    level = default if value is None else _durability.parse(value)
    if value is not None and level.level == "checkpointed":
        raise InvalidArgument('a finish can\'t be "checkpointed": see finish_in for effects that commit with it')
    return _durability.MEMORY if level.level == "checkpointed" else level


def claim_request(count: int, lease: Seconds, wait: Seconds) -> _plans.ClaimRequest:
    return _plans.ClaimRequest(
        _policy.whole(count, "count", low=1, high=MAX_BATCH),
        lease_length(lease),
        patience(wait),
    )


def extend(items: Iterable[Item], lost: Iterable[str], expires: float) -> None:
    gone = set(lost)
    for item in items:
        if item.id not in gone:
            item.expires = max(item.expires, expires)


MAX_RESULT = 64 * 1024  # bytes of a result or a checkpoint: a payload of its own belongs into an item of its own
MAX_NOTE = 200
NOTHING = object()  # no result, where None is one


def packed_result(result: object) -> bytes:
    """A result as it is kept with the finished id; b"" for none.

    Raises:
        PayloadError: it can't be carried, or is over 64 KiB.
    """
    return b"" if result is NOTHING else _codec.sized(_codec.pack_payload(result), MAX_RESULT)


def packed_progress(progress: Progress) -> bytes:
    """A checkpoint as it is kept with the item.

    Raises:
        PayloadError: the state can't be carried, or is over 64 KiB.
        InvalidArgument: the note is too long, or a figure is no number.
    """
    note: object = progress.note
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        raise InvalidArgument(f"a note is text of {MAX_NOTE} characters at most")
    for name, figure in (("done", progress.done), ("total", progress.total)):
        if figure is not None:
            _policy.number(figure, name, low=-1e300, high=1e300)
    packed = _codec.pack_payload([progress.state, progress.done, progress.total, progress.note])
    return _codec.sized(packed, MAX_RESULT)


def following(session: Session, then: object) -> list[_commands.Body]:
    """The items that come next, ready to be sent.

    Raises:
        InvalidArgument: not a `New` or a list of at most 1,000 of them.
    """
    news: list[Any] = [then] if isinstance(then, New) else list(then) if isinstance(then, Iterable) else [then]
    if len(news) > MAX_BATCH or not all(isinstance(new, New) for new in news):
        raise InvalidArgument(f"then= takes a reliq.New, or a list of at most {MAX_BATCH} of them")
    fresh = _ids.stream_of_keys()
    bodies = [_plans.body_of(session, new, fresh) for new in news]
    return list({body.key: body for body in reversed(bodies)}.values())[::-1]


def batch_spec(session: Session, batch_id: str | None, when: str, then: New) -> _commands.BatchSpec:
    """A batch, whose following item has an id of its own making: the same each time for the same batch."""
    key = _ids.new_key() if batch_id is None else _ids.pack(_ids.check(batch_id, "a batch's id"))
    if not isinstance(then, New):
        raise InvalidArgument("then= takes a reliq.New")
    follower = hashlib.sha256(b"then " + key).digest()[:16]
    body = _plans.body_of(session, then, iter([follower]))
    return _commands.BatchSpec(key, _policy.one_of(when, "when", ("finished", "settled")), body)


def failure(item: Item, error: object) -> _commands.Failure:
    """What an error or an answer of a handler means for an item.

    Raises:
        InvalidArgument: an answer that is none of Retry and Discard.
    """
    match error:
        case answers.Retry():
            after = error.after
            wait = None if after is None else _policy.seconds(after, "after", low=0, high=_policy.MAX_DELAY)
            return _commands.Failure(item, error.reason, wait)
        case answers.Discard():
            return _commands.Failure(item, error.reason, discard=True)
        case answers.Answer():
            raise InvalidArgument(f"{type(error).__name__} is no way to fail an item")
        case BaseException() | str():
            return _commands.Failure(item, error_text(error))
    raise InvalidArgument(f"an error is an exception or text, not {type(error).__name__}")


def mark_settled(items: Iterable[Item]) -> None:
    for item in items:
        item.settled = True


def error_text(error: BaseException | str) -> str:
    return error if isinstance(error, str) else f"{type(error).__name__}: {error}"


_PURGEABLE = (ItemState.QUEUED, ItemState.SCHEDULED, ItemState.ORPHANED, ItemState.DEAD)


def purgeable(states: Sequence[ItemState | str]) -> list[ItemState]:
    allowed = (*_PURGEABLE, ItemState.FINISHED)
    return [ItemState(_policy.one_of(state, "state", allowed)) for state in states] or list(_PURGEABLE)


def live_state(state: ItemState | str) -> ItemState:
    return ItemState(_policy.one_of(state, "state", (*_PURGEABLE, ItemState.IN_PROGRESS)))
