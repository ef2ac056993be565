"""Tasks that share a queue: cancelled ones, calls that hang, and event loops that end in the middle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from proxy import FaultProxy, Rule

from reliq import AsyncQueue, Enqueued, Queue, _coalesce_async, _scripts
from reliq._durability import MEMORY
from reliq.embedded import Server

SHA = _scripts.load("enqueue").sha.encode()
FOLLOWERS = 12
FULL = _coalesce_async.AT_ONCE

pytestmark = pytest.mark.usefixtures("evidence")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  other tasks, not an event, bring it about
            await asyncio.sleep(0)


@asynccontextmanager
async def busy(queue: AsyncQueue, proxy: FaultProxy) -> AsyncIterator[list[asyncio.Task[Enqueued]]]:
    """As many calls as go by themselves are on their way, and stay there until the block ends."""
    await queue.enqueue("warm")
    rules: list[Rule] = []
    held: list[asyncio.Task[Enqueued]] = []
    for number in range(FULL):
        rules.append(proxy.delay(30, match=SHA))
        held.append(asyncio.create_task(queue.enqueue(f"held-{number}")))
        await until(lambda: rules[-1].fired)
    yield held
    proxy.clear()
    await asyncio.gather(*held, return_exceptions=True)


def enqueue_all(queue: AsyncQueue, count: int = FOLLOWERS) -> list[asyncio.Task[Enqueued]]:
    return [asyncio.create_task(queue.enqueue(n)) for n in range(count)]


def gathered(queue: AsyncQueue) -> int:
    """How many callers wait together for the next call."""
    return sum(len(batch.entries) for batch in queue._enqueues[MEMORY]._gathered)


def numbers(url: str) -> list[Any]:
    with Queue("q", url) as queue:
        return sorted(item.payload for item in queue.claim(1000) if isinstance(item.payload, int))


async def alone() -> bool:
    """Whether no other task is left on this loop."""
    return asyncio.all_tasks() == {asyncio.current_task()}


def test_a_cancelled_follower(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """It takes its item back, which nobody has sent, and the others go without it."""

    async def main() -> None:
        async with AsyncQueue("q", proxy.url) as queue, busy(queue, proxy):
            tasks = enqueue_all(queue)
            await until(lambda: gathered(queue) == FOLLOWERS)
            tasks[3].cancel()
            proxy.clear()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes].count(Enqueued) == FOLLOWERS - 1
            assert tasks[3].cancelled()

    asyncio.run(main())
    assert numbers(proxy.url) == [n for n in range(FOLLOWERS) if n != 3]


def test_cancelled_senders(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """Those whose calls the others wait for are cancelled: the others are sent at once."""

    async def main() -> None:
        async with AsyncQueue("q", proxy.url) as queue, busy(queue, proxy) as held:
            tasks = enqueue_all(queue)
            await until(lambda: gathered(queue) == FOLLOWERS)
            for sender in held:
                sender.cancel()
            assert all(each.created for each in await asyncio.wait_for(asyncio.gather(*tasks), 5))

    asyncio.run(main())
    assert numbers(proxy.url) == list(range(FOLLOWERS))


def test_a_call_that_hangs_is_not_waited_for(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """Connections that have gone quiet hold up those who gathered for a moment, not until they are given up."""

    async def main() -> None:
        async with AsyncQueue("q", proxy.url) as queue, busy(queue, proxy) as held:
            for _ in range(3):
                assert all(each.created for each in await asyncio.wait_for(asyncio.gather(*enqueue_all(queue)), 5))
            assert not any(each.done() for each in held)

    asyncio.run(main())
    assert numbers(proxy.url) == sorted([*range(FOLLOWERS)] * 3)


def test_a_call_whose_callers_are_all_cancelled(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """Its task has ended before they return, and whoever comes next is sent."""

    async def main() -> None:
        async with AsyncQueue("q", proxy.url) as queue, busy(queue, proxy):
            sent = proxy.delay(30, match=SHA)
            tasks = enqueue_all(queue)
            await until(lambda: sent.fired)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() for task in tasks)
            assert len(asyncio.all_tasks()) == 1 + FULL
            assert (await asyncio.wait_for(queue.enqueue(99), 5)).created
        assert await alone()

    asyncio.run(main())
    assert numbers(proxy.url)[-1] == 99


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_cancellations(seed: int, server: Server, redis_client: redis.Redis) -> None:
    """Whoever was not cancelled has its item in the queue, once; and nothing is left behind."""
    chance = random.Random(seed)

    async def broken_off_at_random(queue: AsyncQueue, n: int) -> bool:
        task = asyncio.create_task(queue.enqueue(n))
        if chance.random() < 0.5:
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        return not task.cancelled() and task.result().created

    async def main() -> list[bool]:
        async with AsyncQueue("q", server.socket_url) as queue:
            done: list[bool] = []
            for start in range(0, 1000, 200):
                done += await asyncio.gather(*[broken_off_at_random(queue, n) for n in range(start, start + 200)])
            assert await alone()
            assert (await queue.enqueue(1000)).created
        return done

    done = asyncio.run(main())
    acknowledged = {n for n, created in enumerate(done) if created}
    found = numbers(server.socket_url)
    assert acknowledged <= set(found)
    assert len(found) == len(set(found))
    assert len(acknowledged) < 1000, "some were cancelled in time"


def test_a_timeout_around_a_gathered_call(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """A caller's own deadline ends its wait, and not that of the others."""

    async def main() -> None:
        async with AsyncQueue("q", proxy.url) as queue, busy(queue, proxy):
            tasks = enqueue_all(queue)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await queue.enqueue("in a hurry")
            proxy.clear()
            assert all(each.created for each in await asyncio.gather(*tasks))

    asyncio.run(main())
    assert numbers(proxy.url) == list(range(FOLLOWERS))


def test_another_event_loop_starts_afresh(proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """A loop that ended while callers gathered leaves nothing to the next one that has the queue."""
    queue = AsyncQueue("q", proxy.url)

    async def ended_in_the_middle() -> None:
        async with busy(queue, proxy):
            enqueue_all(queue)
            await until(lambda: gathered(queue) == FOLLOWERS)
            raise KeyError

    async def next_loop() -> None:
        proxy.clear()
        assert gathered(queue) <= FOLLOWERS
        assert (await asyncio.wait_for(queue.enqueue(99), 5)).created
        assert gathered(queue) == 0
        await queue.close()

    with pytest.raises(KeyError):
        asyncio.run(ended_in_the_middle())
    asyncio.run(next_loop())
    assert numbers(proxy.url)[-1] == 99


def test_more_callers_than_one_call_takes(server: Server, redis_client: redis.Redis) -> None:
    """2,500 at once are served by calls of at most 1,000 items."""

    async def main() -> None:
        async with AsyncQueue("q", server.socket_url) as queue:
            await queue.enqueue("warm")
            redis_client.config_resetstat()
            assert all(each.created for each in await asyncio.gather(*enqueue_all(queue, 2500)))
            assert (await queue.counts()).queued == 2501

    asyncio.run(main())
    stats: Any = redis_client.info("commandstats")
    assert FULL + 3 <= stats["cmdstat_evalsha"]["calls"] <= FULL + 5
