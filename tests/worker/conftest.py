from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from contract.evidence import check_server
from servers import wait_until

from reliq import AsyncQueue, Item, Queue, Worker
from reliq._coroutines import is_coroutine_function
from reliq._ledger import WorkerReport
from reliq.embedded import Server
from reliq.worker_async import AsyncWorker

Start = Callable[[Worker], "Future[WorkerReport]"]
Handler = Callable[[Item], object]
LEASE = 0.6  # seconds: short enough to see it end, long enough for a busy machine


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    """A queue of the session's server whose failed items come back at once; checked at the end."""
    with Queue("q", server.socket_url) as made:
        made.configure(retry="tail", max_attempts=3)
        yield made
    check_server(redis_client)


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs workers in threads; they are stopped and waited for at the end of the test."""
    with ThreadPoolExecutor(8) as pool, ExitStack() as stops:

        def start_one(worker: Worker) -> Future[WorkerReport]:
            stops.callback(worker.stop)
            return pool.submit(worker.run)

        yield start_one


@dataclass
class Running:
    """A worker at work, of either kind."""

    worker: Any
    result: Future[WorkerReport]

    def stop(self) -> None:
        self.worker.stop()

    def report(self, timeout: float = 20) -> WorkerReport:
        return self.result.result(timeout)


@dataclass
class Workers:
    """Starts workers of one kind: `threads`; `tasks`, which call plain functions in threads; `coroutines`, tasks that
    are given coroutine functions. The names of queues stand for queues.
    """

    kind: str
    url: str
    _pool: ThreadPoolExecutor
    _stops: ExitStack
    queues: list[Any] = field(default_factory=list)

    def start(self, handler: Any, *, names: tuple[str, ...] = ("q",), url: str = "", **options: Any) -> Running:
        """Starts a worker; it is stopped at the end of the test. `handler`: a function, or one for each queue."""
        queue_options = {"timeout": options.pop("timeout", 30.0)}
        run = self._run_threads if self.kind == "threads" else self._run_tasks
        made: Future[Any] = Future()
        result = self._pool.submit(run, made, names, url or self.url, queue_options, handler, options)
        wait_until(lambda: made.done() or result.done(), "the worker is there")
        if result.done() and not made.done():
            result.result()
        self._stops.callback(made.result().stop)
        return Running(made.result(), result)

    def run(self, handler: Any, **options: Any) -> WorkerReport:
        """Runs a worker to its end."""
        return self.start(handler, **options).report()

    def _run_threads(
        self, made: Future[Any], names: tuple[str, ...], url: str, settings: Any, handler: Any, options: dict[str, Any]
    ) -> WorkerReport:
        with ExitStack() as stack:
            queues = {name: stack.enter_context(Queue(name, url, **settings)) for name in names}
            worker = Worker(*_arguments(queues, handler, options), **options)
            made.set_result(worker)
            return worker.run()

    def _run_tasks(
        self, made: Future[Any], names: tuple[str, ...], url: str, settings: Any, handler: Any, options: dict[str, Any]
    ) -> WorkerReport:
        async def main() -> WorkerReport:
            async with AsyncExitStack() as stack:
                queues = {name: await stack.enter_async_context(AsyncQueue(name, url, **settings)) for name in names}
                worker = AsyncWorker(*_arguments(queues, self._adapted(handler), options), **options)
                made.set_result(worker)
                return await worker.run()

        return asyncio.run(main())

    def _adapted(self, handler: Any) -> Any:
        if isinstance(handler, Mapping):
            return {name: self._adapted(one) for name, one in handler.items()}
        if self.kind == "tasks" or is_coroutine_function(handler):
            return handler
        return coroutine_of(handler)


def coroutine_of(handler: Handler) -> Handler:
    """A coroutine function that does what a plain one does."""

    async def handle(item: Item) -> object:
        return await asyncio.to_thread(handler, item)

    return handle


def _arguments(queues: dict[str, Any], handler: Any, options: dict[str, Any]) -> tuple[Any, ...]:
    if "weights" in options:
        options["weights"] = {queues[name]: weight for name, weight in options["weights"].items()}
    if isinstance(handler, Mapping):
        return ({queues[name]: one for name, one in handler.items()},)
    return (list(queues.values()) if len(queues) > 1 else next(iter(queues.values())), handler)


@pytest.fixture(params=["threads", "tasks", "coroutines"])
def workers(request: pytest.FixtureRequest, server: Server) -> Iterator[Workers]:
    """Workers of each kind in turn."""
    with ThreadPoolExecutor(8) as pool, ExitStack() as stops:
        yield Workers(request.param, server.socket_url, pool, stops)


class Held:
    """A handler that says which items it has begun, and holds each until it is let go."""

    def __init__(self, *, only: Callable[[Item], bool] = lambda _: True) -> None:
        self.begun: list[Any] = []
        self.items: list[Item] = []
        self._only = only
        self._go = threading.Event()

    def __call__(self, item: Item) -> None:
        self.begun.append(item.payload)
        self.items.append(item)
        if self._only(item):
            assert self._go.wait(30)

    def let_go(self) -> None:
        self._go.set()

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.begun) >= count, f"{count} items have been begun")


@pytest.fixture
def held() -> Iterator[Held]:
    """A handler that holds its items until the end of the test."""
    handler = Held()
    yield handler
    handler.let_go()


def take_away(queue: Queue, item_id: str) -> None:
    """Recovers a live lease as if its end had come, and claims the item for somebody else."""
    with Queue(queue.name, client=redis.Redis(unix_socket_path=str(queue._driver._take().path))) as other:
        now = redis.Redis(unix_socket_path=str(queue._driver._take().path)).time()[0]
        other._session.now_ms = b"%d" % ((now + 86000) * 1000)
        assert [item.id for item in other.claim(lease=3600)] == [item_id]
