from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from proxy import FaultProxy
from redis.backoff import NoBackoff
from redis.retry import Retry
from resp import Scanner
from servers import wait_until

from reliq.embedded import Server


def connect(proxy: FaultProxy, protocol: int = 3) -> redis.Redis:
    return redis.Redis.from_url(proxy.url, protocol=protocol, retry=Retry(NoBackoff(), 0), socket_timeout=5)


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[redis.Redis]:
    with connect(proxy) as connected:
        yield connected


@pytest.fixture
def connection(client: redis.Redis) -> Iterator[Any]:  # redis-py's is untyped
    """A bare connection, to send a request and read its reply apart."""
    taken = client.connection_pool.get_connection()
    yield taken
    client.connection_pool.release(taken)


FRAMES = [
    b"*2\r\n$4\r\nECHO\r\n$6\r\na\r\n$-1\r\n",
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":12\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n:1\r\n*2\r\n$2\r\n\r\n\r\n+x\r\n*0\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n#t\r\n",
    b"|1\r\n+ttl\r\n:3\r\n*1\r\n_\r\n",
    b">2\r\n+message\r\n=7\r\ntxt:abc\r\n",
    b",1.5\r\n",
    b"PING\r\n",
]


def test_scanner_gives_whole_frames_however_the_bytes_arrive() -> None:
    stream = b"".join(FRAMES)
    for size in (1, 2, 3, 7, len(stream)):
        scanner = Scanner()
        chunks = (stream[at : at + size] for at in range(0, len(stream), size))
        assert list(itertools.chain.from_iterable(map(scanner.feed, chunks))) == FRAMES


def test_scanner_keeps_a_half_frame_to_itself() -> None:
    scanner = Scanner()
    assert scanner.feed(b"+OK\r\n$5\r\nhel") == [b"+OK\r\n"]
    assert scanner.feed(b"lo") == []
    assert scanner.feed(b"\r\n") == [b"$5\r\nhello\r\n"]


def test_passes_everything_on(client: redis.Redis) -> None:
    big = b"x" * 300_000
    assert client.set("big", big)
    assert client.get("big") == big
    pipe = client.pipeline(transaction=False)
    for number in range(500):
        pipe.rpush("list", number)
    assert pipe.execute() == list(range(1, 501))


@pytest.mark.parametrize("protocol", [2, 3])
def test_lost_reply_the_effect_happened_exactly_once(
    proxy: FaultProxy, redis_client: redis.Redis, protocol: int
) -> None:
    with connect(proxy, protocol) as client:
        client.ping()
        rule = proxy.lose_reply(match=b"RPUSH")
        assert client.get("other") is None
        with pytest.raises(redis.ConnectionError):
            client.rpush("list", "a")
        assert redis_client.llen("list") == 1  # no polling: the reply was here before the connection was closed
        assert rule.fired == 1
        assert client.rpush("list", "b") == 2


def test_lost_reply_in_a_pipeline_delivers_those_before_it(
    proxy: FaultProxy, client: redis.Redis, redis_client: redis.Redis
) -> None:
    client.ping()
    rule = proxy.lose_reply(match=lambda request: b"second" in request)
    pipe = client.pipeline(transaction=False)
    for word in ("first", "second", "third"):
        pipe.rpush("list", word)
    with pytest.raises(redis.ConnectionError):
        pipe.execute()
    assert rule.fired == 1
    assert redis_client.lrange("list", 0, 1) == [b"first", b"second"]


def test_torn_reply(proxy: FaultProxy, client: redis.Redis) -> None:
    client.set("key", "value")
    proxy.lose_reply(match=b"GET", keep_bytes=6)
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    assert client.get("key") == b"value"


def test_lost_request_never_arrives(proxy: FaultProxy, client: redis.Redis, redis_client: redis.Redis) -> None:
    client.ping()
    rule = proxy.lose_request(times=2, match=b"RPUSH")
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.rpush("list", "a")
    assert rule.fired == 2
    assert redis_client.llen("list") == 0
    assert client.rpush("list", "a") == 1


def test_delay_and_clear(proxy: FaultProxy, client: redis.Redis, connection: Any) -> None:
    client.ping()
    proxy.delay(0.2, match=b"PING")
    began = time.monotonic()
    client.ping()
    assert time.monotonic() - began >= 0.2
    proxy.delay(60.0, match=b"PING")
    connection.send_command("PING")
    proxy.clear()
    assert connection.read_response() == b"PONG"


def test_reset_of_all_connections(proxy: FaultProxy, client: redis.Redis, connection: Any) -> None:
    connection.send_command("BLPOP", "nothing", 0)
    wait_until(lambda: proxy.connections == 1, "the connection is there")
    assert proxy.reset_connections() == 1
    with pytest.raises(redis.ConnectionError, match="reset by peer"):
        connection.read_response()
    assert client.ping()


def test_refused_connections(proxy: FaultProxy, client: redis.Redis) -> None:
    client.ping()
    proxy.refuse_connections()
    assert client.ping()  # on its old connection
    proxy.reset_connections()
    with pytest.raises(redis.ConnectionError, match="refused"):
        client.ping()
    proxy.accept_connections()
    assert client.ping()


def test_a_server_that_goes_away_takes_its_connections_along(fresh_server: Server) -> None:
    with FaultProxy(fresh_server.socket_url) as proxy, connect(proxy) as client:
        client.ping()
        fresh_server.kill()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
        fresh_server.start()
        assert client.ping()
