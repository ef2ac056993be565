"""One item a tick: however many schedulers run, whichever dies, and whatever gets lost on the way."""

from __future__ import annotations

import datetime as dt
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
from contract.clients import Clock
from cron.conftest import START, OpenQueue, at, ids, send, tick
from proxy import FaultProxy
from servers import wait_until

from reliq import Queue, _cron, _scripts
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]
TICKS = 200


@pytest.mark.parametrize("schedulers", [2, 4])
def test_schedulers_that_race(server: Server, open_queue: OpenQueue, clock: Clock, schedulers: int) -> None:
    """Two hundred ticks have two hundred items, also where finished ids are forgotten at once."""
    queue = open_queue()
    queue.configure(finished_count=0, finished_age=0)
    queue.set_cron("often", "* * * * * *", 1)
    others = [open_queue() for _ in range(schedulers)]
    stop, made = threading.Event(), [0] * schedulers

    def race(number: int) -> None:
        while not stop.is_set():
            made[number] += tick(others[number])

    threads = [threading.Thread(target=race, args=(number,)) for number in range(schedulers)]
    for thread in threads:
        thread.start()
    delivered: list[str] = []
    for number in range(1, TICKS + 1):
        clock.advance(1)
        items = wait_until(lambda: queue.claim(10), "the tick has its item")
        delivered += [item.id for item in items]
        queue.finish(items)
        assert len(delivered) == number
    stop.set()
    for thread in threads:
        thread.join()
    assert queue.counts().enqueued == TICKS == sum(made)
    assert len(set(delivered)) == TICKS


def test_racing_for_the_same_ticks_of_many(server: Server, open_queue: OpenQueue, clock: Clock) -> None:
    """Fifty that are due at once: each has one item, whoever did it."""
    queues = [open_queue() for _ in range(3)]
    for number in range(50):
        queues[0].set_cron(f"r{number:02}", "* * * * *", number)
    clock.advance(60)
    start, made = threading.Barrier(3), [0] * 3

    def race(number: int) -> None:
        start.wait()
        made[number] = tick(queues[number])

    threads = [threading.Thread(target=race, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == 50
    assert sorted(ids(queues[0])) == [name for n in range(50) for name in at(f"r{n:02}", "08:01:00")]


@pytest.mark.parametrize("script", ["crons", "cron_tick"])
@pytest.mark.parametrize("fault", ["lose_request", "lose_reply"])
def test_lost_on_the_way(
    script: str, fault: str, redis_client: redis.Redis, proxy: FaultProxy, open_queue: OpenQueue, clock: Clock
) -> None:
    """A call that is sent again does its work once: no tick is done twice, and none is left out."""
    queue, behind = open_queue(), open_queue(url=proxy.url)
    queue.configure(finished_count=0, finished_age=0)
    for name in ("one", "two"):
        queue.set_cron(name, "* * * * *", name)
    behind.counts()
    for name in _scripts.names():
        redis_client.script_load(_scripts.load(name).source)
    delivered = []
    for _ in range(5):
        clock.advance(60)
        rule = getattr(proxy, fault)(match=_scripts.load(script).sha.encode())
        tick(behind)
        assert rule.fired == 1
        items = queue.claim(10)
        delivered += [item.id for item in items]
        queue.finish(items)
    times = [f"08:0{minute}:00" for minute in range(1, 6)]
    assert sorted(delivered) == sorted(at("one", *times) + at("two", *times))
    assert queue.counts().enqueued == 10


@pytest.mark.parametrize("fault", ["lose_request", "lose_reply"])
def test_setting_with_a_loss_on_the_way(
    fault: str, redis_client: redis.Redis, proxy: FaultProxy, open_queue: OpenQueue, clock: Clock
) -> None:
    """Set, paused, resumed and removed, each as if nothing had been lost."""
    queue = open_queue(url=proxy.url)
    queue.counts()
    for name in _scripts.names():
        redis_client.script_load(_scripts.load(name).source)

    def lossy(act: str, *arguments: object) -> object:
        rule = getattr(proxy, fault)(match=_scripts.load("cron_set").sha.encode())
        result: object = getattr(queue, act)(*arguments)
        assert rule.fired == 1
        return result

    made = lossy("set_cron", "report", "* * * * *", 1)
    assert queue.crons() == [made]
    assert lossy("pause_cron", "report")
    assert queue.crons()[0].paused
    assert lossy("resume_cron", "report")
    assert queue.crons() == [made]
    assert lossy("remove_cron", "report")
    assert queue.crons() == []


@pytest.mark.parametrize("missed", ["all", "one"])
def test_schedulers_that_are_killed(server: Server, redis_client: redis.Redis, missed: str) -> None:
    """Each next one goes on where the last one was killed: every tick has one item, in order."""
    end = START + 120
    with Queue("q", server.socket_url) as queue:
        queue._session.now_ms = b"%d" % (START * 1000)
        queue.set_cron("often", "* * * * * *", 1, missed=missed)
        reached = START
        for last in [*sorted(random.Random(7).sample(range(START + 10, end), 4)), end]:
            reached = run_until(server.socket_url, reached, last, end)
        expected = [
            f"cron:often:{dt.datetime.fromtimestamp(START + n, dt.UTC):%Y-%m-%dT%H:%M:%SZ}" for n in range(1, 121)
        ]
        assert ids(queue) == expected


def run_until(url: str, start: int, last: int, end: int) -> int:
    """Runs a scheduler, kills it when it has done the second `last`; returns the last one that it told."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("scheduler_program.py")), url, str(start), str(end)]
    reached = start
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}) as program:
        assert program.stdout is not None
        for line in program.stdout:
            reached = int(line)
            if reached >= last:
                program.kill()
    return reached


def test_changed_between_a_look_and_the_tick(open_queue: OpenQueue, clock: Clock) -> None:
    """A scheduler that has seen the definition as it was before enqueues nothing of it."""
    slow, other = open_queue(), open_queue()
    slow.set_cron("report", "* * * * *", "old")
    clock.advance(60)
    ticking = _cron.tick(slow._session)
    write = ticking.send(send(slow, next(ticking)))
    other.set_cron("report", "* * * * *", "new")
    with pytest.raises(StopIteration) as stopped:
        ticking.send(send(slow, write))
    assert stopped.value.value == 0
    assert tick(slow) == 1
    assert [item.payload for item in slow.claim(9)] == ["new"]
