"""How a worker comes to its end, and what is left then."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from servers import wait_until
from worker.conftest import Held, Workers

from reliq import AsyncQueue, Item, Queue, Worker
from reliq._ledger import WorkerReport
from reliq.embedded import Server
from reliq.worker_async import AsyncWorker


def test_stop_of_an_idle_worker(queue: Queue, redis_client: redis.Redis, workers: Workers) -> None:
    """A worker that waits ends at once, not at the end of its wait."""
    running = workers.start(lambda _: None)
    wait_until(lambda: redis_client.info("clients")["blocked_clients"], "the worker waits")
    asked = time.monotonic()
    running.stop()
    assert running.report() == WorkerReport()
    assert time.monotonic() - asked < 1.0
    wait_until(lambda: not redis_client.info("clients")["blocked_clients"], "its wait is over")


def test_stop_gives_back_what_was_not_started(queue: Queue, workers: Workers, held: Held) -> None:
    """At once, while a handler still runs: in order, without an attempt; the handler then ends and is finished."""
    queue.enqueue_many(range(10))
    running = workers.start(held, prefetch=5)
    held.wait_for(1)
    wait_until(lambda: queue.counts().in_progress == 6, "the worker holds items ahead")
    running.stop()
    wait_until(lambda: queue.counts().in_progress == 1, "they are given back while the handler runs")
    assert not running.result.done()
    held.let_go()
    assert running.report() == WorkerReport(finished=1, released=5)
    items = queue.claim(10)
    assert [item.payload for item in items] == list(range(1, 10))
    assert {item.attempt for item in items} == {1}
    queue.release(items)


def test_stop_leaves_no_thread(queue: Queue, workers: Workers) -> None:
    """When run() is over no thread of the worker is left."""
    queue.enqueue_many(range(10))
    workers.run(lambda _: None, concurrency=3, max_items=10, time_limit=30)
    mine = ("reliq-handler", "reliq-bell", "reliq-limits", "reliq-renew")
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith(mine)], "its threads have ended")


def test_shutdown_timeout(queue: Queue, workers: Workers, held: Held) -> None:
    """A handler that does not end is not waited for any longer than that: its item is named, and left to its lease."""
    queue.enqueue("stuck", id="stuck")
    queue.enqueue("next", id="next")
    running = workers.start(held, shutdown_timeout=0.3, prefetch=1)
    held.wait_for(1)
    wait_until(lambda: queue.counts().in_progress == 2, "the worker holds the next one as well")
    running.stop()
    wait_until(lambda: queue.counts().in_progress == 1, "the next one is given back")
    wait_until(lambda: running.worker._running is None, "the worker ends")
    held.let_go()  # only now: asyncio.run waits for threads that coroutines have begun
    assert running.report() == WorkerReport(released=1, abandoned=("stuck",))
    assert queue.get("stuck").state == "in_progress"


def signalled(act: Callable[[], object]) -> threading.Thread:
    """Does something in a thread while the main thread works."""
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_second_signal(kind: str, queue: Queue, server: Server, held: Held) -> None:
    """The first one waits for the handlers that run, the second one does not."""
    queue.enqueue("stuck", id="stuck")

    made: list[Any] = []

    def act() -> None:
        held.wait_for(1)
        running = made[0]._running
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: running.turns.stopping, "the first one was heard")
        os.kill(os.getpid(), signal.SIGTERM)

    async def in_tasks() -> WorkerReport:
        async with AsyncQueue("q", server.socket_url) as ours:
            made.append(AsyncWorker(ours, held))
            report: WorkerReport = await made[0].run()
            return report

    def in_threads() -> WorkerReport:
        made.append(Worker(queue, held))
        report: WorkerReport = made[0].run()
        return report

    acting = signalled(act)
    report = in_threads() if kind == "threads" else asyncio.run(in_tasks())
    acting.join()
    assert report == WorkerReport(abandoned=("stuck",))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_handler_that_wants_the_process_to_end(kind: type[BaseException], queue: Queue) -> None:
    """Its attempt has failed, the others go back, and then run() raises what the handler raised."""
    queue.enqueue_many(range(5))

    def handle(item: Item) -> None:
        raise kind

    worker = Worker(queue, handle, prefetch=4)
    with pytest.raises(kind):
        worker.run()
    counts = queue.counts()
    assert (counts.in_progress, counts.queued) == (0, 5)
    items = queue.claim(5)
    assert [item.payload for item in items] == [1, 2, 3, 4, 0]
    assert [item.attempt for item in items] == [1, 1, 1, 1, 2]
    queue.release(items)


def test_coroutine_that_wants_the_process_to_end(queue: Queue, server: Server) -> None:
    """The same in tasks: everything is settled before SystemExit goes on."""
    queue.enqueue_many(range(5))

    async def handle(item: Item) -> None:
        raise SystemExit(3)

    async def main() -> None:
        async with AsyncQueue("q", server.socket_url) as ours:
            await AsyncWorker(ours, handle, prefetch=4).run()

    with pytest.raises(SystemExit) as raised:
        asyncio.run(main())
    assert raised.value.code == 3
    assert queue.counts().in_progress == 0


def test_ctrl_c_without_signal_handlers(queue: Queue, held: Held) -> None:
    """With signals=False Ctrl-C is Python's: the handler that runs ends, the rest goes back, and it is raised."""
    queue.enqueue_many(range(5))

    def act() -> None:
        held.wait_for(1)
        wait_until(lambda: queue.counts().in_progress == 4, "it holds items ahead")
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: queue.counts().in_progress == 1, "they are given back")
        held.let_go()

    acting = signalled(act)
    with pytest.raises(KeyboardInterrupt):
        Worker(queue, held, prefetch=3).run(signals=False)
    acting.join()
    counts = queue.counts()
    assert (counts.in_progress, counts.queued, counts.finished) == (0, 4, 1)


def test_cancelled_worker(queue: Queue, server: Server) -> None:
    """Who cancels the task that runs the worker cancels its handlers too; what they had goes back, without blame."""
    queue.enqueue_many(range(5))
    begun = threading.Event()

    async def handle(_: Item) -> None:
        begun.set()
        await asyncio.sleep(30)

    async def main() -> None:
        async with AsyncQueue("q", server.socket_url) as ours:
            task = asyncio.create_task(AsyncWorker(ours, handle, concurrency=2).run(signals=False))
            await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    items = queue.claim(5)
    assert [item.payload for item in items] == list(range(5))
    assert {item.attempt for item in items} == {1}
    queue.release(items)
