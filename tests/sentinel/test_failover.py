"""What a client does while the master changes. Times are measured against those that the Sentinels need themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from sentinel.writing import Writer
from servers import wait_until

from reliq import Queue
from reliq.testing.faults import Faults
from reliq.testing.topology import Topology

ABOVE = 0.5  # seconds without service above what the Sentinels needed
OpenQueue = Callable[..., Queue]
Note = Callable[[str, object], None]


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_master_is_lost(how: str, style: str, topology: Topology, open_queue: OpenQueue, record_property: Note) -> None:
    """Producers go on as soon as there is a new master, also where the old one took the call and never answers."""
    old = topology.master
    with Writer(style, topology.url) as writer:
        record = getattr(Faults(topology), how)(old)
        switched = topology.wait_switched(old, since=record.at)
        writer.wait_for(20)
    gap = writer.gap(record.at)
    record_property("seconds", (how, style, round(switched, 2), round(gap, 2)))
    assert gap < switched + ABOVE
    assert writer.lost(open_queue(topology.url)) == []
    assert writer.counters[0] == len(writer.failovers) == 1
    assert writer.counters[1] >= 1


def test_nobody_returns_to_a_master_that_wakes_up(style: str, topology: Topology, open_queue: OpenQueue) -> None:
    """An old master that was frozen goes on as if nothing had happened; no client sends it anything any more."""
    old = topology.master
    queue = open_queue(topology.url)
    queue.enqueue("before")
    with Writer(style, topology.url) as writer:
        old.pause()
        topology.wait_switched(old)
        writer.wait_for(20)
        old.resume()
        assert old.info()["role"] == "master"
        before = int(old.info()["master_repl_offset"])
        writer.wait_for(100)
        queue.enqueue("after")
        assert int(old.info()["master_repl_offset"]) - before < 1000 or old.info()["role"] == "slave"
    assert writer.lost(queue) == []


@pytest.mark.slow
def test_planned_failover_loses_nothing(
    style: str, topology: Topology, open_queue: OpenQueue, record_property: Note
) -> None:
    """While the old master still takes writes, for ten seconds after the switch, nobody writes to it."""
    old = topology.master
    with Writer(style, topology.url) as writer:
        began = time.monotonic()
        topology.sentinels[0].call("SENTINEL", "FAILOVER", "mymaster")
        switched = topology.wait_switched(old, since=began)
        wait_until(lambda: old.info()["role"] == "slave", "the old master has become a replica", 30)
        writer.wait_for(20)
    gap = writer.gap(began)
    lost = writer.lost(open_queue(topology.url))
    record_property(
        "seconds", ("planned", style, round(switched, 2), round(gap, 2), len(writer.acknowledged), len(lost))
    )
    assert gap < switched + ABOVE
    assert lost == []


def test_two_failovers_in_a_row(style: str, topology: Topology, open_queue: OpenQueue) -> None:
    """The second one is ridden out as the first; the callback gets the old and the new address each time."""
    first = topology.master
    with Writer(style, topology.url) as writer:
        first.kill()
        topology.wait_switched(first)
        topology.wait_ready()
        writer.wait_for(20)
        second = topology.master
        second.kill()
        topology.wait_switched(second)
        writer.wait_for(20)
        third = topology.master
        end = f"{third.host}:{third.port}"
        wait_until(lambda: len(writer.failovers) > 1 and writer.failovers[-1][1] == end, "both were told")
    # More of them where Sentinels took a busy master for a dead one in between.
    told = [writer.failovers[0][0], *(new for _, new in writer.failovers)]
    assert writer.failovers == list(pairwise(told))
    assert told[0] == f"{first.host}:{first.port}"
    assert f"{second.host}:{second.port}" in told[1:-1]
    if len(told) == 3:
        assert writer.lost(open_queue(topology.url)) == []


def test_waiting_claim_moves_to_the_new_master(style: str, topology: Topology, open_queue: OpenQueue) -> None:
    """A claim that waits on a master that froze gets what is enqueued on the new one."""
    old = topology.master
    waiting, producer = open_queue(topology.url), Queue("q", topology.url)
    got: list[tuple[float, Any]] = []
    waiter = threading.Thread(target=lambda: got.extend((time.monotonic(), i.payload) for i in waiting.claim(wait=30)))
    waiter.start()
    wait_until(lambda: old.info("clients")["blocked_clients"] == "1", "the claim blocks")
    old.pause()
    topology.wait_switched(old)
    producer.enqueue("payload")
    enqueued = time.monotonic()
    waiter.join(10)
    producer.close()
    assert [payload for _, payload in got] == ["payload"]
    assert got[0][0] - enqueued < 1.0


@pytest.mark.slow
def test_machine_that_vanishes(style: str, cuttable: Topology, open_queue: OpenQueue, record_property: Note) -> None:
    """A master whose packets just stop coming costs hardly more than one that was killed."""
    old = cuttable.master
    with Writer(style, cuttable.url) as writer:
        record = Faults(cuttable).power_off(old)
        switched = cuttable.wait_switched(old, since=record.at)
        writer.wait_for(20)
    gap = writer.gap(record.at)
    record_property("seconds", ("power off", style, round(switched, 2), round(gap, 2)))
    assert gap < switched + ABOVE + 1.0  # a connection that is being made can't be broken off: it has 1 s


@pytest.mark.slow
def test_master_that_only_clients_reach(style: str, cuttable: Topology, open_queue: OpenQueue) -> None:
    """Cut off from replicas and Sentinels the old master goes on serving; clients leave it for the new one."""
    old = cuttable.master
    faults = Faults(cuttable)
    with Writer(style, cuttable.url) as writer:
        faults.partition(old)
        cuttable.wait_switched(old)
        writer.wait_for(100)
        switched = time.monotonic()
        writer.wait_for(50)
        faults.heal()
        wait_until(lambda: old.info()["role"] == "slave", "the old master has become a replica", 40)
        writer.wait_for(20)
    there = {info.id for info in open_queue(cuttable.url).scan("queued", page=1000)}
    assert [item for moment, item in writer.acknowledged if moment > switched and item not in there] == []
