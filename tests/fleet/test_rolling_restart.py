"""Workers are told to end and are replaced, one after the other, under load: nobody notices."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from fleet.conftest import MakeFleet
from servers import wait_until

from reliq import New, Queue
from reliq.testing import History, final_state

LONGEST = 0.2  # seconds of handling at most
LEASE = 120.0  # longer than the test: whatever waited for the end of a lease would never be finished in it
MARGIN = 2.0  # seconds for the last calls and the end of the process, on a busy machine


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rolling_restart_under_load(queue: Queue, history: History, make_fleet: MakeFleet) -> None:
    """No attempt is burnt, nothing changes its place, no lease is waited for, and ending takes one handler's time."""
    rounds = 10 if os.environ.get("RELIQ_SOAK") else 3
    fleet = make_fleet("worker_program.py", LEASE, 4, 8)
    for _ in range(2):
        fleet.start()
    enough = threading.Event()
    producer = threading.Thread(target=lambda: queue.enqueue_many(load(enough, queue), batch=20))
    producer.start()
    took = []
    try:
        for _ in range(rounds):
            fresh = fleet.start()
            wait_until(partial(fleet.is_at_work, fresh), "the new worker to begin", timeout=30)
            took.append(fleet.terminate(fleet.running[0]))
    finally:
        enough.set()
        producer.join()
    wait_until(lambda: queue.counts().waiting == 0, "everything to be finished", timeout=60)
    for program in list(fleet.running):
        fleet.terminate(program)
    final_state(queue, history)
    report = fleet.report()
    print(took, report.figures)
    assert max(took) < LONGEST + MARGIN
    assert report.broken() == {}
    assert report.figures.finished == report.figures.enqueued > 100 * rounds
    assert report.figures.again_released > 0, "workers held something ahead when they were told to end"
    assert (report.figures.attempts_burnt, report.figures.again_failed, report.figures.again_expired) == (0, 0, 0)
    assert report.figures.duplicates == 0


def load(enough: threading.Event, queue: Queue) -> Iterator[New]:
    """Items without end, as fast as they are handled: some dozens are always waiting."""
    number = 0
    while not enough.is_set():
        number += 1
        yield New({"work": LONGEST if number % 50 == 0 else 0.005})
        if number % 20 == 0:
            wait_until(lambda: enough.is_set() or queue.counts().queued < 100, "workers to keep up", timeout=60)
