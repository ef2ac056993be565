"""Fifty waiting claimers, many single enqueues: nobody sleeps while an item waits, and one item does not wake all."""

from __future__ import annotations

import os
import random
from functools import partial
from typing import Any

import pytest
import redis
from fleet.conftest import MakeFleet
from servers import wait_until

from reliq import Queue
from reliq.testing import History, read

CLAIMERS = 50
PROCESSES = 2
LATE = 1.0  # seconds; a claimer that missed its wake-up claims after two
CALLS = 8  # of scripts for an item: enqueue, claim, finish, the claim that finds nothing, and races; a herd makes 50


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_wake_up_is_missed(queue: Queue, history: History, make_fleet: MakeFleet, redis_client: redis.Redis) -> None:
    """Every item is claimed soon after its enqueue, with few calls of scripts, however the waits and enqueues meet."""
    items = 10_000 if os.environ.get("RELIQ_SOAK") else 1_000
    fleet = make_fleet("claimers_program.py", CLAIMERS // PROCESSES)
    for _ in range(PROCESSES):
        fleet.start()
    everybody_waits(redis_client)
    before = script_calls(redis_client)
    enqueue_in_bursts(queue, items)
    wait_until(partial(all_finished, queue, items), "everything to be finished", timeout=60)
    calls = script_calls(redis_client) - before
    everybody_waits(redis_client)
    for program in list(fleet.running):
        fleet.terminate(program)
    report, waits = fleet.report(), delays(history)
    print(f"slowest claims {sorted(waits)[-5:]}, {calls / items:.1f} calls an item", report.figures)
    assert report.broken() == {}
    assert len(waits) == items
    assert max(waits) < LATE
    assert calls < CALLS * items


def enqueue_in_bursts(queue: Queue, items: int) -> None:
    """One by one, in bursts of different lengths; each begins when the one before it is finished."""
    chance, sent = random.Random(1), 0
    while sent < items:
        for _ in range(min(chance.choice([1, 2, 5, 50, 100]), items - sent)):
            queue.enqueue({})
            sent += 1
        wait_until(partial(all_finished, queue, sent), "the burst to be finished", timeout=30)


def all_finished(queue: Queue, items: int) -> bool:
    return queue.counts().finished == items


def everybody_waits(client: redis.Redis) -> None:
    def blocked() -> bool:
        info: Any = client.info("clients")
        return int(info["blocked_clients"]) == CLAIMERS

    wait_until(blocked, "all claimers to wait", timeout=30)


def script_calls(client: redis.Redis) -> int:
    info: Any = client.info("commandstats")
    return int(info["cmdstat_evalsha"]["calls"]) if "cmdstat_evalsha" in info else 0


def delays(history: History) -> list[float]:
    """Seconds from the answer to an item's enqueue to its claim."""
    events = read(history.path.parent)
    sent = {i: e.t for e in events if e.kind == "enqueue" and e.data["phase"] == "ok" for i in e.data["ids"]}
    return [e.t - sent[i] for e in events if e.kind == "claim" for i in e.data["ids"]]
