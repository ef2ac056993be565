"""Topologies that fail over while producers and workers are busy, and those whose replicas are held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from contract.clients import make_queue
from failover.arena import Arena
from failover.behind import Behind
from servers import server_binary

from reliq import Queue
from reliq.testing.topology import Topology

DOWN_AFTER = 1.0  # seconds; with less, Sentinels think a new master down before they have connected to it

MakeArena = Callable[[str], Arena]
OpenQueue = Callable[..., Queue]

_numbers = count(1)


@pytest.fixture
def make_arena(tmp_path: Path) -> Iterator[MakeArena]:
    """Makes an arena on a network of the kind that the fault needs; nothing of it is left after the test."""
    made: list[Arena] = []

    def make(network: str) -> Arena:
        made.append(Arena(Topology(binary=server_binary(), down_after=DOWN_AFTER, network=network), tmp_path))
        return made[-1].start()

    yield make
    for arena in made:
        arena.close()


@pytest.fixture
def topology() -> Iterator[Topology]:
    """A master, one replica and three Sentinels, on a network that may be cut."""
    with Topology(binary=server_binary(), replicas=1, down_after=DOWN_AFTER, network="auto") as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_queue(style: str, topology: Topology) -> Iterator[OpenQueue]:
    """Opens queues of both styles behind the Sentinels, and closes them after the test."""
    opened: list[Queue] = []

    def open_one(name: str = "q", **options: object) -> Queue:
        opened.append(make_queue(style, name, topology.url, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Topology]:
    """A master and a replica that nobody fails over but the test."""
    with Topology(binary=server_binary(), replicas=1, sentinels=0, network="auto") as running:
        yield running


@pytest.fixture
def behind(pair: Topology, style: str) -> Iterator[Behind]:
    """The same, with a queue of its own; afterwards master and replica are as before."""
    made = Behind(pair, style, f"q{next(_numbers)}")
    yield made
    made.close()
