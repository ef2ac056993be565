"""Other queues for Python on Redis, and reliq, each set up to fill a backlog and to work it off in one process.

Each is set up as its own documentation advises for many short items, and so that a killed worker loses as little as it
can: its docstring says what that leaves. What each would keep of finished items is switched off where it can be. A
peer is imported by the process that runs it and by nobody else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import redis

from benchmarks.rivals import TEXT

BATCH = 1000  # items of a call, where there are calls for many
THREADS = 4
TASKS = 10  # saq's default

_handled: Callable[[], None] = lambda: None  # noqa: E731  # what `handle` does; rq finds its function by name


def handle(_payload: str) -> None:
    """The handler of all of them: nothing, but that the item is counted."""
    _handled()


def count_with(handled: Callable[[], None]) -> None:
    """Has `handled` called for each item from now on."""
    global _handled  # noqa: PLW0603  # one run in a process
    _handled = handled


class Peer(Protocol):
    """A queue on an empty server."""

    def enqueue(self, count: int) -> None:
        """Adds items, with calls for many where it has such."""

    def work(self, done: threading.Event) -> None:
        """Works until nothing is left. `done` is set while the last item is handled."""

    def left(self) -> int:
        """How many items are waiting or not acknowledged."""


class Reliq:
    """reliq with threads. Items of a killed worker are delivered again within its lease and one sweep."""

    def __init__(self, url: str, threads: int) -> None:
        from reliq import Queue

        self.queue, self.threads = Queue("bench", url), threads

    def enqueue(self, count: int) -> None:
        self.queue.enqueue_many([TEXT] * count)

    def work(self, _done: threading.Event) -> None:
        from reliq import Worker

        Worker(self.queue, lambda item: handle(item.payload), concurrency=self.threads, return_when_empty=True).run()

    def left(self) -> int:
        counts = self.queue.counts()
        return counts.queued + counts.in_progress


class ReliqTasks(Reliq):
    """reliq with asyncio tasks. As with threads."""

    def __init__(self, url: str) -> None:
        super().__init__(url, threads=1)
        self.url = url

    def work(self, _done: threading.Event) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        from reliq import AsyncQueue, Item
        from reliq.worker_async import AsyncWorker

        async def handler(item: Item) -> None:
            handle(item.payload)

        async with AsyncQueue("bench", self.url) as queue:
            await AsyncWorker(queue, handler, concurrency=TASKS, return_when_empty=True).run()


class Rq:
    """rq's `SimpleWorker`: faster than the `Worker` that its documentation advises, which forks for each item. With
    `retry=`, an item of a killed worker is run again when a clean-up (every 10 minutes) finds its time limit over;
    without, it is moved to the failed ones.
    """

    def __init__(self, url: str) -> None:
        import rq

        self.queue = rq.Queue("bench", connection=redis.Redis.from_url(url))

    def enqueue(self, count: int) -> None:
        import rq

        for start in range(0, count, BATCH):
            one = partial(rq.Queue.prepare_data, handle, (TEXT,), result_ttl=0, retry=rq.Retry(max=3))
            self.queue.enqueue_many([one() for _ in range(min(BATCH, count - start))])

    def work(self, _done: threading.Event) -> None:
        import rq

        worker = rq.SimpleWorker([self.queue], connection=self.queue.connection, log_job_description=False)
        worker.work(burst=True, logging_level="WARNING")

    def left(self) -> int:
        return int(self.queue.count + self.queue.started_job_registry.count)


class Dramatiq:
    """dramatiq's Redis broker with its default middleware, acknowledging when the handler is done. Items of a killed
    worker are run again after 60 s without its heartbeat, when a command happens to tidy up (one in a thousand does).

    With its default `prefetch` of two for each thread it mostly waits: it sleeps for milliseconds whenever so many
    are in hand.
    """

    def __init__(self, url: str, prefetch: int | None = None) -> None:
        if prefetch:
            os.environ["dramatiq_queue_prefetch"] = str(prefetch)  # noqa: SIM112  # its name; read at the import
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        self.broker = RedisBroker(url=url)
        self.actor = dramatiq.actor(handle, broker=self.broker, queue_name="bench")

    def enqueue(self, count: int) -> None:
        for _ in range(count):
            self.actor.send(TEXT)

    def work(self, done: threading.Event) -> None:
        import dramatiq

        worker = dramatiq.Worker(self.broker, worker_threads=THREADS)
        worker.start()
        done.wait()
        self.broker.join("bench")
        worker.stop()

    def left(self) -> int:
        return int(self.broker.do_qsize("bench"))  # waiting and not acknowledged


class Huey:
    """huey's `RedisHuey`, results off. What a killed worker was handling is lost: BRPOP took it off the server."""

    def __init__(self, url: str) -> None:
        from huey import RedisHuey

        self.huey = RedisHuey("bench", url=url, results=False)
        self.task = self.huey.task()(handle)

    def enqueue(self, count: int) -> None:
        for _ in range(count):
            self.task(TEXT)

    def work(self, done: threading.Event) -> None:
        consumer = self.huey.create_consumer(workers=1, periodic=False)
        consumer.start()
        done.wait()
        consumer.stop(graceful=True)

    def left(self) -> int:
        return int(self.huey.pending_count())


class Saq:
    """saq with its default of 10 tasks. With `retries=2`, items of a killed worker are run again when a sweep (once a
    minute) finds their time limit over; with the default of 1 they are aborted.
    """

    def __init__(self, url: str) -> None:
        self.url, self.runner = url, asyncio.Runner()
        self.queue = self.runner.run(self._connected())

    async def _connected(self) -> Any:
        from saq import Queue

        return Queue.from_url(self.url, name="bench")

    def enqueue(self, count: int) -> None:
        self.runner.run(self._enqueue(count))

    async def _enqueue(self, count: int) -> None:
        for start in range(0, count, BATCH):  # it sends 20 at a time
            calls = (self._one() for _ in range(min(BATCH, count - start)))
            await asyncio.gather(*calls)

    def _one(self) -> Any:
        return self.queue.enqueue("bench", payload=TEXT, retries=2, ttl=-1)

    def work(self, _done: threading.Event) -> None:
        self.runner.run(self._work())

    async def _work(self) -> None:
        from saq import Worker

        async def handler(_context: Any, *, payload: str) -> None:
            handle(payload)

        await Worker(self.queue, [("bench", handler)], concurrency=TASKS, burst=True, dequeue_timeout=1).start()

    def left(self) -> int:
        return int(self.runner.run(self.queue.count("incomplete")))


class Celery:
    """celery, acknowledging late, no results. Items of a killed worker are run again after an hour; one that it had
    taken with BRPOP and not noted down yet is lost.
    """

    def __init__(self, url: str, pool: str, threads: int) -> None:
        import celery

        self.app = celery.Celery("bench", broker=url, set_as_current=False)
        self.app.conf.update(
            task_acks_late=True, task_ignore_result=True, worker_redirect_stdouts=False, task_default_queue="bench"
        )
        self.task = self.app.task(handle, name="bench")
        self.options = [f"--pool={pool}", f"--concurrency={threads}"]
        self.client = redis.Redis.from_url(url)

    def enqueue(self, count: int) -> None:
        with self.app.producer_or_acquire() as producer:
            for _ in range(count):
                self.task.apply_async((TEXT,), producer=producer)

    def work(self, done: threading.Event) -> None:
        threading.Thread(target=_terminate_when, args=(done,), daemon=True).start()
        idle = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        try:
            self.app.worker_main(["worker", "--loglevel=ERROR", *idle, *self.options])
        except SystemExit as end:  # so it ends a warm shutdown
            if end.code:
                raise

    def left(self) -> int:
        counts: list[Any] = [self.client.llen("bench"), self.client.hlen("unacked")]
        return sum(counts)


def _terminate_when(done: threading.Event) -> None:
    done.wait()
    os.kill(os.getpid(), signal.SIGTERM)


PEERS: Mapping[str, Callable[[str], Peer]] = {
    "reliq, 1 thread": partial(Reliq, threads=1),
    "reliq, 4 threads": partial(Reliq, threads=THREADS),
    "reliq, 10 tasks": ReliqTasks,
    "rq": Rq,
    "dramatiq, 4 threads": Dramatiq,
    "dramatiq, 4 threads, prefetch 100": partial(Dramatiq, prefetch=100),
    "huey": Huey,
    "saq, 10 tasks": Saq,
    "celery, solo": partial(Celery, pool="solo", threads=1),
    "celery, 4 threads": partial(Celery, pool="threads", threads=THREADS),
}


def package(name: str) -> str:
    """The package that a peer needs."""
    return name.partition(",")[0]


def is_installed(name: str) -> bool:
    return find_spec(package(name)) is not None
