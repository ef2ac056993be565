"""Many callers of one queue at the same time: threads of a Queue, or tasks of an AsyncQueue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from reliq import AsyncQueue, Queue, _coalesce, _coalesce_async

Call = tuple[str, tuple[Any, ...], dict[str, Any]]  # a verb of the queue, and its arguments


def call(verb: str, *args: Any, **options: Any) -> Call:
    return verb, args, options


class Threads:
    """Callers that are threads, all of them ready before the first one calls."""

    at_once = _coalesce.AT_ONCE

    def __init__(self, *args: Any, **options: Any) -> None:
        self.queue = Queue(*args, **options)

    def all(self, callers: Sequence[Sequence[Call]]) -> list[list[Any]]:
        """Each caller makes its calls one by one. Returns what they returned or raised."""
        ready = threading.Barrier(len(callers))

        def one(calls: Sequence[Call]) -> list[Any]:
            ready.wait()
            return [self._outcome(each) for each in calls]

        with ThreadPoolExecutor(len(callers)) as pool:
            return list(pool.map(one, callers))

    def _outcome(self, each: Call) -> Any:
        verb, args, options = each
        try:
            return getattr(self.queue, verb)(*args, **options)
        except Exception as error:  # noqa: BLE001  an outcome like any other
            return error

    def close(self) -> None:
        self.queue.close()


class Tasks:
    """Callers that are tasks of one event loop."""

    at_once = _coalesce_async.AT_ONCE

    def __init__(self, *args: Any, **options: Any) -> None:
        self.queue = AsyncQueue(*args, **options)
        self._runner = asyncio.Runner()

    def all(self, callers: Sequence[Sequence[Call]]) -> list[list[Any]]:
        """Each caller makes its calls one by one. Returns what they returned or raised."""

        async def main() -> list[list[Any]]:
            outcomes = await asyncio.gather(*map(self._one, callers))
            assert asyncio.all_tasks() == {asyncio.current_task()}, "no task outlives the calls"
            return outcomes

        return self._runner.run(main())

    async def _one(self, calls: Sequence[Call]) -> list[Any]:
        outcomes: list[Any] = []
        for verb, args, options in calls:
            outcomes += await asyncio.gather(getattr(self.queue, verb)(*args, **options), return_exceptions=True)
        return outcomes

    def close(self) -> None:
        self._runner.run(self.queue.close())
        self._runner.close()


Crowd = Threads | Tasks
OpenCrowd = Callable[..., Crowd]


@pytest.fixture(params=[Threads, Tasks])
def open_crowd(request: pytest.FixtureRequest) -> Iterator[OpenCrowd]:
    """Opens a queue on a URL for a crowd."""
    opened: list[Crowd] = []

    def open_one(url: str, **options: Any) -> Crowd:
        opened.append(request.param("q", url, **options))
        return opened[-1]

    yield open_one
    for crowd in opened:
        crowd.close()


@pytest.fixture
def evidence(redis_client: redis.Redis) -> Iterator[None]:
    """After the test: no item in two places or none, no counter that counts wrong."""
    from contract.evidence import check_server  # not before the conftest of that folder has had it prepared

    yield
    check_server(redis_client)


def first_of(outcomes: list[list[Any]]) -> list[Any]:
    """Of callers that made one call each."""
    return [outcome for (outcome,) in outcomes]


def calls_of_scripts(client: redis.Redis) -> int:
    """Scripts that the server has run since `redis_client` was made or its statistics were reset."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])
