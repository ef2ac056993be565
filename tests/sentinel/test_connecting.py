"""Finding the master, and what is said where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from servers import wait_until

from reliq import AccessDenied, Queue, Sentinel, Unavailable
from reliq.testing.topology import Topology

OpenQueue = Callable[..., Queue]


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> Iterator[None]:
    """A topology that is shared is emptied, and everything in it goes on after the test."""
    yield
    if "calm" in request.fixturenames:
        calm: Topology = request.getfixturevalue("calm")
        for node in calm.everyone:
            node.resume()
        calm.wait_ready()
        calm.master.call("FLUSHALL")


def sentinel_object(calm: Topology, **options: Any) -> Sentinel:
    passwords = {"password": calm.password, "sentinel_password": calm.sentinel_password}
    return Sentinel([node.address for node in calm.sentinels], "mymaster", **passwords | options)


@pytest.mark.parametrize("form", ["url", "object"])
def test_url_and_object(form: str, calm: Topology, open_queue: OpenQueue) -> None:
    """Both lead to the master, with passwords for it and for the Sentinels."""
    queue = open_queue(calm.url if form == "url" else sentinel_object(calm))
    queue.enqueue("payload")
    assert calm.master.call("HLEN", "reliq:{q}:items") == 1


def test_wrong_passwords(calm: Topology, open_queue: OpenQueue) -> None:
    """Refused at once, by the server as by the Sentinels; the message has no password in it."""
    for options in ({"password": "wr0ng"}, {"sentinel_password": "wr0ng"}):
        started = time.monotonic()
        with pytest.raises(AccessDenied) as caught:
            open_queue(sentinel_object(calm, **options)).enqueue("payload")
        assert time.monotonic() - started < 2
        assert "wr0ng" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)


def test_wrong_name(calm: Topology, open_queue: OpenQueue) -> None:
    """All Sentinels answer that they don't know it: nothing to wait for."""
    started = time.monotonic()
    with pytest.raises(Unavailable, match="mymastr") as caught:
        open_queue(calm.url.replace("/mymaster/", "/mymastr/")).enqueue("payload")
    assert time.monotonic() - started < 2
    assert not caught.value.may_have_been_applied
    assert quote(calm.password, safe="") not in str(caught.value)


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_first_sentinel_is_dead(how: str, calm: Topology, open_queue: OpenQueue) -> None:
    """The others are asked at the same time: it costs next to nothing."""
    first = calm.sentinels[0]
    queue = open_queue(calm.url if how == "hangs" else _with_dead_port(calm))
    if how == "hangs":
        first.pause()
    started = time.monotonic()
    queue.enqueue("payload")
    assert time.monotonic() - started < 0.5


def _with_dead_port(calm: Topology) -> Sentinel:
    listed = [("127.0.0.1", 1), *(node.address for node in calm.sentinels)]
    return Sentinel(listed, "mymaster", password=calm.password, sentinel_password=calm.sentinel_password)


def test_all_sentinels_hang(calm: Topology, open_queue: OpenQueue) -> None:
    """The master that is known in this process is used on, for new connections too."""
    queue, other, master = open_queue(calm.url), open_queue(calm.url), calm.master
    queue.enqueue(1)
    for node in calm.sentinels:
        node.pause()
    master.call("CLIENT", "KILL", "TYPE", "NORMAL")
    queue.enqueue(2)
    other.enqueue(3)
    assert queue.counts().queued == 3


def test_sentinels_that_never_answered(calm: Topology, open_queue: OpenQueue) -> None:
    """Who never knew a master is told what was heard from each Sentinel."""
    for node in calm.sentinels:
        node.pause()
    with pytest.raises(Unavailable) as caught:
        open_queue(calm.url, timeout=0.8).enqueue(4)
    assert all(f"127.0.0.1:{node.port}: no answer" in str(caught.value) for node in calm.sentinels)
    assert not caught.value.may_have_been_applied


def test_sentinels_and_master_are_gone(topology: Topology, open_queue: OpenQueue) -> None:
    """When the time is up the error says what is known of the call, and what the Sentinels said."""
    queue = open_queue(topology.url, timeout=1.0)
    queue.enqueue("payload", id="first")
    for node in (*topology.sentinels, topology.nodes[0]):
        node.kill()
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        queue.enqueue("payload", id="second")
    assert time.monotonic() - started < 3
    assert caught.value.ids == ("second",)
    assert "Sentinels: " in str(caught.value)


def test_sentinels_that_are_not_listed(topology: Topology, open_queue: OpenQueue) -> None:
    """One listed Sentinel is enough to begin with: a failover is followed after it has died."""
    first, *_ = topology.sentinels
    queue = open_queue(Sentinel([first.address], "mymaster"))
    queue.enqueue(1)
    watch = queue._driver._links._watch
    assert watch is not None
    wait_until(lambda: len(watch._links) == 3, "the others are learned")
    first.kill()
    old = topology.master
    old.kill()
    topology.wait_switched(old)
    queue.enqueue(2)
    assert queue.counts().queued == 2


def test_replica_is_refused(calm: Topology, open_queue: OpenQueue) -> None:
    """A server that the Sentinels name, and that says itself that it is a replica, gets no call."""
    master, replica = calm.master, calm.replicas[0]
    queue = open_queue(calm.url, timeout=0.5)
    queue.enqueue("payload")
    master.call("REPLICAOF", replica.host, replica.port)
    master.call("CLIENT", "KILL", "TYPE", "NORMAL")
    try:
        with pytest.raises(Unavailable, match="is a replica"):
            queue.counts()
    finally:
        master.call("REPLICAOF", "NO", "ONE")
        calm.wait_ready()
