"""What a call with a level of durability says when replicas have it, when they don't, and when nobody knows."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from proxy import FaultProxy
from servers import server_binary, wait_until

from reliq import AsyncQueue, DurabilityNotReached, LeaseLost, Queue, QueueFull, Unavailable, _scripts
from reliq.testing.node import Node
from reliq.testing.topology import Topology

PATIENCE = 0.3  # seconds for a confirmation
MARGIN = 1.0  # seconds by which a busy machine may be late
LEVELS = ["memory", "replicated:1", "replicated:2", "replicated:all"]
OpenQueue = Callable[..., Queue]
_numbers = count(1)


@pytest.fixture(scope="module", params=["plain", "sentinel"])
def replicated(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """A master with two replicas, shared; with Sentinels that never fail over by themselves, or without."""
    sentinels = 3 if request.param == "sentinel" else 0
    with Topology(binary=server_binary(), sentinels=sentinels, down_after=600.0, network="loopback") as running:
        yield running


@pytest.fixture(autouse=True)
def going_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test froze goes on after it."""
    yield
    if "replicated" in request.fixturenames:
        topology: Topology = request.getfixturevalue("replicated")
        for node in topology.everyone:
            node.resume()


@pytest.fixture
def name() -> str:
    """Each test has a queue of its own."""
    return f"q{next(_numbers)}"


@contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Within the block a replica takes nothing, though it is connected."""
    node.pause()
    try:
        yield
    finally:
        node.resume()


def has_waitaof(node: Node) -> bool:
    return bool(node.call("COMMAND", "INFO", "WAITAOF")[0])  # type: ignore[index]


@pytest.mark.parametrize("level", LEVELS)
def test_levels_that_are_reached(level: str, name: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """What was asked for is what is said to be confirmed: by one enqueue, by many, by a finish, and as the default."""
    queue = open_queue(replicated.url, name, durability=level)
    assert queue.enqueue(1).durability == level
    assert {each.durability for each in queue.enqueue_many([2, 3], durability=level)} == {level}
    assert queue.enqueue(4, wait=1, durability=level).durability == level
    queue.finish(queue.claim(2), durability=level)
    (item,) = queue.claim()
    queue.finish(item, result="done", durability=level)
    assert queue.counts().finished == 3


def test_frozen_replica(name: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """The call says so within its time and names the ids; the item is there; a repeat is confirmed when it is back."""
    queue = open_queue(replicated.url, name, durability_timeout=PATIENCE)
    queue.enqueue(0, durability="replicated:all")
    with frozen(replicated.replicas[0]):
        started = time.monotonic()
        with pytest.raises(DurabilityNotReached) as caught:
            queue.enqueue_many([1, 2], durability="replicated:all")
        assert PATIENCE <= time.monotonic() - started < PATIENCE + MARGIN
        assert (len(caught.value.ids), caught.value.achieved) == (2, "replicated:1")
        with pytest.raises(DurabilityNotReached) as caught:
            queue.enqueue(3, id="mine", durability="replicated:all")
        assert caught.value.ids == ("mine",)
        assert queue.get("mine").state == "queued"
        assert queue.enqueue(3, id="mine", durability="replicated:1") == ("mine", False, "replicated:1")
    assert queue.enqueue(3, id="mine", durability="replicated:all") == ("mine", False, "replicated:all")
    assert queue.counts().queued == 4


def test_repeat_over_another_connection(name: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """A client that has written nothing itself waits for what another one wrote."""
    queue, again = (open_queue(replicated.url, name, durability_timeout=PATIENCE) for _ in range(2))
    queue.enqueue(0, durability="replicated:all")
    again.counts()
    (item,) = queue.claim()
    with frozen(replicated.replicas[0]):
        for client in (queue, again):
            with pytest.raises(DurabilityNotReached):
                client.enqueue(1, id="mine", durability="replicated:all")
            with pytest.raises(DurabilityNotReached):
                client.finish(item, durability="replicated:all")
    assert again.enqueue(1, id="mine", durability="replicated:all") == ("mine", False, "replicated:all")
    again.finish(item, durability="replicated:all")


def test_result_is_confirmed_again(name: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """The same for a finish with a result, and with what follows it: there once."""
    queue, again = (open_queue(replicated.url, name, durability_timeout=PATIENCE) for _ in range(2))
    queue.enqueue(0)
    again.counts()
    (item,) = queue.claim()
    with frozen(replicated.replicas[0]):
        for client in (queue, again):
            with pytest.raises(DurabilityNotReached) as caught:
                client.finish(item, result=5, durability="replicated:all")
            assert caught.value.ids == (item.id,)
    again.finish(item, result=5, durability="replicated:all")
    assert queue.counts().finished == 1


def test_refusal_leaves_the_connection_in_step(name: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """After an error in the first of two replies the next calls get their own answers, over the same connection."""
    queue = open_queue(replicated.url, name, durability="replicated:all")
    queue.configure(max_length=1)
    queue.enqueue(1)
    (connection,) = queue._driver._idle
    for _ in range(3):
        with pytest.raises(QueueFull):
            queue.enqueue(2)
        assert queue.counts().queued == 1
    (item,) = queue.claim()
    open_queue(replicated.url, name).release(item)
    queue.finish(queue.claim())
    with pytest.raises(LeaseLost):
        queue.finish(item)
    assert queue.counts().finished == 1
    assert list(queue._driver._idle) == [connection]


@pytest.mark.parametrize("part", ["script", "confirmation"])
def test_lost_reply(part: str, name: str, style: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """Whichever of the two replies is lost, the repeat asks for the confirmation of the first write."""
    if replicated.sentinels:
        pytest.skip("a proxy stands in front of one server")
    master, replica = replicated.master, replicated.replicas[0]
    match = b"WAIT" if part == "confirmation" else _scripts.load("enqueue").sha.encode()
    with FaultProxy(master.url) as proxy:
        queue = open_queue(proxy.url, name, durability="replicated:all", durability_timeout=PATIENCE)
        queue.enqueue(0)
        rule = proxy.lose_reply(match=match)
        assert queue.enqueue(1).durability == "replicated:all"
        with frozen(replica):
            again = proxy.lose_reply(match=match)
            with pytest.raises(DurabilityNotReached):
                queue.enqueue(2)
        assert (rule.fired, again.fired) == (1, 1)
        assert queue.counts().queued == 3


def test_master_without_replicas(style: str, open_queue: OpenQueue) -> None:
    """Where nobody could have it, all do not have it."""
    with Topology(binary=server_binary(), replicas=0, sentinels=0, network="loopback") as alone:
        queue = open_queue(alone.url, durability_timeout=PATIENCE)
        for level in ("replicated:all", "replicated:1"):
            with pytest.raises(DurabilityNotReached) as caught:
                queue.enqueue(1, durability=level)
            assert (caught.value.wanted, caught.value.achieved) == (level, "memory")
        assert queue.counts().queued == 2


def test_fsynced(name: str, replicated: Topology, open_queue: OpenQueue) -> None:
    """It is on the disk; or the error says that this server is too old to tell, and the item is there."""
    queue = open_queue(replicated.url, name, durability="fsynced")
    if has_waitaof(replicated.master):
        assert queue.enqueue(1).durability == "fsynced"
        queue.finish(queue.claim())
        return
    for _ in range(2):
        with pytest.raises(DurabilityNotReached, match="too old"):
            queue.enqueue(1, id="one")
    assert queue.counts().queued == 1


def test_fsynced_without_a_file(style: str, open_queue: OpenQueue) -> None:
    """A server that keeps no append-only file says that it can't, and the error says so too."""
    with Topology(binary=server_binary(), replicas=0, sentinels=0, append_only=False, network="loopback") as alone:
        queue = open_queue(alone.url, durability="fsynced")
        with pytest.raises(DurabilityNotReached, match=r"appendonly|too old") as caught:
            queue.enqueue(1)
        assert caught.value.achieved == "memory"
        assert queue.counts().queued == 1


def test_demoted_while_it_waits(name: str, style: str, open_queue: OpenQueue) -> None:
    """A master that becomes a replica may drop what it took: nobody is told that the item is there."""
    with Topology(binary=server_binary(), replicas=2, sentinels=0, network="loopback") as running:
        master, replica = running.master, running.replicas[0]
        queue = open_queue(running.url, name, timeout=0.5, durability="replicated:all")
        queue.enqueue(0)
        replica.pause()
        told: list[BaseException] = []

        def enqueue() -> None:
            with pytest.raises(Unavailable) as caught:
                queue.enqueue(1)
            told.append(caught.value)

        caller = threading.Thread(target=enqueue)
        caller.start()
        wait_until(lambda: master.info("clients")["blocked_clients"] == "1", "it waits for the replicas")
        master.call("REPLICAOF", replica.host, replica.port)
        caller.join(20)
        assert isinstance(told[0], Unavailable)
        assert told[0].may_have_been_applied


@pytest.mark.parametrize("replica", ["frozen", "in step"])
def test_callers_that_are_gathered(replica: str, name: str, style: str, replicated: Topology) -> None:
    """Forty at once share calls, and each learns about its own item and no other."""
    options: dict[str, Any] = {"durability": "replicated:all", "durability_timeout": PATIENCE}
    crowd = tasks if style == "async" else threads
    with Queue(name, replicated.url, durability="replicated:all") as queue:
        queue.enqueue(0)
        before = calls(replicated.master)
        if replica == "frozen":
            with frozen(replicated.replicas[0]):
                outcomes = crowd(name, replicated.url, options)
            assert all(isinstance(each, DurabilityNotReached) and each.ids == (i,) for i, each in outcomes.items())
        else:
            outcomes = crowd(name, replicated.url, options)
            assert all(each == (i, True, "replicated:all") for i, each in outcomes.items())
        assert queue.counts().queued == 41
        assert calls(replicated.master) - before < 40, "nobody shared a call"


def calls(node: Node) -> int:
    found = re.search(r"calls=(\d+)", node.info("commandstats").get("cmdstat_wait", "calls=0"))
    return int(found[1]) if found else 0


def threads(name: str, url: str, options: dict[str, Any]) -> dict[str, Any]:
    with Queue(name, url, **options) as queue, ThreadPoolExecutor(40) as pool:

        def one(number: int) -> object:
            try:
                return queue.enqueue(number, id=f"id-{number}")
            except DurabilityNotReached as error:
                return error

        queue.counts()
        return dict(zip((f"id-{n}" for n in range(40)), pool.map(one, range(40)), strict=True))


def tasks(name: str, url: str, options: dict[str, Any]) -> dict[str, Any]:
    async def main() -> list[Any]:
        async with AsyncQueue(name, url, **options) as queue:
            await queue.counts()
            each = [queue.enqueue(number, id=f"id-{number}") for number in range(40)]
            return await asyncio.gather(*each, return_exceptions=True)

    return dict(zip((f"id-{n}" for n in range(40)), asyncio.run(main()), strict=True))
