"""Deployments of real servers and Sentinels, on the servers that a lane or a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from servers import server_binary, wait_until

from reliq import failover
from reliq.errors import ServerError
from reliq.failover import FailoverRefused, FailoverReport
from reliq.testing.topology import Topology

PATIENCE = 5.0  # seconds; with less, Sentinels on a busy machine hold a master for dead that only is slow
NOTICES = 1.0  # seconds; for tests that wait until Sentinels see what was killed

Start = Callable[..., Topology]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts topologies on plain ports, stopped after the test. `server`: of which lane, if not of this one."""
    started: list[Topology] = []

    def begin(*, server: str | None = None, **options: Any) -> Topology:
        defaults = {"binary": server_binary(server), "network": "loopback", "down_after": PATIENCE}
        started.append(Topology(**{**defaults, **options}))
        return started[-1].start()

    yield begin
    for topology in started:
        topology.close()


@pytest.fixture
def topology(start: Start) -> Topology:
    """A master with two replicas and three Sentinels, on the lane's server."""
    return start()


def ask(client: redis.Redis, *words: str) -> Any:
    """Sends a command that redis-py has no typed method for."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def fail_over(topology: Topology, **options: Any) -> FailoverReport:
    """`failover.run` as soon as it may begin: what is refused has changed nothing, so it is asked again."""

    def begun() -> FailoverReport | None:
        try:
            return failover.run(topology.url, **options)
        except FailoverRefused:  # not yet: the last failover is not over, or somebody is slow
            return None

    report = wait_until(begun, "a failover may begin", timeout=45.0)
    assert report
    return report


def settle(topology: Topology) -> None:
    """Waits until a failover would work. Sentinels cut connections while they turn a master into a replica."""

    def settled() -> bool:
        try:
            topology.wait_ready(timeout=1.0)
            return not failover.readiness(topology.url).reasons  # a busy machine looks like a dead master for a moment
        except ServerError:  # not yet
            return False

    wait_until(settled, "the deployment is whole again", timeout=45.0)
