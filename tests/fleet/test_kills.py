"""Workers are killed and suspended at random while they work: nothing is lost, nothing is done by two at once."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from fleet.conftest import MakeFleet
from fleet.fleets import Fleet, Program

from reliq import New, Queue
from reliq.testing import History, final_state

LEASE = 2.0  # seconds: a busy machine may hold a process up for a while, which is no fault of the queue
EVERY = 0.3  # seconds between two kills


@dataclass
class Size:
    items: int
    processes: int
    work: float  # seconds of handling at most
    faults: int  # then the rest is left in peace: where starting a process is slow, none would get anything done


CI = Size(items=3_000, processes=3, work=0.02, faults=25)
FULL = Size(items=100_000, processes=8, work=0.02, faults=2_000)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("groups", [0, 400])
def test_killed_and_suspended_workers(groups: int, queue: Queue, history: History, make_fleet: MakeFleet) -> None:
    """Each of some thousand items is finished once, whatever is killed every 0.3 s."""
    suffer(CI, groups, queue, history, make_fleet)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("groups", [0, 10_000])
def test_killed_and_suspended_workers_at_full_size(
    groups: int, queue: Queue, history: History, make_fleet: MakeFleet
) -> None:
    """The same with a hundred thousand items and eight processes."""
    suffer(FULL, groups, queue, history, make_fleet)


def suffer(size: Size, groups: int, queue: Queue, history: History, make_fleet: MakeFleet) -> None:
    seed = int(os.environ.get("RELIQ_SEED") or random.randrange(10**6))
    print(f"RELIQ_SEED={seed}")  # shown where the test fails
    chance = random.Random(seed)
    fleet = make_fleet("worker_program.py", LEASE, 4, 4)
    for _ in range(size.processes):
        fleet.start()
    with ThreadPoolExecutor(2) as producers:
        sent = [producers.submit(produce, queue, size, groups, chance.randrange(10**6)) for _ in range(2)]
        torment(
            fleet, chance, size.faults, lambda: all(f.done() for f in sent) and queue.counts().finished == size.items
        )
        assert sum(future.result() for future in sent) == size.items
    for program in list(fleet.running):
        fleet.terminate(program)
    final_state(queue, history)
    judge(fleet, size)


def produce(queue: Queue, size: Size, groups: int, seed: int) -> int:
    """Half of the items, in batches; with groups, each item is of one of so many."""
    chance = random.Random(seed)

    def items() -> Iterator[New]:
        for _ in range(size.items // 2):
            group = f"g{chance.randrange(groups)}" if groups else None
            yield New({"work": chance.random() * size.work}, group=group)

    return len(queue.enqueue_many(items(), batch=50))


def torment(fleet: Fleet, chance: random.Random, faults: int, done: Callable[[], bool]) -> None:
    """Every now and then one that is at work is killed and replaced, or stopped for longer than its lease."""
    stopped: Program | None = None
    until, next_fault = 0.0, time.monotonic() + EVERY
    while not done():
        if stopped and time.monotonic() > until:
            fleet.go_on(stopped)
            stopped = None
        victims = [program for program in fleet.running if program is not stopped and fleet.is_at_work(program)]
        if victims and faults and time.monotonic() > next_fault:
            faults -= 1
            victim = chance.choice(victims)
            if stopped is None and chance.random() < 0.5:
                fleet.stop(victim)
                stopped, until = victim, time.monotonic() + 1.5 * LEASE
            else:
                fleet.kill(victim)
                fleet.start()
            next_fault = time.monotonic() + EVERY
        time.sleep(0.02)
    if stopped:
        fleet.go_on(stopped)


def judge(fleet: Fleet, size: Size) -> None:
    report = fleet.report()
    figures = report.figures
    print(figures, report.violations[:5])
    assert report.broken() == {}
    assert report.undecided == {}
    assert (figures.enqueued, figures.ambiguous) == (size.items, 0)
    assert figures.finished + figures.finish_unknown == size.items  # the latter: killed before the answer came
    assert figures.faults > 5
    assert figures.duplicates <= figures.held_by_faulty
    assert figures.attempts_burnt == 0
