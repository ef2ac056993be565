"""What workers do for their fleet: they say that they are there, and one of them sees to what falls due."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import FaultProxy
from servers import wait_until
from worker.conftest import Held, Workers

from reliq import Item, ItemInfo, Queue
from reliq._ledger import WorkerReport
from reliq.answers import Retry
from reliq.embedded import Server
from reliq.info import WorkerInfo

ROOT = Path(__file__).parents[2]
LATE = 1.0  # seconds; on an idle machine it is a few milliseconds
Spawn = Callable[[], "subprocess.Popen[str]"]


def listed(queue: Queue, count: int) -> list[WorkerInfo]:
    """The workers of a queue, when there are so many."""
    wait_until(lambda: len(queue.workers()) == count, f"{count} workers are listed", timeout=15)
    return queue.workers()


def test_a_worker_says_what_it_does(queue: Queue, workers: Workers) -> None:
    """It is listed with its figures while it runs, and is off the list when it has stopped."""
    queue.enqueue_many(range(8))
    held = Held(only=lambda item: item.payload >= 5)
    running = workers.start(held, concurrency=2, prefetch=1)
    held.wait_for(7)

    def mine() -> WorkerInfo:
        return listed(queue, 1)[0]

    wait_until(lambda: mine().finished == 5, "it says what it has finished", timeout=10)
    wait_until(lambda: (mine().holding, mine().busy) == (3, 2), "it says what it holds", timeout=10)
    worker = mine()
    kind = "threads" if workers.kind == "threads" else "tasks"
    assert (worker.kind, worker.concurrency, worker.pid, worker.sweeps) == (kind, 2, os.getpid(), True)
    held.let_go()
    running.stop()
    assert running.report().finished >= 7
    assert queue.workers() == []


def test_failures_are_told(queue: Queue, workers: Workers) -> None:
    """Failed attempts are among the figures."""
    queue.configure(max_attempts=1)
    queue.enqueue(1)
    workers.start(lambda _: 1 / 0)
    wait_until(lambda: [worker.failed for worker in queue.workers()] == [1], "it says that one failed", timeout=10)


def test_a_worker_of_several_queues(queue: Queue, server: Server, workers: Workers) -> None:
    """It is listed at each of them."""
    with Queue("r", server.socket_url) as other:
        queue.configure()
        other.configure()
        running = workers.start(lambda _: None, names=("q", "r"))
        assert listed(queue, 1)[0].name == listed(other, 1)[0].name
        running.stop()
        running.report()
        assert queue.workers() == other.workers() == []


def test_a_queue_that_comes_later(queue: Queue, server: Server, workers: Workers) -> None:
    """A worker that was there before its queue is listed soon after the first enqueue."""
    workers.start(lambda _: None, names=("later",))
    with Queue("later", server.socket_url) as later:
        later.enqueue("first")
        assert listed(later, 1)[0].pid == os.getpid()


# What falls due


def lateness(begun: list[tuple[float, float]]) -> str:
    late = sorted(at - due for due, at in begun)
    return f"p50 {late[len(late) // 2] * 1000:.1f} ms, p99 {late[int(len(late) * 0.99)] * 1000:.1f} ms"


@pytest.mark.parametrize("busy", [False, True])
def test_scheduled_items_begin_on_time(busy: bool, queue: Queue, workers: Workers, held: Held) -> None:
    """On an idle fleet a scheduled item is begun when it is due, also when the worker that sweeps is busy."""
    begun: list[tuple[float, float]] = []
    if busy:
        queue.enqueue("long")
        workers.start(held)
        held.wait_for(1)
        assert listed(queue, 1)[0].sweeps
    workers.start(lambda item: begun.append((item.payload, time.time())))
    listed(queue, 1 + busy)
    wait_until(lambda: queue.counts().idle_workers == 1, "one worker is idle")
    for number in range(60):
        due = time.time() + 0.05 + 0.037 * number
        queue.enqueue(due, at=due)
    wait_until(lambda: len(begun) == 60, "all are begun")
    print(f"scheduled, {workers.kind}, busy sweeper {busy}: {lateness(begun)}")
    assert all(-0.002 <= at - due < LATE for due, at in begun)


def test_retried_items_begin_on_time(queue: Queue, workers: Workers) -> None:
    """An item that is to be tried again later is begun when it is due."""
    queue.configure(max_attempts=100)
    begun: list[tuple[float, float]] = []
    due: dict[str, float] = {}

    def handle(item: Item) -> object:
        if item.id in due:
            begun.append((due[item.id], time.time()))
        due[item.id] = time.time() + 0.1
        return Retry(0.1) if item.attempt < 20 else None

    workers.start(handle, concurrency=2)
    listed(queue, 1)
    queue.enqueue_many(range(2))
    wait_until(lambda: len(begun) == 38, "all attempts are made", timeout=20)
    print(f"retried, {workers.kind}: {lateness(begun)}")
    assert all(at - due < LATE for due, at in begun)


# Who sweeps


@pytest.fixture
def spawn(server: Server) -> Iterator[Spawn]:
    """Starts worker processes; those that still run are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def spawn_one() -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).with_name("program.py")), server.socket_url, "60", "0"]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        pipe = subprocess.PIPE
        environment = os.environ | {"PYTHONPATH": path}
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        return started[-1]

    yield spawn_one
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_another_worker_sweeps_when_the_sweeper_is_killed(queue: Queue, spawn: Spawn) -> None:
    """The sweep lease of a process that was killed ends, and the next one to be seen has it."""
    queue.configure()
    processes = {process.pid: process for process in (spawn(), spawn())}
    listed(queue, 2)

    def sweepers() -> list[int]:
        return [worker.pid for worker in queue.workers() if worker.sweeps]

    wait_until(sweepers, "one of them sweeps", timeout=10)
    [first] = sweepers()
    processes.pop(first).send_signal(signal.SIGKILL)
    [second] = processes
    wait_until(lambda: sweepers() == [second], "the other one sweeps", timeout=40)
    queue.enqueue("payload", id="one", delay=600)
    assert queue.counts().workers == 2  # the dead one is on the list for an hour


def test_orphaned_items_are_resolved_by_one_worker(queue: Queue, workers: Workers) -> None:
    """Of two workers with a resolver one asks it, about each item once, and does what it says."""
    queue.configure(expiry="hold")
    asked: list[tuple[str, str]] = []

    def resolver(name: str) -> Callable[[ItemInfo], str]:
        def resolve(info: ItemInfo) -> str:
            asked.append((name, info.id))
            return "finish"

        return resolve

    queue.enqueue_many(range(10))
    orphans = [item.id for item in queue.claim(10, lease=0.001)]
    for name in ("first", "second"):
        workers.start(lambda _: None, resolve=resolver(name))
    listed(queue, 2)
    wait_until(lambda: queue.counts().finished == 10, "all orphaned items are finished", timeout=15)
    assert sorted(item_id for _, item_id in asked) == sorted(orphans)
    assert len({name for name, _ in asked}) == 1


def test_a_resolver_that_fails_ends_nothing(queue: Queue, workers: Workers) -> None:
    """The worker goes on, sweeping too; the item waits for a person."""
    queue.configure(expiry="hold")
    queue.enqueue("orphan")
    queue.claim(lease=0.001)
    asked: list[Any] = []

    def resolve(info: ItemInfo) -> str:
        asked.append(info.id)
        raise RuntimeError("not now")

    handled: list[Any] = []
    workers.start(lambda item: handled.append(item.payload), resolve=resolve)
    wait_until(lambda: asked, "the function is asked", timeout=10)
    queue.enqueue("next", delay=0.1)
    wait_until(lambda: handled == ["next"], "the worker goes on")
    assert queue.counts().orphaned == 1


# Without a server


def test_a_worker_without_a_server_starts_and_stops(queue: Queue, proxy: FaultProxy, workers: Workers) -> None:
    """Neither waits for the server."""
    proxy.refuse_connections()
    running = workers.start(lambda _: None, url=proxy.url)
    wait_until(lambda: running.worker._running is not None, "it runs")
    wait_until(lambda: running.worker._running.turns.sources[0].failures >= 2, "it has tried")
    asked = time.monotonic()
    running.stop()
    assert running.report() == WorkerReport()
    assert time.monotonic() - asked < 5


def test_the_housekeeper_comes_back_with_its_server(queue: Queue, proxy: FaultProxy, workers: Workers) -> None:
    """A worker that was cut off is listed again soon."""
    queue.configure()
    workers.start(lambda _: None, url=proxy.url)
    before = listed(queue, 1)[0]
    proxy.refuse_connections()
    proxy.reset_connections()
    wait_until(lambda: queue.workers()[0].age > 5, "it is not seen", timeout=15)
    proxy.accept_connections()
    wait_until(lambda: queue.workers()[0].age < 5, "it is seen again", timeout=15)
    assert queue.workers()[0].name == before.name
