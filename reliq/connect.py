"""From a URL, or from a redis-py client, to connections. Pools, TLS, authentication and parsing stay redis-py's.

Its retries are switched off: they repeat a write without saying so, and know nothing of ids and deadlines.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from functools import cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from reliq import _topology
from reliq._topology import Address, Sentinel
from reliq.errors import InvalidArgument, InvalidURL

P = TypeVar("P", redis.ConnectionPool, redis.asyncio.ConnectionPool)

SCHEMES = ("redis", "rediss", "unix", "embedded", *_topology.SCHEMES)
CONNECT_TIMEOUT = 2.0  # seconds
SOCKET_TIMEOUT = (
    5.0  # seconds without an answer; above the longest block (4 s), so that a wait never looks like a fault
)

# RESP2 and no client-side cache or maintenance pushes: the replies of scripts are the same in both protocols, and
# several managed services speak only this one.
_COMMON: dict[str, Any] = {
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": SOCKET_TIMEOUT,
    "health_check_interval": 0,
    "protocol": 2,
    "retry_on_timeout": False,
}
# A link that was cut without a word: an idle connection is known to be dead after 2 + 3 * 1 s, one on which something
# was sent after 5 s. Options that a platform does not have are left out.
_KEEPALIVE: dict[int, int] = {
    number: value
    for name, value in (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 5000))
    if (number := getattr(socket, name, None)) is not None
}
_TCP: dict[str, Any] = {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
_UNWANTED = {
    "retry",
    "retry_on_error",
    "decode_responses",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
}
_NO_LIMIT = 2**31


class _Interruptible:
    """What a sync connection has in addition where another thread may have to break it off.

    Its descriptor is closed and shut down under one lock: else the number could be another connection's by then.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._guard = threading.RLock()
        super().__init__(*args, **options)

    def disconnect(self, *args: Any, **options: Any) -> None:
        inherited = os.getpid() != getattr(self, "pid", 0)  # in a forked child the lock may be held by nobody
        with contextlib.nullcontext() if inherited else self._guard:
            super().disconnect(*args, **options)  # type: ignore[misc]  # redis-py's, see _interruptible

    def interrupt(self) -> None:
        """Ends the connection under whoever waits on it, who gets a connection error. From any thread."""
        with self._guard:
            opened = getattr(self, "_sock", None)
            if opened is not None:
                with contextlib.suppress(OSError):  # the server was faster
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)  # not TLS's own, which would want to talk


@cache
def _interruptible(kind: type[Any]) -> type[Any]:
    return type(f"Interruptible{kind.__name__}", (_Interruptible, kind), {})


class Connector(Generic[P]):
    """Makes connections, each to where the server is at that moment.

    Where `sentinel` is set, that is for the caller to find out, who passes it to `make`.

    Args:
        kind: redis-py's pool, sync or asyncio: it knows how to read a URL. Its connections are made, not pooled.
        wanted: the client class that `client` has to be of.
        retry: redis-py's policy that never tries again.
        url: see SCHEMES; or None and a client.

    Raises:
        InvalidURL, InvalidArgument.
    """

    def __init__(
        self, kind: type[P], wanted: type[Any], retry: Any, url: str | Sentinel | None, client: object
    ) -> None:
        self._kind: type[P] = kind
        self._retry = retry
        self.sentinel = None if client is not None else sentinel_of(url)
        self._url = "" if client is not None else self.sentinel.url if self.sentinel else check_url(url)
        self._plain = ""
        self._pool: P
        if client is not None:
            self._pool = _pool_like(client, wanted, kind, retry)
        elif self.sentinel:
            self._pool = _pool_of_master(self.sentinel, kind, retry)
        else:
            self._resolve()

    @property
    def patience(self) -> float:
        """Seconds without an answer after which a connection is given up."""
        return float(self._pool.connection_kwargs["socket_timeout"])

    @property
    def longest_block(self) -> float:
        """Seconds that a wait on the server may last, so that one without news does not look like a fault."""
        return min(4.0, 0.8 * self.patience)

    def make(self, master: Address | None = None) -> Any:
        """A connection that is not open yet.

        Args:
            master: where the master is, for a Sentinel topology.

        Raises:
            ServerError: the server of an `embedded://` URL does not start.
        """
        if self._url and not self.sentinel:
            self._resolve()
        options = dict(self._pool.connection_kwargs)
        if master:
            options["host"], options["port"] = master
        return self._pool.connection_class(**options)

    def _resolve(self) -> None:
        """Asks where the server is. An embedded server that died is started again here."""
        plain = plain_url(self._url)
        if plain != self._plain:
            self._pool, self._plain = _from_url(self._kind, plain, self._retry), plain


def connector(url: str | Sentinel | None, client: object) -> Connector[redis.ConnectionPool]:
    """For the sync driver."""
    return Connector(redis.ConnectionPool, redis.Redis, Retry(NoBackoff(), 0), url, client)


def async_connector(url: str | Sentinel | None, client: object) -> Connector[redis.asyncio.ConnectionPool]:
    """For the asyncio driver."""
    return Connector(redis.asyncio.ConnectionPool, redis.asyncio.Redis, AsyncRetry(NoBackoff(), 0), url, client)


def sentinel_connection(sentinel: Sentinel, address: Address) -> redis.asyncio.Connection:
    """A connection to one of the Sentinels, for asyncio, that is not open yet."""
    kind = redis.asyncio.SSLConnection if sentinel.sentinels_with_tls else redis.asyncio.Connection
    options = {**_COMMON, **_TCP, "socket_timeout": None, "retry": AsyncRetry(NoBackoff(), 0)}
    return kind(
        host=address[0],
        port=address[1],
        username=sentinel.sentinel_username,
        password=sentinel.sentinel_password,
        **options,
        **(_tls(sentinel) if sentinel.sentinels_with_tls else {}),
    )


def limit(connection: Any, seconds: float) -> None:
    """Sets how long a sync connection waits for an answer, whatever version of redis-py it is of."""
    opened = getattr(connection, "_sock", None)
    if opened is not None:
        opened.settimeout(seconds)


def sentinel_of(url: object) -> Sentinel | None:
    """The Sentinel topology that a URL or an object of that kind means; None where it means something else.

    Raises:
        InvalidURL: it is meant to be one, and can't be used.
    """
    if isinstance(url, Sentinel):
        return url
    if isinstance(url, str) and url.startswith(tuple(f"{scheme}:" for scheme in _topology.SCHEMES)):
        return _topology.parse(url, mask(url))
    return None


def check_url(url: object) -> str:
    """Returns a URL that can be used.

    Raises:
        InvalidURL: it can't be parsed, or has another scheme.
    """
    if not isinstance(url, str) or not url:
        raise InvalidURL("no server: pass a URL such as redis://host:6379/0, unix:///path or embedded://, or client=")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises where the port is not a number
    except ValueError:  # its text may have a part of the password for the port
        reason = "the host or port is malformed, or the password has one of / ? # @ without percent-encoding"
        raise InvalidURL(f"{mask(url)} can't be parsed: {reason}") from None
    if parts.scheme not in SCHEMES:
        raise InvalidURL(f"{mask(url)} has none of the schemes {', '.join(s + '://' for s in SCHEMES)}")
    return url


def plain_url(url: str) -> str:
    """A URL that redis-py understands: `embedded://` becomes the socket of a server that runs."""
    if not url.startswith("embedded:"):
        return url
    from reliq import embedded  # noqa: PLC0415  most users never start a server

    return embedded.shared_server(url)


def mask(url: str) -> str:
    """The URL without its password, also where it can't be parsed."""
    hidden = re.sub(r"^((?:[\w+.-]+://)?+[^:@/?#]*):.*@", r"\1:***@", url)
    return re.sub(r"((?:password|passwd|secret)=)[^&]*", r"\1***", hidden, flags=re.IGNORECASE)


def endpoint(connection: Any) -> str:
    """Where a connection goes, for messages: no credentials in it."""
    path = getattr(connection, "path", None)
    return str(path) if path else f"{getattr(connection, 'host', '?')}:{getattr(connection, 'port', '?')}"


def _from_url(kind: type[P], url: str, retry: Any) -> P:
    try:
        tcp = {} if url.startswith("unix:") else _TCP
        return kind.from_url(url, max_connections=_NO_LIMIT, retry=retry, **_COMMON, **tcp)
    except (ValueError, TypeError) as error:
        raise InvalidURL(f"{mask(url)} can't be used: {mask(str(error))}") from None


def _pool_of_master(sentinel: Sentinel, kind: type[P], retry: Any) -> P:
    """Holds the class and the options of connections to the master, wherever that is."""
    classes: dict[bool, type[Any]]
    if issubclass(kind, redis.ConnectionPool):
        classes = {tls: _interruptible(redis.SSLConnection if tls else redis.Connection) for tls in (True, False)}
    else:
        classes = {True: redis.asyncio.SSLConnection, False: redis.asyncio.Connection}
    own = {
        "db": sentinel.db,
        "username": sentinel.username,
        "password": sentinel.password,
        "client_name": sentinel.client_name,
        "socket_timeout": sentinel.socket_timeout,
        "socket_connect_timeout": sentinel.socket_connect_timeout,
        **(_tls(sentinel) if sentinel.ssl else {}),
    }
    return kind(connection_class=classes[sentinel.ssl], max_connections=_NO_LIMIT, retry=retry, **_COMMON | _TCP | own)


def _tls(sentinel: Sentinel) -> dict[str, Any]:
    verified = sentinel.ssl_cert_reqs != "none"
    return {
        "ssl_ca_certs": sentinel.ssl_ca_certs,
        "ssl_certfile": sentinel.ssl_certfile,
        "ssl_keyfile": sentinel.ssl_keyfile,
        "ssl_cert_reqs": sentinel.ssl_cert_reqs,
        "ssl_check_hostname": sentinel.ssl_check_hostname and verified,
    }


def _pool_like(client: object, wanted: type[Any], kind: type[P], retry: Any) -> P:
    if not isinstance(client, wanted):
        raise InvalidArgument(f"client= wants a {wanted.__module__}.{wanted.__name__}, not {type(client).__name__}")
    theirs: Any = client.connection_pool
    if "Sentinel" in type(theirs).__name__:
        raise InvalidArgument("client= can't be a Sentinel client: its pool follows the old master; pass a URL")
    options = {k: v for k, v in theirs.connection_kwargs.items() if k not in _UNWANTED}
    timeouts = {
        "socket_connect_timeout": options.get("socket_connect_timeout") or CONNECT_TIMEOUT,
        "socket_timeout": options.get("socket_timeout") or SOCKET_TIMEOUT,
    }
    merged = {**options, **_COMMON, **timeouts, "retry": retry}
    return kind(connection_class=theirs.connection_class, max_connections=_NO_LIMIT, **merged)
