"""Waiting for the end of an item: told, not asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from contract.clients import Clock, OpenQueue, make_queue
from proxy import FaultProxy
from servers import wait_until

from reliq import InvalidArgument, ItemNotFound, ItemState, Queue, Recovered
from reliq._keys import Keys
from reliq.embedded import Server
from reliq.errors import WaitTimeout
from reliq.info import ItemInfo

S = ItemState
CHANNEL = Keys("emails")["ended"]
WATCHED = Keys("emails")["watched"]
Waiter = Callable[..., "Future[ItemInfo]"]


@pytest.fixture
def waiter(style: str, server: Server, redis_client: redis.Redis) -> Iterator[Waiter]:
    """Waits for an item in a thread of its own, with a client of its own; returns when it listens."""
    with ThreadPoolExecutor(8) as pool:

        def wait(item_id: str, timeout: float = 30.0, url: str | None = None) -> Future[ItemInfo]:
            before = redis_client.zcard(WATCHED)

            def run() -> ItemInfo:
                queue = make_queue(style, "emails", url or server.socket_url)
                try:
                    return queue.wait(item_id, timeout)
                finally:
                    queue.close()

            future = pool.submit(run)
            wait_until(lambda: future.done() or redis_client.zcard(WATCHED) > before, "somebody waits")
            return future

        yield wait


def test_an_item_that_has_ended_is_answered_at_once(queue: Queue, clock: Clock) -> None:
    """Finished with its result, removed, or dead: who asks afterwards is told."""
    for item_id in "abc":
        queue.enqueue(1, id=item_id)
    finished, dead, _ = queue.claim(3)
    queue.finish(finished, result={"n": 7})
    queue.fail(dead, "broken", dead=True)
    queue.fail(_, "no use", discard=True)
    assert (queue.wait("a", 0).state, queue.wait("a").result) == (S.FINISHED, {"n": 7})
    assert (queue.wait("b").state, queue.wait("b").error) == (S.DEAD, "broken")
    assert (queue.wait("c").state, queue.wait("c").error) == (S.REMOVED, "no use")


def cancelled(queue: Queue, items: Any) -> None:
    queue.release(items)
    queue.cancel("a")


WAYS: dict[str, tuple[Callable[[Queue, Any], object], S]] = {
    "finish": (lambda q, items: q.finish(items), S.FINISHED),
    "result": (lambda q, items: q.finish(items, result=5), S.FINISHED),
    "finish_and_claim": (lambda q, items: q.finish_and_claim(items), S.FINISHED),
    "dead": (lambda q, items: q.fail(items, dead=True), S.DEAD),
    "its holder discards it": (lambda q, items: q.fail(items, discard=True), S.REMOVED),
    "cancel": (cancelled, S.REMOVED),
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_is_told(queue: Queue, waiter: Waiter, way: str) -> None:
    """However an item ends while somebody waits for it, the wait is over at once."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    waiting = waiter("a")
    began = time.monotonic()
    end, state = WAYS[way]
    end(queue, items)
    info = waiting.result(10)
    assert time.monotonic() - began < 1.5  # it asks by itself no sooner than after some seconds
    assert info.state is state
    assert info.result == (5 if way == "result" else None)


@pytest.mark.parametrize("expiry", ["dead", "hold"])
def test_the_end_of_a_lease(queue: Queue, waiter: Waiter, expiry: str) -> None:
    """An item that dies of its lease is told as well; one that somebody has to look at, when they have."""
    queue.configure(expiry=expiry)
    queue.enqueue(1, id="a")
    queue.claim(lease=0.001)
    waiting = waiter("a")
    wait_until(lambda: queue.recover() != Recovered(), "the lease has ended")
    if expiry == "hold":
        queue.resolve("a", "finish")
    assert waiting.result(3).state is (S.DEAD if expiry == "dead" else S.FINISHED)


def test_a_retry_is_no_end(queue: Queue, waiter: Waiter) -> None:
    """Who waits goes on waiting while the item is tried again."""
    queue.configure(retry="tail")
    queue.enqueue(1, id="a")
    waiting = waiter("a")
    queue.fail(queue.claim())
    assert not waiting.done()
    queue.finish(queue.claim(), result="at last")
    assert waiting.result(3).result == "at last"


def test_many_wait(queue: Queue, waiter: Waiter) -> None:
    """Several may wait for one item, and each for another."""
    queue.enqueue(1, id="a")
    queue.enqueue(2, id="b")
    mine, theirs = waiter("a"), waiter("b")
    queue.finish(queue.claim(2))
    assert [mine.result(3).id, theirs.result(3).id] == ["a", "b"]


def test_the_time_is_up(queue: Queue) -> None:
    """Who waits in vain is told so, and when: it is a TimeoutError as well."""
    queue.enqueue(1, id="a")
    began = time.monotonic()
    with pytest.raises(WaitTimeout) as caught:
        queue.wait("a", 0.05)
    assert 0.05 <= time.monotonic() - began < 2
    assert (caught.value.id, caught.value.queue, caught.value.seconds) == ("a", "emails", 0.05)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(WaitTimeout):
        queue.wait("a", 0)


def test_an_unknown_item(queue: Queue, waiter: Waiter) -> None:
    """An item that was never there, or that is purged meanwhile, is not waited for."""
    with pytest.raises(ItemNotFound):
        queue.wait("a")
    queue.enqueue(1, id="a")
    waiting = waiter("a")
    queue.purge()
    with pytest.raises(ItemNotFound):
        waiting.result(3)


def test_wrong_arguments(queue: Queue) -> None:
    """A timeout is 0 to a week."""
    for timeout in (-1, float("nan"), 8 * 86400, "long"):
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.wait("a", timeout)  # type: ignore[arg-type]  # what is tested


def test_a_message_that_gets_lost(queue: Queue, waiter: Waiter, proxy: FaultProxy, redis_client: redis.Redis) -> None:
    """Where the connection that listens is cut off before the item ends, who waits finds out by itself."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    waiting = waiter("a", url=proxy.url)
    redis_client.delete(WATCHED)  # so that nobody is told
    queue.finish(items, result=3)
    for client in redis_client.client_list(_type="pubsub"):
        redis_client.client_kill_filter(_id=client["id"])
    assert waiting.result(10).result == 3


def test_a_listener_that_is_cut_off_listens_again(queue: Queue, waiter: Waiter, redis_client: redis.Redis) -> None:
    """It makes a new connection, and is told of the end through that one."""
    queue.enqueue(1, id="a")
    waiting = waiter("a")
    (client,) = redis_client.client_list(_type="pubsub")
    redis_client.client_kill_filter(_id=client["id"])
    wait_until(
        lambda: [c for c in redis_client.client_list(_type="pubsub") if c["id"] != client["id"]], "it listens again"
    )
    queue.finish(queue.claim())
    assert waiting.result(3).state is S.FINISHED


def test_it_does_not_poll(queue: Queue, waiter: Waiter, redis_client: redis.Redis) -> None:
    """In a second of waiting there are two questions at most: one at the beginning, one with the answer."""
    queue.enqueue(1, id="a")
    waiting = waiter("a")
    redis_client.config_resetstat()
    with pytest.raises(TimeoutError):
        waiting.result(1.0)
    stats = redis_client.info("commandstats")
    assert stats.get("cmdstat_evalsha", {"calls": 0})["calls"] == 0
    queue.finish(queue.claim())
    assert waiting.result(3).state is S.FINISHED


def test_nothing_is_left_of_those_who_waited(queue: Queue, waiter: Waiter, redis_client: redis.Redis) -> None:
    """When all have been told nobody is noted as waiting, and no connection listens."""
    queue.enqueue(1, id="a")
    waiting = waiter("a")
    queue.finish(queue.claim())
    waiting.result(3)
    assert redis_client.zcard(WATCHED) == 0
    wait_until(lambda: not redis_client.client_list(_type="pubsub"), "nobody listens")


def test_those_who_gave_up_are_forgotten(queue: Queue, clock: Clock, redis_client: redis.Redis) -> None:
    """A wait that ended leaves a note that the next one takes away."""
    for item_id in "ab":
        queue.enqueue(1, id=item_id)
        with pytest.raises(WaitTimeout):
            queue.wait(item_id, 0.5)  # time enough to be noted
        clock.advance(10)
    assert redis_client.zrange(WATCHED, 0, -1) == [b"b"]


def test_only_those_are_told_who_wait(queue: Queue, redis_client: redis.Redis) -> None:
    """An item that nobody waits for is no message on the channel."""
    client: Any = redis_client  # redis-py's pubsub has no annotations
    listener = client.pubsub()
    listener.subscribe(CHANNEL)
    assert listener.get_message(timeout=5)
    queue.enqueue_many(range(3))
    queue.finish(queue.claim(3))
    assert listener.get_message(timeout=0.05) is None
    listener.close()


def test_the_same_queue_object_may_be_used_meanwhile(open_queue: OpenQueue, style: str) -> None:
    """While a thread waits, others of the process call the same object."""
    if style == "async":
        pytest.skip("threads do not share an AsyncQueue")
    queue = open_queue()
    queue.enqueue(1, id="a")
    told: list[ItemInfo] = []
    waiting = threading.Thread(target=lambda: told.append(queue.wait("a", 10)))
    waiting.start()
    wait_until(lambda: queue.counts().queued, "it is there")
    queue.finish(queue.claim())
    waiting.join()
    assert told[0].state is S.FINISHED
