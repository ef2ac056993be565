"""A process that fills a backlog and works it off with one of the peers: `python -m benchmarks.peer_process`.

A process of its own for each turn, because workers install signal handlers, loggers and threads, and some can't be
started twice. What starting and stopping costs is not in the figures: the clocks are read when a sixth of the items has
been handled, and when the last one is. So an item's cost is that of a worker that has been running for a while.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import redis

from benchmarks.harness import Cost, Meter
from benchmarks.peers import PEERS, count_with

_ROOT = Path(__file__).parents[1]
_LONGEST = 120.0  # seconds for a turn that is made to take a few


@dataclass(frozen=True)
class Turn:
    """What an item cost to enqueue and to work off, and how many were left when the worker ended: none, if it did."""

    enqueue: Cost
    drain: Cost
    left: int


def turn(name: str, url: str, items: int) -> Turn:
    """Runs a peer in a process of its own, on an empty server. Its process fails with what it wrote to stderr."""
    command = [sys.executable, "-m", "benchmarks.peer_process", name, url, str(items)]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_LONGEST, check=False)
    if ran.returncode:
        raise RuntimeError(f"{name} failed:\n{ran.stdout[-1000:]}{ran.stderr[-3000:]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    return Turn(Cost(**found["enqueue"]), Cost(**found["drain"]), found["left"])


class Clocks:
    """Server CPU, CPU of this process and the time, in seconds, read together."""

    def __init__(self, meter: Meter) -> None:
        self.server, self.client, self.wall = meter.server_seconds(), time.process_time(), time.perf_counter()

    def cost(self, before: Clocks, items: int) -> Cost:
        parts = (self.server - before.server, self.client - before.client, self.wall - before.wall)
        return Cost(*(part / items * 1e6 for part in parts))


class Probe:
    """Called for each item that is handled, from any thread. Reads the clocks at two of them."""

    def __init__(self, meter: Meter, first: int, last: int) -> None:
        self.done = threading.Event()
        self._meter, self._first, self._last = meter, first, last
        self._numbers = count(1)
        self._read: list[Clocks] = []

    def __call__(self) -> None:
        number = next(self._numbers)  # one step of the interpreter: no two threads get the same
        if number in (self._first, self._last):
            self._read.append(Clocks(self._meter))
        if number == self._last:
            self.done.set()

    def cost(self) -> Cost:
        start, end = self._read
        return end.cost(start, self._last - self._first)


def _run(name: str, url: str, items: int) -> Turn:
    peer, meter, warm_up = PEERS[name](url), Meter(redis.Redis.from_url(url, protocol=2)), max(1, items // 5)
    peer.enqueue(warm_up)
    start = Clocks(meter)
    peer.enqueue(items)
    enqueue = Clocks(meter).cost(start, items)
    count_with(probe := Probe(meter, warm_up, warm_up + items))
    peer.work(probe.done)
    return Turn(enqueue, probe.cost(), peer.left())


if __name__ == "__main__":
    print(json.dumps(asdict(_run(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
