"""Fixtures that every test may use; what they do is in servers.py and proxy.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from proxy import FaultProxy
from servers import start_server

from reliq import rights
from reliq.embedded import Server

# Their asserts show their values. Here, because whoever imports them first must come later.
pytest.register_assert_rewrite("contract.evidence", "properties.machine", "properties.side_by_side")

# RELIQ_TEST_ACL=producer,worker,operator,waiter: everybody but `redis_client` has the rights of these roles only.
ROLES = [role for role in os.environ.get("RELIQ_TEST_ACL", "").split(",") if role]
ADMIN = {"username": "admin", "password": "admin"}


def restrict(server: Server) -> None:
    """Leaves the user that URLs without a name log in as nothing but the rights of the lane's roles."""
    with redis.Redis.from_url(server.socket_url) as client:
        client.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "+@all", "allkeys", "allchannels")
        client.execute_command("ACL", "SETUSER", "default", *rights.rules(ROLES))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("RELIQ_SOAK"):
        for item in items:
            if "soak" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="runs for minutes; set RELIQ_SOAK=1"))


def pytest_report_header() -> str:
    roles = f", with the rights of {', '.join(ROLES)}" if ROLES else ""
    return f"server under test: {os.environ.get('RELIQ_TEST_SERVER') or 'valkey9'}{roles}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for the session, with a unix socket (`socket_url`) and a loopback port (`url`). Don't stop it."""
    with start_server() as running:
        if ROLES:
            restrict(running)
        yield running


@pytest.fixture
def fresh_server() -> Iterator[Server]:
    """A server of its own for a test that kills, pauses or configures it."""
    with start_server() as running:
        yield running


@pytest.fixture
def redis_client(server: Server) -> Iterator[redis.Redis]:
    """A plain client of the session's server, emptied of data and scripts before the test."""
    client = redis.Redis.from_url(server.socket_url, **(ADMIN if ROLES else {}))
    client.flushall()
    client.script_flush()
    yield client
    client.close()


@pytest.fixture
def proxy(server: Server, redis_client: redis.Redis) -> Iterator[FaultProxy]:
    """A fault proxy in front of the session's server, which is emptied."""
    with FaultProxy(server.url) as running:
        yield running
