"""Workers as processes that are told to stop, and that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import wait_until
from worker.conftest import Start

from reliq import Item, Queue, Worker
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]
LEASE = 0.6
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(server: Server) -> Iterator[Spawn]:
    """Starts worker processes; those that still run are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def spawn_one(*, lease: float = 30, prefetch: int = 0) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(Path(__file__).with_name("program.py")),
            server.socket_url,
            str(lease),
            str(prefetch),
        ]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        return started[-1]

    yield spawn_one
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_gives_back_what_was_not_started(number: signal.Signals, queue: Queue, spawn: Spawn) -> None:
    """The running handler ends and is finished; the others go back in order, unblamed; the process ends with 0."""
    queue.enqueue_many(range(10))
    process = spawn(prefetch=5)
    assert next_line(process) == "began 0 1"
    wait_until(lambda: queue.counts().in_progress == 6, "the worker holds items ahead")
    process.send_signal(number)
    wait_until(lambda: queue.counts().in_progress == 1, "they are given back while the handler runs")
    let_go_on(process)
    asked = time.monotonic()
    assert next_line(process) == "ended 1 5"
    assert process.wait(10) == 0
    assert time.monotonic() - asked < 3
    items = queue.claim(10)
    assert [item.payload for item in items] == list(range(1, 10))
    assert {item.attempt for item in items} == {1}
    assert queue.counts().finished == 1


def test_signal_to_an_idle_worker(queue: Queue, spawn: Spawn) -> None:
    """A worker that waits for items ends soon after SIGTERM."""
    queue.enqueue("payload")
    process = spawn()
    assert next_line(process) == "began payload 1"
    let_go_on(process)
    wait_until(lambda: queue.counts().finished, "it is idle")
    asked = time.monotonic()
    process.terminate()
    assert process.wait(10) == 0
    assert time.monotonic() - asked < 5


def test_killed_worker(queue: Queue, spawn: Spawn, start: Start) -> None:
    """What a killed process held is handled by another worker when the lease has ended, prefetched items too."""
    queue.enqueue_many(range(4))
    process = spawn(lease=LEASE, prefetch=3)
    assert next_line(process) == "began 0 1"
    wait_until(lambda: queue.counts().in_progress == 4, "it holds all items")
    process.kill()
    killed = time.monotonic()
    handled: list[tuple[int, int, int]] = []

    def handle(item: Item) -> None:
        handled.append((item.payload, item.delivery, item.attempt))

    report = start(Worker(queue, handle, max_items=4)).result(20)
    assert time.monotonic() - killed < LEASE + 2.5  # a waiting claim sweeps, and blocks until the first lease ends
    assert report.finished == 4
    assert handled == [(number, 2, 1) for number in range(4)]


def test_stopped_worker_wakes_up_too_late(queue: Queue, spawn: Spawn, start: Start) -> None:
    """A process that was suspended past its lease finds that somebody else has done its work, and goes on."""
    queue.enqueue("payload", id="one")
    process = spawn(lease=LEASE)
    assert next_line(process) == "began payload 1"
    process.send_signal(signal.SIGSTOP)
    report = start(Worker(queue, lambda _: None, max_items=1)).result(20)
    assert report.finished == 1
    process.send_signal(signal.SIGCONT)
    let_go_on(process)
    queue.enqueue("next")
    assert next_line(process) == "began next 1"
    let_go_on(process)
    wait_until(lambda: queue.counts().finished == 2, "the next item is finished")
    process.terminate()
    assert next_line(process) == "ended 1 0"
