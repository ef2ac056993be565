"""One command again and again, or one verb over many values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from reliq import _ids, _policy
from reliq._plans.effects import Clock, Plan, Sleep
from reliq._policy import Applied, Retry
from reliq._session import Command
from reliq.errors import Unavailable

T = TypeVar("T")


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


def in_batches(make: Callable[[Sequence[T]], Command[list[Any]]], values: Sequence[T]) -> Plan[list[Any]]:
    """One verb over many values, at most 1,000 a call."""
    results: list[Any] = []
    for start in range(0, len(values), _policy.MAX_BATCH):
        results += yield make(values[start : start + _policy.MAX_BATCH])
    return results
