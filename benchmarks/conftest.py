"""The measuring run: options, sizes, the server, and the table at its end. README.md says how to read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from servers import server_binary, start_server

from benchmarks.harness import Meter, Report
from reliq.embedded import Server

_REPORT = pytest.StashKey[Report]()
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    rounds: turns of each rival. batches: batches of 100 items in a turn. backlog: items of a standing backlog.
    calls: calls in a turn, one at a time. memory: items for which memory is taken. small, large: items of each state
    in the two queues whose times are compared.
    """

    rounds: int
    batches: int
    backlog: int
    calls: int
    memory: tuple[int, ...]
    small: int
    large: int


SMOKE = Sizes(rounds=1, batches=2, backlog=500, calls=5, memory=(2000,), small=500, large=1000)
USUAL = Sizes(rounds=11, batches=100, backlog=100_000, calls=1000, memory=(200_000,), small=1000, large=100_000)
FULL = Sizes(
    rounds=21, batches=100, backlog=100_000, calls=3000, memory=(200_000, 1_000_000), small=1000, large=1_000_000
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reliq benchmarks")
    group.addoption("--server", help="the server: valkey9 (default), valkey8, redis7, redis8, or the path of a program")
    group.addoption("--full", action="store_true", help="a million items, more rounds: about ten minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report()
    if name := config.getoption("--server"):
        os.environ["RELIQ_TEST_SERVER"] = name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[_REPORT]
    if not report.rows or _is_smoke(config):
        return
    terminalreporter.section(f"ratios, {server_binary()}")
    for line in report.lines():
        terminalreporter.write_line(line)


def _is_smoke(config: pytest.Config) -> bool:
    return bool(config.getoption("--benchmark-disable"))


@pytest.fixture(scope="session")
def sizes(pytestconfig: pytest.Config) -> Sizes:
    if _is_smoke(pytestconfig):
        return SMOKE
    return FULL if pytestconfig.getoption("--full") else USUAL


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash[_REPORT]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with start_server() as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A plain client of the server, which is emptied."""
    with redis.Redis.from_url(server.socket_url, protocol=2) as plain:
        plain.flushall()
        yield plain


@pytest.fixture(scope="session")
def rival_server() -> Iterator[Server]:
    with start_server() as running:
        yield running


@pytest.fixture
def rival_client(rival_server: Server) -> Iterator[redis.Redis]:
    """A plain client of a second server of the same kind, which is emptied."""
    with redis.Redis.from_url(rival_server.socket_url, protocol=2) as plain:
        plain.flushall()
        yield plain


@pytest.fixture
def meter(client: redis.Redis) -> Meter:
    return Meter(client)
