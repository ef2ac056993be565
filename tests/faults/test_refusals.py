"""Servers that refuse: memory, replicas, eviction, rights, somebody's slow script."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from contract.evidence import check_server
from proxy import FaultProxy
from servers import start_server, wait_until

from reliq import AccessDenied, MemoryFull, New, Queue, ServerTooOld, Unavailable, UnsafeServer
from reliq._policy import ServerFacts
from reliq._policy import check_server as check_facts
from reliq.embedded import Server

SECRET = "s3cr3t-of-the-test"
OpenQueue = Callable[..., Queue]


@pytest.fixture
def admin(fresh_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fresh_server.socket_url) as client:
        yield client


def test_full_memory(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """A full server refuses new items and drains: everything that takes items out, or moves them, works."""
    queue = open_queue(fresh_server.socket_url, timeout=2)
    queue.configure(retry="tail")
    queue.enqueue_many(range(20))
    held = queue.claim(2, lease=0.001)
    admin.config_set("maxmemory", 1)
    with pytest.raises(MemoryFull):
        queue.enqueue("one too many")
    wait_until(lambda: queue.counts().expired_claims, "the lease has ended")
    assert queue.recover().requeued == 2
    held = queue.claim(6)
    queue.renew(held, 60)
    queue.release(held[5])
    queue.fail(held[4], "broken")
    queue.fail(held[3], "broken", dead=True)
    held = queue.finish_and_claim(held[:3], 100)
    queue.finish(held)
    assert queue.redrive() == 1
    queue.finish(queue.claim(100))
    admin.config_set("maxmemory", 0)
    counts = queue.counts()
    assert (counts.finished, counts.enqueued) == (20, 20)
    check_server(admin)


def test_full_memory_can_be_looked_at(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """How far a batch is can be asked of a full server too: it is what people want to know then."""
    queue = open_queue(fresh_server.socket_url, timeout=2)
    queue.batch([1, 2, 3], then=New("then"), id="b")
    queue.finish(queue.claim())
    admin.config_set("maxmemory", 1)
    assert queue.batch_progress("b") == (3, 2)
    admin.config_set("maxmemory", 0)


def test_full_memory_of_a_server_that_forgot_the_scripts(
    fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue
) -> None:
    """Scripts can be loaded into a full server, so that a worker that starts then can drain it."""
    open_queue(fresh_server.socket_url).enqueue_many(range(3))
    admin.script_flush()
    admin.config_set("maxmemory", 1)
    worker = open_queue(fresh_server.socket_url, timeout=2)
    worker.finish(worker.claim(3))
    assert worker.counts().finished == 3


def test_evicting_policy(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """A server that may delete items is refused before anything is sent to it."""
    admin.config_set("maxmemory-policy", "allkeys-lru")
    queue = open_queue(fresh_server.socket_url)
    with pytest.raises(UnsafeServer, match="allkeys-lru"):
        queue.enqueue("payload")
    assert admin.dbsize() == 0
    admin.config_set("maxmemory-policy", "noeviction")
    queue.enqueue("payload")


@pytest.mark.parametrize(
    ("name", "version", "good"),
    [
        ("Redis", "6.2.14", False),
        ("Redis", "7.0.0", True),
        ("Redis", "7.0", True),
        ("Redis", "10.1.0", True),
        ("Valkey", "7.1.9", False),
        ("Valkey", "7.2.4", True),
        ("Valkey", "9.1.0", True),
        ("Redis", "", True),
    ],
)
def test_oldest_servers(name: str, version: str, good: bool) -> None:
    """Older than Redis 7.0 and Valkey 7.2 is refused; a server that hides its version is taken."""
    facts = ServerFacts(name, version, "noeviction", "master")
    if good:
        check_facts(facts)
    else:
        with pytest.raises(ServerTooOld, match=version):
            check_facts(facts)


def test_replica_is_read_only(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """A replica is tried until the deadline, because a failover may make it the master; nothing was applied."""
    queue = open_queue(fresh_server.socket_url, timeout=0.4)
    queue.enqueue("first")
    with start_server() as master:
        admin.replicaof("127.0.0.1", str(master.port))
        with pytest.raises(Unavailable) as caught:
            queue.enqueue("second")
        assert not caught.value.may_have_been_applied
        assert caught.value.attempts >= 3
        assert "READONLY" in str(caught.value)


def test_replica_that_is_promoted(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """A call that meets a replica goes through when that becomes the master."""
    queue = open_queue(fresh_server.socket_url, timeout=20)
    queue.enqueue("first")
    admin.replicaof("127.0.0.1", "1")  # nobody is there: it keeps its data and waits
    promote = threading.Timer(0.3, lambda: admin.replicaof("NO", "ONE"))
    promote.start()
    queue.enqueue("second")
    promote.join()
    assert [item.payload for item in queue.claim(9)] == ["first", "second"]


def test_too_few_replicas(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """A master without its replicas refuses before a script starts: tried until the deadline, and not applied."""
    queue = open_queue(fresh_server.socket_url, timeout=0.4)
    queue.enqueue("first")
    admin.config_set("min-replicas-to-write", 1)
    with pytest.raises(Unavailable, match="NOREPLICAS") as caught:
        queue.claim()
    assert not caught.value.may_have_been_applied
    assert queue.counts().queued == 1
    admin.config_set("min-replicas-to-write", 0)
    assert len(queue.claim()) == 1


def test_somebodys_slow_script(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """While another client's script keeps the server busy, calls are repeated and then succeed."""
    queue = open_queue(fresh_server.socket_url, timeout=20)
    queue.enqueue("first")
    admin.config_set("busy-reply-threshold", 20)
    spinning = threading.Thread(target=spin, args=(fresh_server.socket_url,))
    spinning.start()
    wait_until(lambda: is_busy(admin), "the server is busy")
    killer = threading.Timer(0.3, admin.script_kill)
    killer.start()
    queue.enqueue("second")
    newcomer = open_queue(fresh_server.socket_url)
    assert [item.payload for item in newcomer.claim(9)] == ["first", "second"]
    killer.join()
    spinning.join(10)


def spin(url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=30) as client, pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


def is_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


@pytest.mark.parametrize(
    "case", ["no password", "wrong password", "unknown user", "no right to scripts", "no right to keys"]
)
def test_access_denied_at_once(
    case: str, fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """Credentials and rights don't get better by trying: one attempt, and no password in any message or log."""
    caplog.set_level(logging.DEBUG)
    admin.acl_setuser("few", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=["+@all", "-@scripting"])
    admin.acl_setuser("elsewhere", enabled=True, passwords=[f"+{SECRET}"], keys=["other:*"], commands=["+@all"])
    user = {"wrong password": "few", "no right to scripts": "few", "no right to keys": "elsewhere"}.get(case, "nobody")
    password = SECRET + "-wrong" * (case == "wrong password")
    admin.config_set("requirepass", "another-" + SECRET)
    with FaultProxy(fresh_server.url) as proxy:
        login = "" if case == "no password" else f"{user}:{password}@"
        queue = open_queue(f"redis://{login}127.0.0.1:{proxy.port}/0", timeout=20)
        started = time.monotonic()
        with pytest.raises(AccessDenied) as caught:
            queue.claim()
        assert time.monotonic() - started < 5
        assert proxy.connections == 1
    chain: list[BaseException] = [caught.value]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    texts = [str(error) + repr(error) for error in chain] + [caplog.text, repr(queue)]
    assert not [text for text in texts if SECRET in text]


def test_right_to_info_is_not_needed(fresh_server: Server, admin: redis.Redis, open_queue: OpenQueue) -> None:
    """A user without the right to INFO is served: the check of the server's settings is left out."""
    admin.acl_setuser("plain", enabled=True, passwords=[f"+{SECRET}"], keys=["reliq:*"], commands=["+@all", "-info"])
    queue = open_queue(f"redis://plain:{SECRET}@127.0.0.1:{fresh_server.port}/0")
    queue.enqueue("payload")
    assert len(queue.claim()) == 1
