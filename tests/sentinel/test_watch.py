"""One thread for all queues of a process, gone with the last of them."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading

import pytest
from servers import wait_until

from reliq import AsyncQueue, Queue
from reliq.testing.node import Node
from reliq.testing.topology import Topology


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reliq-sentinel"]


def clients(node: Node) -> int:
    """Connections to a node, but for that which asks."""
    return int(node.info("clients")["connected_clients"])


@pytest.fixture
def at_rest(calm: Topology) -> list[int]:
    """How many connections each node has without us."""
    wait_until(lambda: not watching(), "no watch is left from before")
    return [clients(node) for node in calm.everyone]


def test_all_queues_share_one(calm: Topology, at_rest: list[int]) -> None:
    """Queues of both styles and other databases use one thread, which ends with the last of them."""

    async def main() -> None:
        with Queue("a", calm.url) as a, Queue("b", calm.url.replace("/mymaster/0", "/mymaster/1")) as b:
            async with AsyncQueue("c", calm.url) as c:
                a.enqueue(1)
                b.enqueue(1)
                await c.enqueue(1)
                assert len(watching()) == 1
            a.enqueue(2)
            assert len(watching()) == 1

    asyncio.run(main())
    wait_until(lambda: not watching(), "it ends")
    wait_until(lambda: [clients(node) for node in calm.everyone] == at_rest, "no connection is left")


def test_closed_queue_can_be_used_again(calm: Topology, at_rest: list[int]) -> None:
    """After `close` there is no thread; the next call begins a new watch."""
    queue = Queue("q", calm.url)
    for _ in range(3):
        queue.enqueue(1)
        assert len(watching()) == 1
        queue.close()
        wait_until(lambda: not watching(), "it ends")
    wait_until(lambda: [clients(node) for node in calm.everyone] == at_rest, "no connection is left")


def test_forgotten_queue(calm: Topology, at_rest: list[int]) -> None:
    """A queue that nobody closed and nobody has any more keeps neither thread nor connection."""

    def use() -> None:
        Queue("q", calm.url).enqueue(1)

    use()
    wait_until(lambda: (gc.collect(), not watching())[1], "it ends")
    wait_until(lambda: [clients(node) for node in calm.everyone] == at_rest, "no connection is left")


def test_many_threads_at_once(calm: Topology, at_rest: list[int]) -> None:
    """Threads that begin together share a watch, and each gets its answer."""
    queues, ids = [Queue("q", calm.url) for _ in range(4)], list[str]()
    threads = [
        threading.Thread(target=lambda queue=queue: ids.append(queue.enqueue(1).id))
        for queue in queues
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(ids)) == 16
    assert len(watching()) == 1
    for queue in queues:
        queue.close()
    wait_until(lambda: [clients(node) for node in calm.everyone] == at_rest, "no connection is left")


def _enqueue_in_child(queue: Queue) -> None:
    assert not watching()
    queue.enqueue("child")
    assert len(watching()) == 1
    queue.close()


def test_fork(calm: Topology, at_rest: list[int]) -> None:
    """A forked child has a watch of its own, and the parent's goes on."""
    queue = Queue("forking", calm.url)
    queue.enqueue("parent")
    (watch,) = watching()
    child = multiprocessing.get_context("fork").Process(target=_enqueue_in_child, args=(queue,))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    queue.enqueue("parent")
    assert watching() == [watch]
    assert queue.counts().queued == 3
    queue.close()
    wait_until(lambda: [clients(node) for node in calm.everyone] == at_rest, "no connection is left")


def test_child_that_lives_on_holds_nothing(calm: Topology, at_rest: list[int]) -> None:
    """Connections to Sentinels that a child inherited don't stay open through it."""
    queue = Queue("q", calm.url)
    queue.enqueue(1)
    go_on, waits = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(waits)
        os.read(go_on, 1)  # until the parent closes its end
        os._exit(0)
    try:
        queue.close()
        sentinels = len(calm.nodes)
        wait_until(lambda: [clients(node) for node in calm.sentinels] == at_rest[sentinels:], "no connection is left")
    finally:
        os.close(waits)
        os.waitpid(child, 0)
        os.close(go_on)
