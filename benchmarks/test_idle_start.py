"""How soon an item that is enqueued into an idle fleet begins, against a value pushed to whoever waits in BLPOP."""

from __future__ import annotations

import queue as queues
import threading
import time
from collections.abc import Callable
from statistics import quantiles

import redis
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Sizes
from benchmarks.harness import Report, compared, in_rounds
from reliq import Queue, Worker
from reliq.embedded import Server

Send = Callable[[], object]


class Arrivals:
    """Sends one thing at a time to a receiver that is idle, and keeps how long each took to arrive."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._arrived: queues.SimpleQueue[float] = queues.SimpleQueue()
        self.delays: list[float] = []

    def arrived(self) -> None:
        self._arrived.put(time.perf_counter())

    def one(self) -> None:
        sent = time.perf_counter()
        self._send()
        self.delays.append((self._arrived.get(timeout=30) - sent) * 1e6)


def at(delays: list[float], percent: int) -> float:
    return quantiles(delays, n=100)[percent - 1] if len(delays) > 1 else delays[0]


def test_idle_start(
    server: Server, client: redis.Redis, sizes: Sizes, benchmark: BenchmarkFixture, report: Report
) -> None:
    """Each waits for the other to be idle again; both receivers are threads of this process."""
    source, sender = Queue("ours", server.socket_url), Queue("ours", server.socket_url)
    sender.configure()
    ours = Arrivals(lambda: sender.enqueue("x"))
    theirs = Arrivals(lambda: client.rpush("theirs", "x"))
    worker = Worker(source, lambda _: ours.arrived())
    stopped = threading.Event()

    def listen() -> None:
        link = redis.Redis(unix_socket_path=server.socket_url.removeprefix("unix://"), socket_timeout=None)
        while not stopped.is_set():
            if link.blpop(["theirs"], timeout=1):
                theirs.arrived()
        link.close()

    threads = [threading.Thread(target=listen), threading.Thread(target=lambda: worker.run(signals=False))]
    for thread in threads:
        thread.start()

    def turn() -> None:
        for arrivals in (theirs, ours):
            arrivals.one()
        while not sender.counts().idle_workers:  # the worker has settled, and waits again
            time.sleep(0.0005)

    try:
        in_rounds(benchmark, turn, rounds=sizes.calls)
    finally:
        stopped.set()
        worker.stop()
        for thread in threads:
            thread.join()
    for percent in (50, 99):
        mine, raw = at(ours.delays, percent), at(theirs.delays, percent)
        report.add(
            benchmark,
            compared(f"start on an idle fleet, p{percent}", "us, reliq by BLPOP", mine, raw, [mine / raw], "<= 1.5"),
        )
