"""Real Sentinels. Those that fail over are a test's own, those that are only talked to are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract.clients import make_queue
from servers import server_binary

from reliq import Queue
from reliq.testing.network import has_namespaces
from reliq.testing.topology import Topology

DOWN_AFTER = 2.0  # seconds; with less, Sentinels take a busy master, or one that is just new, for a dead one

OpenQueue = Callable[..., Queue]


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def topology() -> Iterator[Topology]:
    """One master, two replicas, three Sentinels, for a test that breaks them."""
    with Topology(binary=server_binary(), down_after=DOWN_AFTER, network="loopback") as running:
        yield running


@pytest.fixture
def cuttable() -> Iterator[Topology]:
    """The same, on a network that a test may cut."""
    if not has_namespaces():
        pytest.skip("network namespaces need root and iproute2")
    with Topology(binary=server_binary(), down_after=DOWN_AFTER, network="namespaces") as running:
        yield running


@pytest.fixture(scope="module")
def calm() -> Iterator[Topology]:
    """Shared, with passwords; its Sentinels never fail over by themselves. Leave it as it was."""
    options: dict[str, Any] = {"password": "s3rver/pass", "sentinel_password": "s3ntinel@pass"}
    with Topology(binary=server_binary(), replicas=1, down_after=600.0, network="loopback", **options) as running:
        yield running


@pytest.fixture
def open_queue(style: str) -> Iterator[OpenQueue]:
    """Opens queues of both styles, and closes them after the test."""
    opened: list[Queue] = []

    def open_one(url: Any, name: str = "q", **options: Any) -> Queue:
        opened.append(make_queue(style, name, url, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()
