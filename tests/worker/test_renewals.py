"""Leases that are renewed beside a worker, by a thread and by a process: while it is busy, paused, forked, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from proxy import FaultProxy
from servers import wait_until

from reliq import AsyncQueue, Item, LeaseLost, Queue, _commands
from reliq._renewals import Renewals, renewals_for
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]
LEASE = 0.9  # seconds: short enough to see it end, long enough for a busy machine
KINDS = ("thread", "process")
Make = Callable[..., Renewals]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str, queue: Queue) -> Iterator[Make]:
    """Starts renewals of a kind; they are stopped at the end."""
    made: list[Renewals] = []

    def make_one(lost: list[Item], *, of: Queue | AsyncQueue = queue, lease: float = LEASE) -> Renewals:
        made.append(renewals_for(of, lease, lost.extend, kind))
        made[-1].start()
        return made[-1]

    yield make_one
    for renewals in made:
        renewals.stop()


def claimed(queue: Queue, count: int = 3, lease: float = LEASE) -> list[Item]:
    queue.enqueue_many(range(count))
    return list(queue.claim(count, lease=lease))


def outlive(queue: Queue, held: int, seconds: float = 2.5 * LEASE) -> None:
    """Sees that so many items stay in progress for so long; a recovery would take back what is not renewed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        queue.recover()
        assert queue.counts().in_progress == held
        time.sleep(0.02)


def renewers_of(pid: int) -> list[psutil.Process]:
    """The renewing processes of a process."""
    children = psutil.Process(pid).children()
    return [child for child in children if "reliq._renewer" in command_of(child)]


def command_of(process: psutil.Process) -> str:
    """Its command line; nothing for one that has ended, whether its parent has seen that or not."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a ZombieProcess is one
        return ""


def take_away(queue: Queue) -> None:
    """Ends all leases as if their time had come."""
    queue._driver.call(_commands.pause(claim=True, enqueue=False))  # so that the next holder is who the test says
    session = queue._session
    session.now_ms = b"%d" % round((time.time() + 3600) * 1000)
    queue.recover()
    session.now_ms = b""
    queue.resume()


def test_watched_items_outlive_their_lease(make: Make, queue: Queue) -> None:
    """They stay in progress, `expires` moves on, and nothing is reported as lost."""
    lost: list[Item] = []
    renewals = make(lost)
    items = claimed(queue)
    renewals.watch(items)
    outlive(queue, 3)
    assert all(item.remaining() > 0 for item in items)
    assert not lost
    queue.finish(items)


def test_more_items_than_one_call_takes(make: Make, queue: Queue) -> None:
    """2,500 items of three claims are all renewed."""
    lost: list[Item] = []
    queue.enqueue_many(range(2500))
    items = [item for count in (1000, 1000, 500) for item in queue.claim(count, lease=5)]
    make(lost, lease=5).watch(items)
    before = min(item.expires for item in items)
    wait_until(lambda: min(item.expires for item in items) > before + 0.5, "all of them have been renewed")
    queue.finish(items)
    assert not lost


def test_forgotten_items_are_left_to_their_lease(make: Make, queue: Queue) -> None:
    """What is forgotten comes back when its lease ends; what is not stays."""
    lost: list[Item] = []
    queue.enqueue_many(range(2))
    renewals = make(lost)
    first, second = queue.claim(lease=LEASE)[0], queue.claim(lease=LEASE)[0]
    renewals.watch([first, second])
    renewals.forget([first])
    wait_until(lambda: queue.recover().requeued, "the forgotten item comes back")
    outlive(queue, 1, LEASE)
    assert not lost
    queue.finish(second)


def test_a_lost_lease_is_told_once(make: Make, queue: Queue) -> None:
    """`lost` is set and on_lost is called with each lost item, once."""
    lost: list[Item] = []
    renewals = make(lost)
    items = claimed(queue)
    renewals.watch(items)
    take_away(queue)
    wait_until(lambda: len(lost) >= 3, "the loss is told")
    assert sorted(item.payload for item in lost) == [0, 1, 2]
    assert all(item.lost for item in items)
    others = queue.claim(3, lease=60)
    outlive(queue, 3, LEASE)
    assert len(lost) == 3
    queue.finish(others)


def test_settled_items_are_not_lost(make: Make, queue: Queue) -> None:
    """Items that were finished are none of those whose lease was lost, though the server does not hold them either."""
    lost: list[Item] = []
    renewals = make(lost)
    for _ in range(5):
        items = claimed(queue, 20)
        renewals.watch(items)
        renewals.forget(items)
        queue.finish(items)
    keeper = claimed(queue, 1)
    renewals.watch(keeper)
    before = keeper[0].expires
    wait_until(lambda: keeper[0].expires > before, "a round of renewals")
    assert not lost
    queue.finish(keeper)


def test_a_later_delivery_of_the_same_item(make: Make, queue: Queue) -> None:
    """An item that this process got a second time is renewed under its new receipt; the first delivery is lost."""
    lost: list[Item] = []
    renewals = make(lost)
    (first,) = claimed(queue, 1)
    renewals.watch([first])
    take_away(queue)
    (second,) = queue.claim(lease=LEASE)
    renewals.watch([second])
    wait_until(lambda: first in lost, "the first delivery is lost")
    outlive(queue, 1)
    assert not second.lost
    queue.finish(second)
    with pytest.raises(LeaseLost):
        queue.renew(first)


def test_an_error_of_on_lost_ends_nothing(kind: str, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the rest is renewed as before."""
    (gone,) = claimed(queue, 1)

    def on_lost(items: list[Item]) -> None:
        raise RuntimeError("no good")

    renewals = renewals_for(queue, LEASE, on_lost, kind)
    renewals.start()
    renewals.watch([gone])
    take_away(queue)
    wait_until(lambda: "no good" in caplog.text, "the error is logged")
    held = queue.claim(lease=LEASE)
    renewals.watch(held)
    outlive(queue, 1)
    renewals.stop()
    queue.finish(held)


def test_a_flushed_server_is_a_loss(make: Make, server: Server, redis_client: redis.Redis) -> None:
    """Leases that nobody knows any more are lost: handlers are told."""
    with Queue("gone", server.socket_url) as queue:
        lost: list[Item] = []
        renewals = make(lost, of=queue)
        items = claimed(queue, 2)
        renewals.watch(items)
        redis_client.flushall()
        wait_until(lambda: len(lost) == 2, "the loss is told")
        renewals.stop()


def test_a_server_that_is_away_for_a_moment(
    kind: str, proxy: FaultProxy, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that break are made again in time; nothing is lost."""
    lost: list[Item] = []
    with Queue("q", proxy.url) as away:
        items = claimed(away, 2, lease=3)
        renewals = renewals_for(away, 3.0, lost.extend, kind)
        renewals.start()
        renewals.watch(items)
        first = items[0].expires
        wait_until(lambda: items[0].expires > first, "the first renewal")
        proxy.refuse_connections()
        proxy.reset_connections()
        last = items[0].expires
        wait_until(lambda: "on queue q" in caplog.text or "not renewed" in caplog.text, "it has been noticed")
        proxy.accept_connections()
        wait_until(lambda: items[0].expires > last + 0.5, "renewals go on")
        renewals.stop()
        assert not lost
        away.finish(items)


def test_an_async_queue_whose_loop_is_blocked(make: Make, queue: Queue, server: Server) -> None:
    """Its items are renewed though nothing runs on the event loop."""
    lost: list[Item] = []

    async def main() -> None:
        async with AsyncQueue("q", server.socket_url) as asynchronous:
            await asynchronous.enqueue("payload")
            renewals = make(lost, of=asynchronous)
            items = await asynchronous.claim(lease=LEASE)
            renewals.watch(items)
            outlive(queue, 1)  # blocks the loop
            renewals.stop()
            await asynchronous.finish(items)

    asyncio.run(main())
    assert not lost


def test_nothing_is_left_after_stop(kind: str, queue: Queue) -> None:
    """No thread, no process, no connection, and the items come back when their lease ends. A second stop is quiet."""
    threads = set(threading.enumerate())
    connections = len(psutil.Process().net_connections("unix"))
    items = claimed(queue)
    renewals = renewals_for(queue, LEASE, lambda _: None, kind)
    renewals.start()
    renewals.watch(items)
    before = items[0].expires
    wait_until(lambda: items[0].expires > before, "it renews")
    renewals.stop()
    renewals.stop()
    assert set(threading.enumerate()) <= threads
    assert renewers_of(os.getpid()) == []
    assert len(psutil.Process().net_connections("unix")) == connections
    wait_until(lambda: queue.recover().requeued == 3, "they come back")


def test_a_fork_renews_nothing(make: Make, queue: Queue) -> None:
    """The child of a fork has no items and renews none; the parent's go on, also when the child stops its copy."""
    lost: list[Item] = []
    renewals = make(lost)
    items = claimed(queue)
    renewals.watch(items)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: that is what is tested
        child = os.fork()
    if not child:
        try:
            renewals.watch(items)
            renewals.forget(items)
            renewals.stop()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    outlive(queue, 3)
    assert not lost
    queue.finish(items)


# What only a process can do


def test_the_renewer_is_started_again(queue: Queue) -> None:
    """A renewing process that is killed, or stopped, is replaced, and knows what is held."""
    lost: list[Item] = []
    items = claimed(queue, lease=6)
    renewals = renewals_for(queue, 6.0, lost.extend, "process")
    renewals.start()
    renewals.watch(items)
    (first,) = renewers_of(os.getpid())
    first.kill()
    wait_until(lambda: [p for p in renewers_of(os.getpid()) if p.pid != first.pid], "another one has been started")
    before = items[0].expires
    wait_until(lambda: items[0].expires > before, "it renews")
    renewals.stop()
    assert not lost
    queue.finish(items)


def test_a_thread_takes_over(
    queue: Queue, server: Server, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue made with client= can't be handed to a process: a thread renews, and the log says so."""
    lost: list[Item] = []
    with Queue("q", client=redis.Redis.from_url(server.socket_url)) as given:
        items = claimed(given)
        renewals = renewals_for(given, LEASE, lost.extend, "process")
        renewals.start()
        renewals.watch(items)
        assert "renewed by a thread, not by a process" in caplog.text
        outlive(queue, 3)
        renewals.stop()
        given.finish(items)


def test_the_password_is_nowhere_to_be_seen(queue: Queue, server: Server) -> None:
    """Neither the arguments nor the environment of the process have the URL."""
    renewals = renewals_for(queue, LEASE, lambda _: None, "process")
    renewals.start()
    (process,) = renewers_of(os.getpid())
    shown = " ".join([*process.cmdline(), *process.environ().values()])
    assert server.socket_url.removeprefix("unix://") not in shown
    renewals.stop()


HOLDER = """
import ctypes, sys, time
from reliq import Queue
from reliq._renewals import renewals_for
url, kind, lease, seconds = sys.argv[1:]
queue, lost = Queue("q", url), []
renewals = renewals_for(queue, float(lease), lost.extend, kind)
renewals.start()
items = queue.claim(2, lease=float(lease))
renewals.watch(items)
print("holding", flush=True)
if float(seconds):
    ctypes.PyDLL(None).usleep(int(float(seconds) * 1e6))  # PyDLL keeps the interpreter's lock
else:
    while not all(item.lost for item in items):
        time.sleep(0.01)
print("lost", len(lost), [item.lost for item in items], flush=True)
try:
    queue.finish(items)
    print("finished", flush=True)
except Exception as error:
    print(type(error).__name__, flush=True)
sys.stdin.readline()
renewals.stop()
"""
Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(server: Server) -> Iterator[Hold]:
    """Starts a process that claims two items and holds them: keeping its interpreter's lock, or until they are lost."""
    started: list[subprocess.Popen[str]] = []

    def hold_one(kind: str, lease: float, seconds: float = 0.0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, server.socket_url, kind, str(lease), str(seconds)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        pipe = subprocess.PIPE
        environment = os.environ | {"PYTHONPATH": path}
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        assert line_of(started[-1]) == "holding"
        return started[-1]

    yield hold_one
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_handler_that_keeps_the_interpreter_to_itself(queue: Queue, hold: Hold) -> None:
    """For four leases nothing else runs in its process, and its items are still its own."""
    queue.enqueue_many(range(2))
    process = hold("process", 1.0, 4.0)
    outlive(queue, 2, 3.5)
    assert line_of(process) == "lost 0 [False, False]"
    assert line_of(process) == "finished"


def test_a_thread_is_kept_from_renewing(queue: Queue, hold: Hold) -> None:
    """The check of the check: with a thread the same handler loses its items."""
    queue.enqueue_many(range(2))
    hold("thread", 1.0, 4.0)
    wait_until(lambda: queue.recover().requeued == 2, "its items come back", timeout=3.5)


def test_a_paused_process_loses_its_items(kind: str, queue: Queue, hold: Hold) -> None:
    """Nothing is renewed for a process that is stopped; when it goes on it is told, and its finish is refused."""
    queue.enqueue_many(range(2))
    process = hold(kind, LEASE)
    outlive(queue, 2, 1.5 * LEASE)
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: queue.recover().requeued == 2, "its items come back")
    others = queue.claim(2, lease=60)
    process.send_signal(signal.SIGCONT)
    assert line_of(process) == "lost 2 [True, True]"
    assert line_of(process) == "LeaseLost"
    queue.finish(others)


def test_a_killed_process_takes_its_renewer_with_it(queue: Queue, hold: Hold) -> None:
    """The renewing process ends when its socket does, and the items come back."""
    queue.enqueue_many(range(2))
    process = hold("process", LEASE)
    (renewer,) = renewers_of(process.pid)
    process.kill()
    wait_until(lambda: not renewer.is_running() or renewer.status() == psutil.STATUS_ZOMBIE, "it has ended")
    wait_until(lambda: queue.recover().requeued == 2, "its items come back")


def test_the_log_of_the_renewer_is_ours(proxy: FaultProxy, caplog: pytest.LogCaptureFixture) -> None:
    """What the renewing process has to say stands in this process's log."""
    caplog.set_level(logging.INFO)
    with Queue("q", proxy.url) as queue:
        items = claimed(queue, 1, lease=3)
        renewals = renewals_for(queue, 3.0, lambda _: None, "process")
        renewals.start()
        renewals.watch(items)
        first = items[0].expires
        wait_until(lambda: items[0].expires > first, "the first renewal")
        queue.close()
        proxy.refuse_connections()
        proxy.reset_connections()
        wait_until(lambda: "not renewed" in caplog.text or "trying again" in caplog.text, "it says so")
        proxy.accept_connections()
        renewals.stop()
