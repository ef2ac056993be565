"""One queue object in many hands: threads, tasks, event loops, forked processes, several waiting claims."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from contract.evidence import check_server
from proxy import FaultProxy
from servers import wait_until

from reliq import AsyncQueue, New, Queue, Unavailable, _ids, _scripts
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]
THREADS = 8
OpenQueue = Callable[..., Queue]


NAME = "under-test"


def named(server: Server, kind: type[Any]) -> Any:
    """A client whose settings make connections that can be told from those of the test."""
    return kind(unix_socket_path=str(server.socket), client_name=NAME)


def connections(client: redis.Redis) -> int:
    """Connections of the queue under test."""
    return sum(entry["name"] == NAME for entry in client.client_list())


def share_work(queue: Queue, client: redis.Redis, total: int, threads: int) -> tuple[Counter[int], int]:
    """Threads produce and consume at once. Returns how often each payload was handled, and the most connections."""
    handled: Counter[int] = Counter()
    lock, done, most = threading.Lock(), threading.Event(), [0]

    def produce(number: int) -> None:
        mine = range(number, total, threads // 2)
        queue.enqueue_many(mine, batch=50)

    def consume() -> None:
        items = queue.claim(20)
        while not done.is_set():
            with lock:
                handled.update(item.payload for item in items)
                if handled.total() >= total:
                    done.set()
            most[0] = max(most[0], connections(client))
            items = queue.finish_and_claim(items, 20) if items else queue.claim(20, wait=0.2)
        queue.finish(items)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(produce, number) for number in range(threads // 2)]
        running += [pool.submit(consume) for _ in range(threads // 2)]
        for one in running:
            one.result()
    return handled, most[0]


@pytest.mark.parametrize("total", [5_000, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_threads_share_a_queue(total: int, server: Server, redis_client: redis.Redis) -> None:
    """Eight threads on one object lose nothing, get nothing twice, and use a connection each at most."""
    with Queue("q", client=named(server, redis.Redis)) as queue:
        handled, most = share_work(queue, redis_client, total, THREADS)
        assert handled == Counter(range(total))
        assert 1 <= most <= THREADS
        assert queue.counts().finished == total
    check_server(redis_client)


def test_threads_whose_claims_were_broken_off(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """Claims of several threads that got no reply are picked up again by these threads, each by one of them."""
    with Queue("q", proxy.url, timeout=0) as queue:
        queue.enqueue_many(range(THREADS))
        proxy.lose_reply(THREADS, match=_scripts.load("claim").sha.encode())
        with ThreadPoolExecutor(THREADS) as pool:
            broken = [pool.submit(queue.claim) for _ in range(THREADS)]
            assert [type(claim.exception()) for claim in broken] == [Unavailable] * THREADS
            items = [item for claim in [pool.submit(queue.claim) for _ in range(THREADS)] for item in claim.result()]
        assert sorted(item.payload for item in items) == list(range(THREADS))
        assert {item.delivery for item in items} == {1}


def test_several_broken_off_claims_are_picked_up(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """A claim says that nothing is there only after it has asked for all claims that got no reply."""
    with Queue("q", proxy.url, timeout=0) as queue:
        queue.enqueue("payload")
        claim = _scripts.load("claim")
        redis_client.script_load(claim.source)
        proxy.lose_reply(1, match=claim.sha.encode())
        proxy.lose_request(2, match=claim.sha.encode())
        for _ in range(3):
            with pytest.raises(Unavailable):
                queue.claim()
        assert len(queue._session.abandoned) == 1  # one at a time: each asks with the receipt of the one before
        queue._session.abandoned.append(_ids.new_receipt())  # of another thread, whose request was lost
        assert [item.payload for item in queue.claim()] == ["payload"]
        assert queue.claim() == []


def test_tasks_share_a_queue(server: Server, redis_client: redis.Redis) -> None:
    """Fifty tasks on one object get their own answers, and use a connection each at most."""

    async def main() -> int:
        async with AsyncQueue("q", client=named(server, redis.asyncio.Redis)) as queue:

            async def one(number: int) -> None:
                name = f"item-{number}"
                assert (await queue.enqueue(number, id=name)).id == name
                assert (await queue.get(name)).payload == number

            for start in range(0, 500, 50):
                await asyncio.gather(*[one(number) for number in range(start, start + 50)])
            return connections(redis_client)

    assert 1 <= asyncio.run(main()) <= 50
    wait_until(lambda: connections(redis_client) == 0, "all connections are closed")


def test_queue_on_a_second_event_loop(server: Server, redis_client: redis.Redis) -> None:
    """A queue that was used on one loop starts over with new connections on the next, and leaves none behind."""
    queue = AsyncQueue("q", client=named(server, redis.asyncio.Redis))
    for number in range(3):
        asyncio.run(use_once(queue, number))
    asyncio.run(queue.close())
    gc.collect()
    wait_until(lambda: connections(redis_client) == 0, "all connections are closed")


async def use_once(queue: AsyncQueue, number: int) -> None:
    await queue.enqueue(number)
    assert [item.payload for item in await queue.claim()] == [number]
    await queue.close()


def run_forking(mode: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("forking.py")), mode, url]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_forked_child_uses_the_same_queue(server: Server, redis_client: redis.Redis) -> None:
    """Parent and child go on with one object at the same time, and no answer crosses."""
    ran = run_forking("talk", server.socket_url)
    assert (ran.returncode, ran.stderr) == (0, "")
    with Queue("q", server.socket_url) as queue:
        assert queue.counts().enqueued == 401


def test_forked_child_leaves_the_parents_claim_alone(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """A claim that was broken off before the fork is picked up by the parent, not by both."""
    with Queue("q", proxy.url) as queue:
        queue.enqueue("first", id="first")
        queue.enqueue("warm", id="warm")
    claim = _scripts.load("claim")
    redis_client.script_load(claim.source)
    proxy.lose_reply(match=claim.sha.encode())
    ran = run_forking("abandoned", proxy.url)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(ran.stdout.splitlines()) == ["child ['warm']", "parent ['first']"]


class Interrupted(BaseException):
    """As Ctrl-C raises."""


def test_interrupted_call_leaves_no_answer_behind(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """An answer that comes after a signal broke the call off is not read by the next call."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def send_signal() -> None:
        wait_until(lambda: held_up.fired, "the call is on its way")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with Queue("q", proxy.url) as queue:
            queue.enqueue_many([New(name, id=name) for name in ("first", "second")])
            queue.get("first")
            held_up = proxy.delay(30, match=_scripts.load("get").sha.encode())
            threading.Thread(target=send_signal).start()
            with pytest.raises(Interrupted):
                queue.get("first")
            proxy.clear()
            assert [queue.get("second").payload for _ in range(3)] == ["second"] * 3
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_two_waiting_claims_and_one_item(server: Server, redis_client: redis.Redis, open_queue: OpenQueue) -> None:
    """One enqueue wakes one of two that wait: exactly one gets it, at once, and the other goes on waiting."""
    got: list[tuple[float, list[Any]]] = []

    def wait() -> None:
        queue = open_queue(server.socket_url)
        items = queue.claim(wait=4)
        got.append((time.monotonic(), [item.payload for item in items]))

    waiting = [threading.Thread(target=wait) for _ in range(2)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: redis_client.info("clients")["blocked_clients"] == 2, "both claims block")
    with Queue("q", server.socket_url) as producer:
        enqueued_at = time.monotonic()
        producer.enqueue("payload")
        wait_until(lambda: got, "one of them has it")
        assert got[0][0] - enqueued_at < 0.5
        assert got[0][1] == ["payload"]
        assert len(got) == 1
        producer.enqueue("another")
    for thread in waiting:
        thread.join()
    assert got[1][1] == ["another"]


def test_waiting_claim_gets_a_scheduled_item_when_it_is_due(
    server: Server, redis_client: redis.Redis, open_queue: OpenQueue
) -> None:
    """A worker that waits is awake when an item falls due, also one that was scheduled after the wait began."""
    queue, got = open_queue(server.socket_url), list[Any]()
    thread = threading.Thread(target=lambda: got.extend(queue.claim(wait=10)))
    thread.start()
    wait_until(lambda: redis_client.info("clients")["blocked_clients"], "the claim blocks")
    with Queue("q", server.socket_url) as producer:
        started = time.monotonic()
        producer.enqueue_many([New("payload", delay=0.2)])
    thread.join()
    assert [item.payload for item in got] == ["payload"]
    assert 0.19 < time.monotonic() - started < 1.2


def test_scripts_flushed_between_load_and_call(
    proxy: FaultProxy, redis_client: redis.Redis, open_queue: OpenQueue
) -> None:
    """A server that forgets a script again before its first call is asked once more, and no error comes of it."""
    queue = open_queue(proxy.url)
    queue.counts()
    sha, seen = _scripts.load("enqueue").sha.encode(), []

    def second_call(request: bytes) -> bool:
        found = b"EVALSHA" in request and sha in request
        seen.extend([request] * found)
        return found and len(seen) == 2

    held_up = proxy.delay(30, match=second_call)

    def flush() -> None:
        wait_until(lambda: held_up.fired, "the script is loaded and the call is on its way")
        redis_client.script_flush()
        proxy.clear()

    flushing = threading.Thread(target=flush)
    flushing.start()
    queue.enqueue("payload", id="one")
    flushing.join()
    assert queue.counts().enqueued == 1
