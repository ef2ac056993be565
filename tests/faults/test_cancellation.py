"""asyncio tasks that are cancelled in the middle of calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest
import redis
import redis.asyncio
from contract.evidence import check_server
from servers import wait_until

from reliq import AsyncQueue, Item
from reliq.embedded import Server

AT_ONCE = 20
NAME = "under-test"


async def call_of_its_own(queue: AsyncQueue, name: str, claimed: list[Item]) -> None:
    """Calls whose answers tell whose they are. Fails where one is not this task's."""
    assert (await queue.enqueue(name, id=name)).id == name
    info = await queue.get(name)
    assert (info.id, info.payload if info.payload is not None else name) == (name, name)
    items = await queue.claim(2)
    assert len({item.receipt for item in items}) <= 1
    claimed += items
    if items:
        await queue.finish(items)


async def cancelled_at_random(queue: AsyncQueue, name: str, chance: random.Random, claimed: list[Item]) -> bool:
    """Runs the calls and breaks them off after some turns of the loop. Returns whether that was in time."""
    task = asyncio.create_task(call_of_its_own(queue, name, claimed))
    for _ in range(
        chance.randrange(chance.choice((5, 20, 80, 320)))
    ):  # a call takes as many turns as the server lets it
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def fuzz(url: str, rounds: int, seed: int) -> tuple[int, list[Item], int]:
    """Returns how many calls were broken off, all items that any claim brought, and the connections at the end."""
    chance, claimed, cancelled = random.Random(seed), list[Item](), 0
    client = redis.asyncio.Redis.from_url(url, client_name=NAME)
    async with AsyncQueue("q", client=client) as queue:
        for number in range(rounds):
            names = [f"item-{number}-{task}" for task in range(AT_ONCE)]
            outcomes = [cancelled_at_random(queue, name, chance, claimed) for name in names]
            cancelled += sum(await asyncio.gather(*outcomes))
        idle = len(queue._driver._idle)
        await until_connections(url, idle)
        while items := await queue.claim(100):
            claimed += items
        await queue.finish(claimed)  # again, where the task had done it: a quiet yes
    return cancelled, claimed, idle


async def until_connections(url: str, wanted: int) -> None:
    """Waits until the server has no connections but these, and lets the loop close the others meanwhile."""
    with redis.Redis.from_url(url) as client:
        async with asyncio.timeout(10):
            while sum(entry["name"] == NAME for entry in client.client_list()) != wanted:  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("rounds", "seed"), [(30, 1), (30, 2), pytest.param(2000, 3, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_no_answer_is_read_by_another_call(rounds: int, seed: int, server: Server, redis_client: redis.Redis) -> None:
    """Hundreds of calls broken off at any point cross no answer, leak no connection, and strand no item."""
    cancelled, claimed, idle = asyncio.run(fuzz(server.socket_url, rounds, seed))
    assert cancelled > 2 * rounds
    assert idle <= AT_ONCE
    check_server(redis_client)
    meta = redis_client.hgetall("reliq:{q}:meta")
    assert (meta[b"in_progress"], redis_client.llen("reliq:{q}:queued")) == (b"0", 0)
    assert meta[b"enqueued"] == meta[b"finished"]
    deliveries = Counter(item.id for item in claimed)
    assert set(deliveries.values()) == {1}
    assert deliveries.total() == int(meta[b"enqueued"])


def seen_within(seconds: float, client: redis.Redis, key: str) -> bool:
    """Blocks the loop until the key is there, so that the reply to what made it can't have been read."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if client.exists(key):
            return True
    return False


def test_cancelled_claim_is_picked_up_by_the_next(server: Server, redis_client: redis.Redis) -> None:
    """A claim that was cancelled after it was sent took its items; the next claim brings these first."""

    async def main() -> None:
        async with AsyncQueue("q", server.socket_url) as queue:
            await queue.enqueue_many(range(4))
            task = asyncio.create_task(queue.claim(2))
            while not seen_within(0.02, redis_client, "reliq:{q}:claims"):  # noqa: ASYNC110  as above
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled(), task
            assert [item.payload for item in await queue.claim(2)] == [0, 1]
            assert [item.payload for item in await queue.claim(2)] == [2, 3]

    asyncio.run(main())


def test_timeout_around_a_waiting_claim(server: Server, redis_client: redis.Redis) -> None:
    """Breaking off a wait closes its connection, leaves nothing behind, and the queue goes on."""

    async def main() -> None:
        async with AsyncQueue("q", server.socket_url) as queue:
            for number in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await queue.claim(wait=30)
                await queue.enqueue(number)
                items = await queue.claim()
                assert [item.payload for item in items] == [number]
                await queue.finish(items)

    asyncio.run(main())
    wait_until(lambda: redis_client.info("clients")["blocked_clients"] == 0, "nobody blocks any more")
    check_server(redis_client)
