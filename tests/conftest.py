"""Fixtures that every test may use; what they do is in servers.py and proxy.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from proxy import FaultProxy
from servers import start_server

from reliq.embedded import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("RELIQ_SOAK"):
        for item in items:
            if "soak" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="runs for minutes; set RELIQ_SOAK=1"))


def pytest_report_header() -> str:
    return f"server under test: {os.environ.get('RELIQ_TEST_SERVER') or 'valkey9'}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for the session, with a unix socket (`socket_url`) and a loopback port (`url`). Don't stop it."""
    with start_server() as running:
        yield running


@pytest.fixture
def fresh_server() -> Iterator[Server]:
    """A server of its own for a test that kills, pauses or configures it."""
    with start_server() as running:
        yield running


@pytest.fixture
def redis_client(server: Server) -> Iterator[redis.Redis]:
    """A plain client of the session's server, emptied of data and scripts before the test."""
    client = redis.Redis.from_url(server.socket_url)
    client.flushall()
    client.script_flush()
    yield client
    client.close()


@pytest.fixture
def proxy(server: Server, redis_client: redis.Redis) -> Iterator[FaultProxy]:
    """A fault proxy in front of the session's server, which is emptied."""
    with FaultProxy(server.url) as running:
        yield running
