"""A link that is cut without a word: nobody sends FIN or RST, nothing comes any more."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest
import redis
from proxy import FaultProxy
from servers import wait_until

from reliq import Queue
from reliq.testing.faults import Faults
from reliq.testing.topology import Topology

OpenQueue = Callable[..., Queue]


def test_silent_wait_is_noticed(redis_client: redis.Redis, proxy: FaultProxy, open_queue: OpenQueue) -> None:
    """A wait whose end does not come in time is broken off, and the claim asks anew: within 5 s and the next call."""
    queue = open_queue(proxy.url)
    queue.enqueue(0)
    queue.finish(queue.claim())
    rule = proxy.delay(60, match=b"BLPOP")
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.extend(item.payload for item in queue.claim(wait=1.0)))
    waiter.start()
    wait_until(lambda: rule.fired, "it waits")
    started = time.monotonic()
    with Queue("q", proxy.url) as producer:
        producer.enqueue("payload")
    waiter.join(10)
    assert got == ["payload"]
    assert time.monotonic() - started < 5.0
    proxy.clear()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a platform without it")
def test_the_kernel_watches_over_connections(proxy: FaultProxy) -> None:
    """An idle link that is cut is known to be so after 5 s, and so is one on which something was sent."""
    with Queue("q", proxy.url) as queue:
        queue.enqueue(1)
        opened = queue._driver._idle[0]._sock
        idle, interval, count = (
            opened.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        )
        assert idle + interval * count <= 5
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000


@pytest.mark.slow
def test_cut_from_the_only_server(cuttable: Topology, open_queue: OpenQueue) -> None:
    """A client that is cut off with everything else waits, and goes on when the network is back."""
    queue = open_queue(cuttable.url)
    queue.enqueue(1)
    faults = Faults(cuttable)
    faults.partition(*cuttable.everyone)
    caller = threading.Thread(target=lambda: queue.enqueue(2))
    caller.start()
    wait_until(lambda: queue._driver.retries >= 1, "the silence is noticed", 8)
    faults.heal()
    caller.join(20)
    assert queue.counts().queued == 2
