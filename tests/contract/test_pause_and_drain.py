from __future__ import annotations

import threading

import pytest
from servers import wait_until

from reliq import DrainTimeout, New, Queue, QueuePaused
from reliq.embedded import Server


def test_pause_and_resume(queue: Queue, other: Queue) -> None:
    """A pause holds for all clients, leaves items in progress alone, and can be repeated, as can its end."""
    queue.enqueue_many(range(2))
    held = queue.claim()
    for _ in range(2):
        queue.pause(enqueue=True)
    assert (other.counts().paused_claim, other.counts().paused_enqueue) == (True, True)
    assert other.claim() == []
    with pytest.raises(QueuePaused):
        other.enqueue(3)
    assert other.finish_and_claim(held, 5) == []
    for _ in range(2):
        other.resume()
    assert len(queue.claim()) == 1
    queue.enqueue(3)


def test_resuming_a_queue_that_does_not_exist(queue: Queue) -> None:
    """It changes nothing: there is no queue afterwards either."""
    queue.resume()
    assert queue.counts().enqueued == 0


def test_resume_wakes_those_who_wait(queue: Queue, server: Server) -> None:
    """A claim that waits on a paused queue gets its item when the queue is opened."""
    queue.enqueue(1)
    queue.pause()

    def open_it() -> None:
        with Queue("emails", server.socket_url) as operator:
            wait_until(lambda: operator.counts().paused_claim, "it is paused")
            operator.resume()

    opening = threading.Thread(target=open_it)
    opening.start()
    assert len(queue.claim(wait=30)) == 1
    opening.join()


def test_draining_an_idle_queue(queue: Queue) -> None:
    """A drained queue is empty and stays closed for new items until it is resumed."""
    queue.enqueue(1)
    queue.finish(queue.claim())
    assert queue.drain(timeout=0).waiting == 0
    with pytest.raises(QueuePaused):
        queue.enqueue(2)
    queue.resume()
    queue.enqueue(2)


def test_draining_waits_for_the_workers(queue: Queue, server: Server) -> None:
    """Drain returns when the last item has been dealt with."""
    queue.enqueue_many(range(3))

    def work() -> None:
        with Queue("emails", server.socket_url) as worker:
            wait_until(lambda: worker.counts().paused_enqueue, "it drains")
            worker.finish(worker.claim(3))

    working = threading.Thread(target=work)
    working.start()
    assert queue.drain(timeout=30).finished == 3
    working.join()


def test_a_drain_that_takes_too_long(queue: Queue) -> None:
    """When the time is up the error says what is left, dead and orphaned items not counted."""
    queue.enqueue_many([1, 2, New(3, delay=60), 4])
    queue.fail(queue.claim(1), dead=True)
    queue.claim(1)
    with pytest.raises(DrainTimeout) as caught:
        queue.drain(timeout=0.01)
    assert caught.value.left == {"queued": 1, "scheduled": 1, "in_progress": 1}
