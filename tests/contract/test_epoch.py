from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from contract.clients import Clock, OpenQueue

from reliq import LeaseLost, Queue, Rebuilding, StaleEpoch, StateLost
from reliq._keys import Keys

CALLS: dict[str, Callable[[Queue, Any], object]] = {
    "enqueue": lambda queue, _: queue.enqueue(1),
    "enqueue_many": lambda queue, _: queue.enqueue_many([1]),
    "claim": lambda queue, _: queue.claim(),
    "finish": lambda queue, items: queue.finish(items),
    "finish_and_claim": lambda queue, items: queue.finish_and_claim(items),
    "release": lambda queue, items: queue.release(items),
    "renew": lambda queue, items: queue.renew(items),
    "fail": lambda queue, items: queue.fail(items),
    "recover": lambda queue, _: queue.recover(),
    "requeue": lambda queue, _: queue.requeue("a"),
    "redrive": lambda queue, _: queue.redrive(),
    "resolve": lambda queue, _: queue.resolve("a", "finish"),
    "cancel": lambda queue, _: queue.cancel("a"),
    "discard": lambda queue, _: queue.discard("a"),
    "purge": lambda queue, _: queue.purge(),
    "pause": lambda queue, _: queue.pause(),
    "resume": lambda queue, _: queue.resume(),
    "drain": lambda queue, _: queue.drain(),
    "configure": lambda queue, _: queue.configure(max_length=1),
    "counts": lambda queue, _: queue.counts(),
    "settings": lambda queue, _: queue.settings(),
    "oldest_age": lambda queue, _: queue.oldest_age(),
    "get": lambda queue, _: queue.get("a"),
    "scan": lambda queue, _: list(queue.scan()),
    "peek": lambda queue, _: queue.peek(),
    "batch_progress": lambda queue, _: queue.batch_progress("b"),
}
READING = {"counts", "settings", "oldest_age", "get", "scan", "peek", "batch_progress"}
every_call = pytest.mark.parametrize("verb", CALLS)


@every_call
def test_an_empty_server_is_not_an_empty_queue(queue: Queue, redis_client: redis.Redis, verb: str) -> None:
    """A client that knows the queue refuses to go on when the server has no trace of it, and makes nothing anew."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    redis_client.flushall()
    with pytest.raises(StateLost) as caught:
        CALLS[verb](queue, items)
    assert caught.value.epoch == items[0].epoch
    assert not redis_client.exists(Keys("emails")["meta"])


@every_call
def test_another_generation_of_the_queue(
    queue: Queue, open_queue: OpenQueue, clock: Clock, redis_client: redis.Redis, verb: str
) -> None:
    """A client from before a loss can't touch the queue that was made since."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    redis_client.flushall()
    clock.advance(1)
    open_queue().enqueue(2, id="b")
    before = redis_client.hgetall(Keys("emails")["meta"])
    with pytest.raises(StaleEpoch) as caught:
        CALLS[verb](queue, items)
    assert (caught.value.known, caught.value.found) == (items[0].epoch, items[0].epoch + 1000)
    assert redis_client.hgetall(Keys("emails")["meta"]) == before


@every_call
def test_a_queue_that_is_being_rebuilt(queue: Queue, redis_client: redis.Redis, verb: str) -> None:
    """While a queue is rebuilt one may look at it, and nothing else."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    redis_client.hset(Keys("emails")["meta"], "state", "rebuilding")
    if verb in READING:
        CALLS[verb](queue, items)
    else:
        with pytest.raises(Rebuilding):
            CALLS[verb](queue, items)


def test_a_client_that_knows_nothing(open_queue: OpenQueue) -> None:
    """For a client that never saw the queue a queue that does not exist is empty, and no call but three makes it."""
    for name, call in CALLS.items():
        if name not in ("enqueue", "enqueue_many", "pause", "configure", "drain", "get"):
            call(open_queue(name), [])
            assert open_queue(name).counts().enqueued == 0


def test_accepting_the_loss(queue: Queue, redis_client: redis.Redis) -> None:
    """After adopt a client goes on with what there is; what it held before it can't finish."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    redis_client.flushall()
    queue.adopt()
    assert queue.claim() == []
    assert queue.enqueue(2, id="a").created
    with pytest.raises(LeaseLost):
        queue.finish(items)
    assert queue.counts().queued == 1


def test_accepting_another_generation(
    queue: Queue, open_queue: OpenQueue, clock: Clock, redis_client: redis.Redis
) -> None:
    """After adopt a client works on the queue that the server has now."""
    queue.enqueue(1)
    redis_client.flushall()
    clock.advance(1)
    open_queue().enqueue(2)
    queue.adopt()
    assert [item.payload for item in queue.claim(5)] == [2]


def test_an_epoch_only_grows(queue: Queue, clock: Clock, redis_client: redis.Redis) -> None:
    """A queue that is made again after a loss has a greater epoch than before, so that deliveries stay in order."""
    queue.enqueue(1)
    (before,) = queue.claim()
    redis_client.flushall()
    clock.advance(0.001)
    queue.adopt()
    queue.enqueue(1)
    (after,) = queue.claim()
    assert after.epoch > before.epoch


def test_lost_scripts_are_loaded_again(queue: Queue, redis_client: redis.Redis) -> None:
    """SCRIPT FLUSH is no loss: the call that meets it loads its script and goes on."""
    queue.enqueue(1)
    redis_client.script_flush()
    queue.enqueue(2)
    redis_client.script_flush()
    assert [item.payload for item in queue.claim(5)] == [1, 2]
