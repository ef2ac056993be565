"""Each verb, with its request or its reply lost: the same result and the same state as without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from proxy import FaultProxy, Rule
from scripts.prepared import ACTIONS, Prepared

from reliq import Batch, Claimed, Enqueued, Queue, _scripts
from reliq._keys import Keys

Break = Callable[[FaultProxy, bytes], Rule]
FAULTS: dict[str, Break] = {
    "request lost": lambda proxy, sha: proxy.lose_request(match=sha),
    "reply lost": lambda proxy, sha: proxy.lose_reply(match=sha),
    "reply lost twice": lambda proxy, sha: proxy.lose_reply(2, match=sha),
    "reply cut off": lambda proxy, sha: proxy.lose_reply(match=sha, keep_bytes=7),
}
# The verb is safe to repeat, but only the first call knows how many it moved.
COUNTS_THE_LAST_CALL = set("recover cron_tick".split()) | {
    f"purge {s}" for s in "queued scheduled orphaned dead finished".split()
}
RECEIPT = b"a-receipt-of-ours"[:16]


@pytest.fixture
def broken(proxy: FaultProxy, open_queue: Callable[..., Queue], prepared: Prepared) -> Queue:
    """A client of the prepared queue behind the proxy, connected, with all scripts on the server."""
    queue = open_queue(proxy.url)
    prepared.clock.follow(queue)
    queue.counts()
    for name in _scripts.names():
        prepared.admin.script_load(_scripts.load(name).source)
    return queue


def run(action: str, queue: Queue, prepared: Prepared) -> tuple[Any, dict[bytes, Any]]:
    """Result and state of a call from the prepared state, with what is random in it made the same."""
    prepared.restore(queue)
    queue._session.abandoned.append(RECEIPT)
    result = ACTIONS[action][1](queue, prepared)
    state = prepared.contents()
    state.get(Keys("q")["meta"], {}).pop(b"redrive_token", None)
    state.pop(Keys("q")["journal"], None)  # a repeat may say again what to look at
    if isinstance(result, Claimed):
        fields = ("id", "payload", "delivery", "attempt", "epoch", "receipt")
        result = [[getattr(item, name) for name in fields] for item in result], result.lost
    return result, state


def ids_of(result: Any) -> list[str]:
    """The ids that an enqueue, many of them, or a batch answered with."""
    made = result.members if isinstance(result, Batch) else result if isinstance(result, list) else [result]
    return [entry.id for entry in made]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_same_result_and_state_as_without_the_fault(
    action: str, fault: str, broken: Queue, proxy: FaultProxy, prepared: Prepared
) -> None:
    """The caller gets the right answer, and the effect happened exactly once."""
    expected, expected_state = run(action, broken, prepared)
    rule = FAULTS[fault](proxy, _scripts.load(ACTIONS[action][0]).sha.encode())
    result, state = run(action, broken, prepared)
    assert rule.fired >= 1
    assert state == expected_state
    if action.startswith(("enqueue", "batch")) and "reply" in fault:
        assert ids_of(result) == ids_of(expected)  # whose it was can't be told for an id that the caller gave
    elif action not in COUNTS_THE_LAST_CALL or "reply" not in fault:
        assert result == expected
    prepared.check()


@pytest.mark.parametrize("action", ACTIONS)
def test_scripts_flushed_before_the_call(action: str, broken: Queue, prepared: Prepared) -> None:
    """A server that forgot the scripts gets them again, and the call does what it does."""
    expected = run(action, broken, prepared)
    prepared.admin.script_flush()
    assert run(action, broken, prepared) == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_generated_id_is_this_calls_own(
    fault: str, redis_client: redis.Redis, proxy: FaultProxy, open_queue: Callable[..., Queue]
) -> None:
    """An item whose id the call itself made was created by it, also where the reply of the first attempt was lost."""
    queue = open_queue(proxy.url)
    FAULTS[fault](proxy, _scripts.load("enqueue").sha.encode())
    made = queue.enqueue("payload")
    assert made == Enqueued(made.id, created=True)
    assert all(entry.created for entry in queue.enqueue_many(range(10)))
    assert queue.counts().enqueued == 11


def test_connections_reset_between_calls(proxy: FaultProxy, redis_client: redis.Redis, open_queue: Any) -> None:
    """Connections that died while idle cost a new one, never an error."""
    queue = open_queue(proxy.url)
    for number in range(5):
        queue.enqueue(number)
        assert proxy.reset_connections() >= 1
    assert [item.payload for item in queue.claim(10)] == list(range(5))


def test_lost_request_leaves_the_time_of_the_server(
    proxy: FaultProxy, redis_client: redis.Redis, open_queue: Any
) -> None:
    """A lease is counted from before the first attempt, so that a client never trusts it for too long."""
    queue = open_queue(proxy.url)
    queue.enqueue("payload")
    proxy.lose_reply(3, match=_scripts.load("claim").sha.encode())
    item = queue.claim(lease=30)[0]
    leases: Any = redis_client.zrange(Keys("q")["leases"], 0, 0, withscores=True)
    deadline = leases[0][1] / 1000
    seconds, micros = redis_client.time()
    assert item.remaining() <= deadline - (seconds + micros / 1e6)
