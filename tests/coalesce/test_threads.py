"""Threads that share a queue: interrupted ones, calls that hang, and a process that forks while others gather."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import FaultProxy, Rule
from servers import wait_until

from reliq import Enqueued, Queue, _coalesce, _scripts
from reliq._durability import MEMORY
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]
SHA = _scripts.load("enqueue").sha.encode()
FOLLOWERS = 12
FULL = _coalesce.AT_ONCE

pytestmark = pytest.mark.usefixtures("evidence")


class Interrupted(BaseException):
    """As Ctrl-C raises."""


def interrupt(*_: object) -> None:
    raise Interrupted


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupt_when(condition: Callable[[], object], what: str) -> threading.Thread:
    """Interrupts the main thread as soon as the condition holds."""

    def watch() -> None:
        wait_until(condition, what)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@contextmanager
def crowded(proxy: FaultProxy, calls: int) -> Iterator[tuple[Queue, ThreadPoolExecutor, list[Future[Any]]]]:
    """So many calls are on their way and stay there until the block ends. Beyond `FULL` the last one is a batch."""
    with Queue("q", proxy.url) as queue, ThreadPoolExecutor(calls + FOLLOWERS) as pool:
        queue.enqueue("warm")
        rules: list[Rule] = []
        held: list[Future[Any]] = []
        for number in range(calls):
            rules.append(proxy.delay(30, match=SHA))
            held.append(pool.submit(queue.enqueue, f"held-{number}"))
            wait_until(lambda: rules[-1].fired, "the call is on its way")
        try:
            yield queue, pool, held
        finally:
            proxy.clear()
        assert all(isinstance(each.result(), Enqueued) for each in held)


def gathered(queue: Queue) -> int:
    """How many callers wait together for the next call."""
    batch = queue._enqueues[MEMORY]._gathering
    return len(batch.entries) if batch else 0


def payloads(url: str) -> list[Any]:
    with Queue("q", url) as queue:
        return [item.payload for item in queue.claim(1000) if item.payload != "warm"]


def test_a_call_that_hangs_is_not_waited_for(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """A batch on a connection that has gone quiet holds up the next one for a moment, not until it is given up."""
    with crowded(proxy, FULL + 1) as (queue, pool, held):
        others = [pool.submit(queue.enqueue, n) for n in range(FOLLOWERS)]
        for each in others:
            assert each.result(timeout=5).created
        assert not any(each.done() for each in held)


def test_what_gathered_goes_in_one_call(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """Those who come while a batch is on its way are one call."""
    with crowded(proxy, FULL + 1) as (queue, pool, _):
        together = proxy.delay(30, match=lambda request: SHA in request and request.count(b"member") == FOLLOWERS)
        others = [pool.submit(queue.enqueue, f"member-{n}") for n in range(FOLLOWERS)]
        wait_until(lambda: together.fired, "they are on their way together")
    assert all(each.result().created for each in others)


def test_an_interrupted_follower(proxy: FaultProxy, redis_client: redis.Redis, interruptible: None) -> None:
    """It takes its item back, which nobody has sent, and the others go without it."""
    with crowded(proxy, FULL + 1) as (queue, pool, _):
        others = [pool.submit(queue.enqueue, n) for n in range(FOLLOWERS)]
        watcher = interrupt_when(lambda: gathered(queue) > FOLLOWERS, "all have gathered")
        with pytest.raises(Interrupted):
            queue.enqueue("interrupted")
        watcher.join()
    assert all(each.result().created for each in others)
    found = payloads(proxy.url)
    assert "interrupted" not in found
    assert {n for n in found if isinstance(n, int)} == set(range(FOLLOWERS))


def test_an_interrupted_leader(proxy: FaultProxy, redis_client: redis.Redis, interruptible: None) -> None:
    """The thread that sends for all is interrupted: another one sends again, with the same ids, and all are served."""
    with crowded(proxy, FULL + 1) as (queue, pool, _):
        sent = proxy.delay(30, match=SHA)
        others: list[Future[Enqueued]] = []

        def follow() -> bool:
            """The main thread has gathered first, so it leads; then the others come."""
            if gathered(queue) and not others:
                others.extend(pool.submit(queue.enqueue, n) for n in range(FOLLOWERS))
            return bool(sent.fired)

        watcher = interrupt_when(follow, "the leader has sent")
        with pytest.raises(Interrupted):
            queue.enqueue("leader")
        watcher.join()
        assert [each.result(timeout=5).created for each in others] == [True] * FOLLOWERS
    assert sorted(n for n in payloads(proxy.url) if isinstance(n, int)) == list(range(FOLLOWERS))


def test_a_batch_whose_callers_are_all_interrupted(
    proxy: FaultProxy, redis_client: redis.Redis, interruptible: None
) -> None:
    """Nobody waits for it after that: the next batch goes at once."""
    with crowded(proxy, FULL) as (queue, pool, _):
        sent = proxy.delay(30, match=SHA)
        watcher = interrupt_when(lambda: sent.fired, "the batch of one is on its way")
        with pytest.raises(Interrupted):
            queue.enqueue("interrupted")
        watcher.join()
        assert not queue._enqueues[MEMORY]._newest.locked()
        others = [pool.submit(queue.enqueue, n) for n in range(FOLLOWERS)]
        assert all(each.result(timeout=5).created for each in others)


def test_a_forked_child_starts_with_nothing_gathered(server: Server, redis_client: redis.Redis) -> None:
    """A child that was forked while threads of its parent gathered sends its own items and none of theirs."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("forking.py")), server.url]
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    found = [text for text in payloads(server.socket_url) if text != "warm"]
    assert sorted(found) == sorted(set(found)), "an item that two processes sent under two ids"
    assert len([text for text in found if text.startswith("child")]) == 50
