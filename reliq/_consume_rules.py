"""How a queue is consumed, checked, and what the answers to an error mean. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reliq import _policy
from reliq._policy import Seconds
from reliq.answers import Answer, Discard, Release
from reliq.errors import InvalidArgument

OnError = str | Callable[[Any, Exception], object]
Decision = Answer | Exception | str
WORDS = ("fail", "release", "discard", "raise")


@dataclass(frozen=True, slots=True)
class Rules:
    """The options of `consume`, which has the meaning of each. Durations are seconds."""

    chunk: int = 1
    process_all: bool = False
    pause: float = 0.0
    max_items: int | None = None
    max_seconds: float | None = None
    return_when_empty: bool = False
    on_error: OnError = "fail"
    lease: float = 30.0


def rules_of(
    handler: object,
    *,
    chunk: int,
    process_all: bool,
    pause: Seconds,
    max_items: int | None,
    max_seconds: Seconds | None,
    return_when_empty: bool,
    on_error: OnError,
    lease: Seconds,
) -> Rules:
    """Options as they were given, checked.

    Raises:
        InvalidArgument.
    """
    _check_handler(handler, process_all, on_error)
    return Rules(
        _policy.whole(chunk, "chunk", low=1, high=_policy.MAX_BATCH),
        process_all,
        _policy.seconds(pause, "pause", low=0, high=86400.0),
        None if max_items is None else _policy.whole(max_items, "max_items", low=0, high=2**53),
        None if max_seconds is None else _policy.seconds(max_seconds, "max_seconds", low=0, high=_policy.MAX_DELAY),
        return_when_empty,
        on_error,
        _policy.seconds(lease, "lease", low=0.001, high=_policy.MAX_LEASE),
    )


def _check_handler(handler: object, process_all: bool, on_error: OnError) -> None:
    if handler is None and (process_all or on_error != "fail"):
        raise InvalidArgument("process_all and on_error are for a handler; a loop gets one item at a time")
    if handler is not None and not callable(handler):
        raise InvalidArgument(f"a handler is called with items; {handler!r} can't be called")
    if not callable(on_error):
        _policy.one_of(on_error, "on_error", WORDS)


def decision_of(word: object, error: Exception) -> Decision:
    """What becomes of an item by an answer to its error: `error` itself where it is to fail."""
    if isinstance(word, Answer):
        return word
    if word == "release":
        return Release()
    return Discard(f"{type(error).__name__}: {error}") if word == "discard" else error
