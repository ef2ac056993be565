"""Loops that nobody leaves properly: collected, cancelled, forked, killed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from consume.test_handler import queued
from consume.test_loop import LEFT, failed
from servers import wait_until

import reliq
from reliq import AsyncQueue, ConsumeReport, Queue
from reliq.embedded import Server


@pytest.fixture
def style() -> str:
    return "sync"


def test_an_iterator_that_is_forgotten_settles(queue: Queue, other: Queue) -> None:
    """When it is collected, as after a break."""
    items = iter(queue.consume(chunk=3))
    assert next(items).payload == 0
    assert other.counts().in_progress == 3
    del items
    gc.collect()
    assert (failed(other).payload, failed(other).error) == (0, LEFT)
    assert queued(other) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_renewing_thread_ends_with_the_loop(queue: Queue) -> None:
    """Nothing goes on in the background."""
    import threading

    before = threading.active_count()
    for item in queue.consume(chunk=3):
        assert threading.active_count() == before + 1
        if item.payload == 1:
            break
    assert threading.active_count() == before


def test_a_forked_child_leaves_its_parents_items_alone(queue: Queue, other: Queue, server: Server) -> None:
    """A child that inherited a loop and drops it settles nothing."""
    program = Path(__file__).with_name("forking.py")
    ran = subprocess.run(
        [sys.executable, str(program), server.socket_url], capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]
    assert other.counts().finished == 3


def test_a_process_that_is_killed(queue: Queue, other: Queue, server: Server) -> None:
    """Its items come back when the lease has ended: what it had finished stays finished."""
    program = Path(__file__).with_name("forking.py")
    killed = subprocess.Popen([sys.executable, str(program), server.socket_url, "hang"], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"at 4\n"
    killed.kill()
    killed.wait()
    killed.stdout.close()
    wait_until(lambda: other.recover().requeued == 3, "the lease has ended", timeout=20)
    again = other.claim(10)
    assert [item.payload for item in again] == [3, 4, 5, 6, 7, 8, 9]
    assert [item.delivery for item in again[:3]] == [2, 2, 2]
    other.release(again)


# asyncio


def run(server: Server, scenario: Any) -> Any:
    async def main() -> Any:
        async with AsyncQueue("q", server.socket_url) as queue:
            return await scenario(queue)

    return asyncio.run(main())


def test_a_break_out_of_async_for_is_settled_by_the_event_loop(queue: Queue, other: Queue, server: Server) -> None:
    """Soon after the break, without anybody closing anything."""

    async def scenario(ours: AsyncQueue) -> None:
        async for item in ours.consume(chunk=3):
            if item.payload == 1:
                break
        await asyncio.to_thread(wait_until, lambda: other.counts().in_progress == 0, "the rest is settled")

    run(server, scenario)
    assert (failed(other).payload, failed(other).error) == (1, LEFT)
    assert queued(other) == [2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the connection that this takes
def test_asyncio_run_settles_what_is_still_open(queue: Queue, other: Queue, server: Server) -> None:
    """An iterator that is alive at the end of the event loop is closed by it, though the queue is closed already."""
    kept: list[Any] = []

    async def scenario(ours: AsyncQueue) -> None:
        kept.append(aiter(ours.consume(chunk=3)))
        assert (await anext(kept[0])).payload == 0

    run(server, scenario)
    assert failed(other).payload == 0
    assert other.counts().in_progress == 0
    kept.clear()
    gc.collect()  # the warning comes here, not in the next test


def test_aclosing_settles_at_once(queue: Queue, other: Queue, server: Server) -> None:
    """For those who can't wait for the event loop."""

    async def scenario(ours: AsyncQueue) -> int:
        async with aclosing(aiter(ours.consume(chunk=3))) as items:  # type: ignore[type-var]
            async for _ in items:
                break
        return other.counts().in_progress

    assert run(server, scenario) == 0


@pytest.mark.parametrize("where", ["handler", "waiting"])
def test_a_cancelled_task_gives_everything_back(queue: Queue, other: Queue, server: Server, where: str) -> None:
    """Cancelling is how a consumer is stopped: nothing is blamed, what was handled is finished."""
    if where == "waiting":
        other.finish(other.claim(10))

    async def scenario(ours: AsyncQueue) -> None:
        there = asyncio.Event()

        async def handle(item: reliq.Item) -> None:
            if item.payload == 2:
                there.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(ours.consume(handle, chunk=5))
        if where == "handler":
            await there.wait()
        else:
            await asyncio.to_thread(wait_until, lambda: other._driver.info()["blocked_clients"] == "1", "it waits")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(server, scenario)
    counts = other.counts()
    assert (counts.in_progress, counts.scheduled) == (0, 0)
    assert queued(other) == ([2, 3, 4, 5, 6, 7, 8, 9] if where == "handler" else [])


def test_a_task_that_is_cancelled_in_a_claim_gives_back_what_that_took(
    queue: Queue, other: Queue, server: Server
) -> None:
    """The items of an answer that nobody read don't wait for the end of their lease."""

    async def scenario(ours: AsyncQueue) -> None:
        await ours.counts()  # connected: the claim is the next thing that is sent
        task = asyncio.create_task(ours.consume(lambda _: None, chunk=5))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(server, scenario)
    assert queued(other) == list(range(10))
    assert other.counts().in_progress == 0


def test_an_async_handler_may_be_a_plain_function(queue: Queue, server: Server) -> None:
    """What it returns is awaited where it can be."""

    async def scenario(ours: AsyncQueue) -> ConsumeReport:
        return await ours.consume(lambda _: None, return_when_empty=True)

    assert run(server, scenario) == ConsumeReport(finished=10)


def test_two_tasks_share_a_queue(queue: Queue, other: Queue, server: Server) -> None:
    """Each item goes to one of them."""
    seen: list[int] = []

    async def handle(item: reliq.Item) -> None:
        await asyncio.sleep(0)
        seen.append(item.payload)

    async def scenario(ours: AsyncQueue) -> list[ConsumeReport]:
        return await asyncio.gather(*(ours.consume(handle, chunk=2, return_when_empty=True) for _ in range(2)))

    reports = run(server, scenario)
    assert sum(report.finished for report in reports) == 10
    assert sorted(seen) == list(range(10))
