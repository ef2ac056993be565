"""What each caller gets when many call at once: what it would have got alone, in fewer calls of scripts."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from typing import Any

import pytest
import redis
from coalesce.conftest import OpenCrowd, call, calls_of_scripts, first_of
from proxy import FaultProxy

from reliq import Enqueued, LeaseLost, New, PayloadError, Queue, QueueFull, QueuePaused, Unavailable, _scripts
from reliq.embedded import Server

CALLERS = 40
ENQUEUE = _scripts.load("enqueue").sha.encode()
FINISH = _scripts.load("finish").sha.encode()

pytestmark = pytest.mark.usefixtures("evidence")


def payloads(queue: Queue, count: int = 1000) -> list[Any]:
    return [item.payload for item in queue.claim(count)]


def kinds(outcomes: list[Any]) -> Counter[type]:
    return Counter(map(type, outcomes))


def test_enqueues_go_together(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Many callers take far fewer calls than they have items, and each is told of its own."""
    crowd = open_crowd(server.socket_url)
    crowd.all([[call("counts")]])
    redis_client.config_resetstat()
    outcomes = crowd.all([[call("enqueue", (n, i), id=f"{n}-{i}") for i in range(10)] for n in range(CALLERS)])
    assert calls_of_scripts(redis_client) < CALLERS * 10 / 3
    assert outcomes == [[Enqueued(f"{n}-{i}", True) for i in range(10)] for n in range(CALLERS)]


def test_each_callers_items_keep_their_order(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """The items of one caller are claimed in the order in which it enqueued them."""
    open_crowd(server.socket_url).all([[call("enqueue", [n, i]) for i in range(10)] for n in range(CALLERS)])
    with Queue("q", server.socket_url) as queue:
        claimed = payloads(queue)
    for caller in range(CALLERS):
        assert [i for n, i in claimed if n == caller] == list(range(10))


def test_finishes_go_together(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Single finishes of many callers take far fewer calls than there are items."""
    crowd = open_crowd(server.socket_url)
    with Queue("q", server.socket_url) as queue:
        queue.enqueue_many(range(CALLERS * 10))
        items = queue.claim(CALLERS * 10)
        redis_client.config_resetstat()
        outcomes = crowd.all([[call("finish", item) for item in items[n::CALLERS]] for n in range(CALLERS)])
        assert calls_of_scripts(redis_client) < CALLERS * 10 / 3
        assert outcomes == [[None] * 10] * CALLERS
        assert queue.counts().finished == CALLERS * 10


def test_a_lone_caller_sends_at_once(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """One after another each call is sent by itself."""
    crowd = open_crowd(server.socket_url)
    crowd.all([[call("enqueue", "first")]])
    redis_client.config_resetstat()
    crowd.all([[call("enqueue", n) for n in range(20)]])
    assert calls_of_scripts(redis_client) == 20


def test_lost_replies(proxy: FaultProxy, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Replies and requests get lost under a crowd: every acknowledged item is there, and there once."""
    crowd = open_crowd(proxy.url)
    crowd.all([[call("enqueue", -1)]])
    lost = [
        proxy.lose_reply(5, match=ENQUEUE),
        proxy.lose_request(5, match=ENQUEUE),
        proxy.lose_reply(5, match=ENQUEUE),
    ]
    outcomes = crowd.all([[call("enqueue", n * 10 + i) for i in range(10)] for n in range(CALLERS)])
    assert kinds([*chain(*outcomes)]) == {Enqueued: CALLERS * 10}
    assert sum(rule.fired for rule in lost) == 15
    with Queue("q", proxy.url) as queue:
        assert Counter(payloads(queue)) == Counter(range(-1, CALLERS * 10))


def test_nobody_answers(proxy: FaultProxy, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Each caller gets an Unavailable of its own, that names its own item and no other."""
    crowd = open_crowd(proxy.url, timeout=0)
    crowd.all([[call("enqueue", "warm")] for _ in range(crowd.at_once)])
    proxy.lose_reply(CALLERS, match=ENQUEUE)
    errors = first_of(crowd.all([[call("enqueue", n, id=str(n))] for n in range(CALLERS)]))
    failed = [(n, error) for n, error in enumerate(errors) if isinstance(error, Unavailable)]
    assert len(failed) == CALLERS, kinds(errors)
    assert [error.ids for n, error in failed] == [(str(n),) for n, _ in failed]
    assert all(error.may_have_been_applied for _, error in failed)
    assert len({id(error) for _, error in failed}) == CALLERS


def test_room_for_some(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """At the edge of a full queue as many get in as there is room, and each of the others an error of its own."""
    crowd = open_crowd(server.socket_url)
    with Queue("q", server.socket_url) as queue:
        queue.configure(max_length=10)
        outcomes = first_of(crowd.all([[call("enqueue", n)] for n in range(CALLERS)]))
        assert kinds(outcomes) == {Enqueued: 10, QueueFull: CALLERS - 10}
        assert len({id(outcome) for outcome in outcomes}) == CALLERS
        created = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Enqueued)]
        assert sorted(payloads(queue)) == created


def test_known_ids_in_a_full_queue(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Who enqueues an id that the queue knows is told so, although the others are refused."""
    crowd = open_crowd(server.socket_url)
    with Queue("q", server.socket_url) as queue:
        queue.configure(max_length=2)
        queue.enqueue_many([New(n, id=f"known-{n}") for n in range(2)])
    mixed = [call("enqueue", n, id=f"known-{n % 2}" if n % 4 == 0 else None) for n in range(CALLERS)]
    outcomes = first_of(crowd.all([[each] for each in mixed]))
    assert outcomes[::4] == [Enqueued("known-0", False)] * (CALLERS // 4)
    assert kinds(outcomes) == {Enqueued: CALLERS // 4, QueueFull: CALLERS * 3 // 4}


def test_a_refusal_of_all(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """A closed queue refuses every caller, with an exception that no other caller has."""
    crowd = open_crowd(server.socket_url)
    with Queue("q", server.socket_url) as queue:
        queue.pause(enqueue=True)
        errors = first_of(crowd.all([[call("enqueue", n)] for n in range(CALLERS)]))
        assert kinds(errors) == {QueuePaused: CALLERS}
        assert len({id(error) for error in errors}) == CALLERS
        assert {error.queue for error in errors} == {"q"}


def test_a_payload_that_cannot_be_sent(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """It is its own caller's error alone."""
    crowd = open_crowd(server.socket_url)
    outcomes = first_of(crowd.all([[call("enqueue", object() if n % 4 == 0 else n)] for n in range(CALLERS)]))
    assert kinds(outcomes) == {PayloadError: CALLERS // 4, Enqueued: CALLERS * 3 // 4}
    with Queue("q", server.socket_url) as queue:
        assert sorted(payloads(queue)) == [n for n in range(CALLERS) if n % 4]


def test_one_id_from_many(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Of callers that enqueue the same id one creates the item, and all others are told that it is there."""
    crowd = open_crowd(server.socket_url)
    outcomes = first_of(crowd.all([[call("enqueue", n, id="same")] for n in range(CALLERS)]))
    assert Counter(outcomes) == {Enqueued("same", True): 1, Enqueued("same", False): CALLERS - 1}
    with Queue("q", server.socket_url) as queue:
        assert payloads(queue) == [outcomes.index(Enqueued("same", True))]


def test_options_travel_with_their_item(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """Delays and headers are those of the item, whatever its neighbours in the call have."""
    crowd = open_crowd(server.socket_url)
    options: list[dict[str, Any]] = [{}, {"delay": 500.0}, {"headers": {"a": "b"}}, {"delay": 900.0}]
    crowd.all([[call("enqueue", n, id=str(n), **options[n % 4])] for n in range(CALLERS)])
    with Queue("q", server.socket_url) as queue:
        infos = [queue.get(str(n)) for n in range(CALLERS)]
    assert [info.payload for info in infos] == list(range(CALLERS))
    assert [str(info.state) for info in infos] == ["queued", "scheduled", "queued", "scheduled"] * (CALLERS // 4)
    assert [dict(info.headers) for info in infos] == [{}, {}, {"a": "b"}, {}] * (CALLERS // 4)
    dues = [info.at - info.enqueued_at for info in infos if info.at and info.enqueued_at]
    assert dues == pytest.approx([500.0, 900.0] * (CALLERS // 4), abs=0.1)


def test_old_and_new_receipts_of_one_item(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """A stale holder's finish is refused and the holder's is not, although both go at the same time."""
    crowd = open_crowd(server.socket_url)
    with Queue("q", server.socket_url) as queue:
        queue.enqueue_many(range(CALLERS))
        stale = queue.claim(CALLERS, lease=0.001)
        current = queue.claim(CALLERS, wait=5)
        assert {item.id for item in stale} == {item.id for item in current}
        pairs = [item for pair in zip(stale, current, strict=True) for item in pair]
        outcomes = first_of(crowd.all([[call("finish", item)] for item in pairs]))
        refused = [error for error in outcomes[::2] if isinstance(error, LeaseLost)]
        assert [error.ids for error in refused] == [(item.id,) for item in stale]
        assert outcomes[1::2] == [None] * CALLERS
        assert queue.counts().finished == CALLERS


def test_large_payloads(server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd) -> None:
    """More than fits into one call goes in several, in order and whole."""
    crowd = open_crowd(server.socket_url)
    text = "x" * 400_000
    outcomes = crowd.all([[call("enqueue", f"{n}{text}") for _ in range(2)] for n in range(CALLERS)])
    assert kinds([*chain(*outcomes)]) == {Enqueued: CALLERS * 2}
    with Queue("q", server.socket_url) as queue:
        assert Counter(payloads(queue)) == Counter({f"{n}{text}": 2 for n in range(CALLERS)})


def test_times_of_the_crowd_are_those_of_the_server(
    server: Server, redis_client: redis.Redis, open_crowd: OpenCrowd
) -> None:
    """Items stand in the order of their stamps: a crowd does not mix up first in, first out."""
    open_crowd(server.socket_url).all([[call("enqueue", n) for _ in range(5)] for n in range(CALLERS)])
    with Queue("q", server.socket_url) as queue:
        at = [item.enqueued_at for item in queue.claim(1000)]
    assert all(a <= b for a, b in pairwise(at))
