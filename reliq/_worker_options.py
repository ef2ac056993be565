"""What a worker is told, checked once for both kinds. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reliq import _arguments, _handlers, _policy
from reliq._handlers import Policies, Policy
from reliq._policy import Seconds
from reliq.errors import InvalidArgument
from reliq.info import ItemInfo
from reliq.item import Item

Handler = Callable[[Item], object]
Resolve = Callable[[ItemInfo], str | None]
LONGEST = 10 * 365 * 86400.0


class Vitals(Protocol):
    """What a worker tells those who ask whether it is well."""

    def turned(self) -> None:
        """Its loop went round."""

    def claimed(self) -> None:
        """It got items, or saw that there are none."""

    def holding(self, count: int, busy: int) -> None:
        """It holds so many items, and so many of its handlers run."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about a worker but its queues. `weights` is None for strict priority."""

    lease: float
    concurrency: int
    prefetch: int | None
    weights: tuple[int, ...] | None
    results: bool
    policies: Mapping[type[BaseException], Policy]
    time_limit: float | None
    cancel_on_lost: bool
    shutdown_timeout: float | None
    max_items: int | None
    max_seconds: float | None
    return_when_empty: bool


def options(
    queues: Sequence[Any],
    *,
    lease: Seconds,
    concurrency: int,
    prefetch: int | None,
    order: str,
    weights: Mapping[Any, int] | None,
    results: bool,
    on_error: Policies | None,
    time_limit: Seconds | None,
    cancel_on_lost: bool,
    shutdown_timeout: Seconds | None,
    max_items: int | None,
    max_seconds: Seconds | None,
    return_when_empty: bool,
) -> Options:
    """Checks the options of a worker.

    Raises:
        InvalidArgument: one of them is out of its range.
    """
    _policy.one_of(order, "order", ("priority",))
    return Options(
        _arguments.lease_length(lease),
        _policy.whole(concurrency, "concurrency", low=1, high=1000),
        None if prefetch is None else _policy.whole(prefetch, "prefetch", low=0, high=1000),
        None if weights is None else _weights(queues, weights),
        results,
        _handlers.checked_policies(on_error),
        None if time_limit is None else _policy.seconds(time_limit, "time_limit", low=0.01, high=LONGEST),
        cancel_on_lost,
        None if shutdown_timeout is None else _policy.seconds(shutdown_timeout, "shutdown_timeout", low=0, high=86400),
        None if max_items is None else _policy.whole(max_items, "max_items", low=1, high=2**53),
        None if max_seconds is None else _policy.seconds(max_seconds, "max_seconds", low=0, high=LONGEST),
        return_when_empty,
    )


def _weights(queues: Sequence[Any], weights: Mapping[Any, int]) -> tuple[int, ...]:
    if set(weights) != set(queues):
        raise InvalidArgument("weights= has a weight for each queue of the worker, and for no other")
    return tuple(_policy.whole(weights[queue], "a weight", low=1, high=1000) for queue in queues)


def routes(source: Any, handler: Handler | None, kind: type[Any]) -> list[tuple[Any, Handler]]:
    """Queues, first those that come first, and the handler of each.

    Raises:
        InvalidArgument: not queues of that kind, on one server, with different names, and a handler for each.
    """
    pairs = _pairs(source, handler)
    for queue, handle in pairs:
        if not isinstance(queue, kind):
            raise InvalidArgument(f"this worker takes items from a {kind.__name__}, not from {type(queue).__name__}")
        if not callable(handle):
            raise InvalidArgument(f"a handler is called with each item; {handle!r} can't be called")
    names = [queue.name for queue, _ in pairs]
    if not names or len(set(names)) < len(names):
        raise InvalidArgument(f"a worker has one queue or several of different names, not {names}")
    if len({_place(queue) for queue, _ in pairs}) > 1:
        raise InvalidArgument(f"the queues {', '.join(names)} have not one URL: a worker waits for all in one call")
    return pairs


def _pairs(source: Any, handler: Any) -> list[tuple[Any, Any]]:
    if isinstance(source, Mapping):
        if handler is not None:
            raise InvalidArgument("pass a handler with each queue, or one for all queues, not both")
        return list(source.items())
    return [(queue, handler) for queue in (source if isinstance(source, list | tuple) else [source])]


def _place(queue: Any) -> object:
    """Where a queue's server is: its URL, or the address in the client that it was made with."""
    connector = queue._driver._connector
    if connector._url:
        return connector._url
    options = connector._pool.connection_kwargs
    return tuple(options.get(name) for name in ("host", "port", "path", "db"))


@dataclass(frozen=True, slots=True)
class Extras:
    """What stands beside a worker."""

    renewals: Any
    health: Vitals | None
    resolve: Resolve | None
    processes: int
    kind: str = ""  # what this worker says that it is, where that is not plain

    def renewed(self) -> None:
        """Leases were renewed."""
        if self.health is not None and hasattr(self.health, "renewed"):  # one of the user's may know nothing of that
            self.health.renewed()


def extras(renewals: str, health: Vitals | None, resolve: Resolve | None, processes: int) -> Extras:
    """Checks what stands beside a worker.

    Raises:
        InvalidArgument: one of them is not what it should be.
    """
    _policy.one_of(renewals, "renewals", ("thread", "process"))
    if resolve is not None and not callable(resolve):
        raise InvalidArgument(f"resolve is called with each orphaned item; {resolve!r} can't be called")
    return Extras(renewals, health, resolve, _policy.whole(processes, "processes", low=1, high=1000))
