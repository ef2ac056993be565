"""A mixed load for a while: what was counted agrees, and memory is what it was."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import psutil
import pytest
import redis
from fleet.conftest import MakeFleet
from fleet.fleets import Fleet
from servers import wait_until

from reliq import New, Queue
from reliq._keys import Keys
from reliq.testing import History, final_state

CI_SECONDS, SOAK_SECONDS = 20.0, 600.0
SERVER_GROWTH = 512 * 1024  # bytes
WORKER_GROWTH = 16 * 1024 * 1024
LEFT_OVER = (
    "items queued claims leases attempts errors scheduled orphaned dead finished_order groups turns parked".split()
)


def seconds() -> float:
    """RELIQ_SOAK: so many seconds; 1 for ten minutes."""
    asked = float(os.environ.get("RELIQ_SOAK") or 0)
    return SOAK_SECONDS if asked == 1 else asked or CI_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_mixed_load(queue: Queue, history: History, make_fleet: MakeFleet, redis_client: redis.Redis) -> None:
    """Retries, schedules, cancels and deaths: everything is somewhere at the end, and nothing has grown."""
    queue.configure(retry="later", backoff_base=0.05, backoff_cap=0.2, max_attempts=3)
    fleet = make_fleet("worker_program.py", 30, 4, "auto")
    for _ in range(2):
        fleet.start()
    chance = random.Random(7)
    mixed_load(queue, chance, seconds() / 2)  # the first half fills buffers, pools and caches
    memory = settled_memory(queue, fleet, redis_client)
    mixed_load(queue, chance, seconds() / 2)
    after = settled_memory(queue, fleet, redis_client)
    for program in list(fleet.running):
        fleet.terminate(program)
    final_state(queue, history)
    report = fleet.report()
    print(report.figures, memory, after)
    assert report.broken() == {}
    assert min(report.figures.again_failed, report.figures.ended, report.figures.finished) > 10
    assert after["server"] - memory["server"] < SERVER_GROWTH
    assert after["workers"] - memory["workers"] < WORKER_GROWTH
    assert left_over(redis_client) == []


def mixed_load(queue: Queue, chance: random.Random, duration: float) -> None:
    until = time.monotonic() + duration
    while time.monotonic() < until:
        sent = [new.id for new in queue.enqueue_many([an_item(chance) for _ in range(chance.randint(1, 40))])]
        later = queue.enqueue({}, delay=chance.choice([0.01, 0.5, 30]))
        queue.cancel(*chance.sample([*sent, later.id], 1))
        dead = [info.id for info in queue.scan("dead")]
        if dead and chance.random() < 0.5:
            queue.requeue(*dead[:10])
        elif dead:
            queue.discard(*dead[:10])
        wait_until(lambda: queue.counts().queued < 200, "workers to keep up", timeout=30)


def an_item(chance: random.Random) -> New:
    fail = chance.choice([0] * 8 + [1, 5])
    group = "g" if chance.random() < 0.05 else None
    return New({"work": chance.random() * 0.002, "fail": fail, "pad": "x" * chance.randint(0, 500)}, group=group)


def settled_memory(queue: Queue, fleet: Fleet, client: redis.Redis) -> dict[str, int]:
    """Bytes in use when the queue has come to rest and has forgotten what has ended."""
    for info in queue.scan("scheduled"):
        queue.cancel(info.id)
    wait_until(lambda: queue.counts().waiting == 0, "the queue to come to rest", timeout=60)
    for info in queue.scan("dead"):
        queue.discard(info.id)
    queue.purge("finished")
    used: Any = client.info("memory")
    workers = sum(psutil.Process(program.process.pid).memory_info().rss for program in fleet.running)
    return {"server": int(used["used_memory_dataset"]), "workers": workers}


def left_over(client: redis.Redis) -> list[str]:
    """Keys of items that are there though no item is."""
    keys = Keys("q")
    return [name for name in LEFT_OVER if client.exists(keys[name])]
