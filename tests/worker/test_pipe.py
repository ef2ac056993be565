"""Requests that are sent before the answers to others are read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from proxy import FaultProxy
from servers import wait_until

from reliq import AsyncQueue, Queue, _plans
from reliq._pipe import Pipe
from reliq._pipe_async import AsyncPipe
from reliq._policy import Retry
from reliq.embedded import Server
from reliq.errors import CorruptState

CLAIM = _plans.ClaimRequest(2, 30.0, 0.0)


class Piped:
    """A pipe of either kind, used from plain code."""

    def __init__(self, kind: str, url: str, run: asyncio.Runner) -> None:
        self._run = run
        self.queue: Any = Queue("q", url) if kind == "sync" else AsyncQueue("q", url)
        driver: Any = self.queue._driver
        self._pipe: Any = Pipe(driver) if kind == "sync" else AsyncPipe(driver)

    def begin(self) -> None:
        """Asks for two items."""
        self._done(self._pipe.begin(_plans.claim(self.queue._session, CLAIM)))

    def end(self) -> list[Any]:
        """Payloads of the items that came."""
        return [item.payload for item in self._done(self._pipe.end())]

    def begin_until_refused(self) -> None:
        with contextlib.suppress(Retry):
            while True:
                self.begin()

    def end_or_fail(self) -> list[Any] | None:
        try:
            return self.end()
        except Retry:
            return None

    def claim(self) -> list[Any]:
        return [item.payload for item in self._done(self.queue.claim(2))]

    @property
    def idle(self) -> int:
        return len(self.queue._driver._links.home)

    def close(self) -> None:
        self._done(self.queue.close())

    def _done(self, result: Any) -> Any:
        async def wait() -> Any:
            return await result

        return self._run.run(wait()) if asyncio.iscoroutine(result) else result


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    with Queue("q", server.socket_url) as made:
        assert not made.claim()  # the server knows the script from here on
        made.enqueue_many(range(10))
        yield made


@pytest.fixture
def piped(kind: str, queue: Queue, proxy: FaultProxy) -> Iterator[Piped]:
    with asyncio.Runner() as run:
        made = Piped(kind, proxy.url, run)
        yield made
        made.close()


def test_requests_are_answered_in_their_order(queue: Queue, piped: Piped) -> None:
    """The server has done both before the first answer is read."""
    piped.begin()
    piped.begin()
    wait_until(lambda: queue.counts().in_progress == 4, "both are done")
    assert (piped.end(), piped.end()) == ([0, 1], [2, 3])


def test_one_connection_carries_them_and_is_given_back(piped: Piped, proxy: FaultProxy) -> None:
    """It is taken with the first and given back with the last answer; the next call uses it."""
    before = proxy.connections
    for _ in range(3):
        piped.begin()
    piped.end()
    piped.begin()
    assert piped.idle == 0
    for _ in range(3):
        piped.end()
    assert (piped.idle, proxy.connections - before) == (1, 1)
    assert piped.claim() == [8, 9]
    assert proxy.connections - before == 1


def test_a_cut_fails_all_that_is_on_its_way(piped: Piped, proxy: FaultProxy) -> None:
    """Each says so by itself. The next claims ask under the same receipts, and get the same items in their order."""
    piped.begin()
    assert piped.end() == [0, 1]
    proxy.lose_reply(1, b"EVALSHA")
    piped.begin()
    with pytest.raises(Retry):
        piped.end()
    assert piped.claim() == [2, 3]
    proxy.delay(30, 2, b"EVALSHA")
    piped.begin()
    piped.begin()
    proxy.reset_connections()
    for _ in range(2):
        with pytest.raises(Retry):
            piped.end()
    assert (piped.claim(), piped.claim()) == ([4, 5], [6, 7])
    assert piped.idle == 1


def test_what_begins_after_a_cut_takes_another_connection(piped: Piped, proxy: FaultProxy) -> None:
    """Though answers on the old one are still to be given up."""
    piped.begin()
    proxy.reset_connections()
    piped.begin_until_refused()  # the first write after a reset may seem to succeed
    piped.begin()
    ends = [piped.end_or_fail() for _ in range(len(piped._pipe._sent))]
    assert ends[0] is None
    assert ends[-1]


def test_an_unreachable_server_is_a_failed_attempt(piped: Piped, proxy: FaultProxy) -> None:
    """Nothing is on its way then."""
    proxy.refuse_connections()
    with pytest.raises(Retry):
        piped.begin()
    proxy.accept_connections()
    piped.begin()
    assert piped.end() == [0, 1]


def test_an_unknown_script_is_loaded(piped: Piped, redis_client: redis.Redis) -> None:
    """Both requests find that the server has forgotten it; both get their items."""
    redis_client.script_flush()
    piped.begin()
    piped.begin()
    assert (piped.end(), piped.end()) == ([0, 1], [2, 3])


def test_a_refusal_leaves_the_others_alone(queue: Queue, piped: Piped, redis_client: redis.Redis) -> None:
    """An error reply belongs to one request; the connection goes on."""
    name = queue._session.keys["leases"]
    redis_client.set(name, "not a sorted set")
    piped.begin()
    piped.begin()
    for _ in range(2):
        with pytest.raises(CorruptState):
            piped.end()
    redis_client.delete(name)
    assert piped.idle == 1
    piped.begin()
    assert piped.end() == [0, 1]
