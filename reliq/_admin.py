"""Plain commands to servers and Sentinels, for what is done to a deployment rather than to a queue. No retries."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeAlias

from redis.exceptions import RedisError

from reliq import _replies, connect
from reliq._policy import Retry
from reliq._topology import Address, Sentinel, shown
from reliq.errors import ReliqError

Reply: TypeAlias = "str | int | list[Reply] | None"


class Refused(Exception):
    """A server answered with an error. `denied` says that it refuses this user."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where}: {text}")
        self.text = text
        self.denied = text.startswith(("NOPERM", "NOAUTH", "WRONGPASS"))


class Unreachable(Exception):
    """There was no answer, and nobody knows whether the command was done."""


class Link:
    """A connection to one server or Sentinel, made when it is first used and again after it broke.

    Args:
        connector: with the settings of the connection.
        address: of one server of a topology; None where the connector's URL says it.
    """

    def __init__(self, connector: connect.Connector[Any], address: Address | None = None) -> None:
        self._connector = connector
        self._address = address
        self._connection: Any = None
        self.name = shown(address) if address else ""

    def call(self, *words: str | int) -> Reply:
        """Sends a command and returns its reply as text, number, list or None.

        Raises:
            Refused, Unreachable.
        """
        return _readable(self.raw(*words))

    def fields(self, *words: str | int) -> dict[str, str]:
        """The reply of INFO, or one that is a flat list of names and values, as a dictionary.

        Raises:
            Refused, Unreachable.
        """
        return as_fields(self.call(*words))

    def raw(self, *words: str | int) -> Any:
        """As `call`, with bytes where the server sent text."""
        connection = self._opened()
        try:
            packed = _replies.pack(tuple(str(word) for word in words))
            connection.send_packed_command((packed,), check_health=False)
            return connection.read_response(disable_decoding=True)
        except RedisError as error:
            if _replies.is_reply(error):
                raise Refused(self.name, _replies.error_reply(error)) from error
            self.close()
            raise Unreachable(f"{self.name}: {error}") from error
        except BaseException:  # its answer is still to come, and would be taken for that of the next command
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection. The next call makes a new one."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _opened(self) -> Any:
        if self._connection is None:
            connection = self._connector.make(self._address)
            self.name = self.name or connect.endpoint(connection)
            try:
                connection.connect()
            except RedisError as error:
                connection.disconnect()
                raise self._not_connected(error, connection) from error
            self._connection = connection
        return self._connection

    def _not_connected(self, error: RedisError, connection: Any) -> Exception:
        why: ReliqError | Exception = _replies.from_connect(error, connection)
        if isinstance(why, Retry):
            return Unreachable(connect.mask(f"{self.name}: {error}"))
        return Refused(self.name, f"NOAUTH {connect.mask(str(error))}")


def to_server(url: str | Sentinel, address: Address | None = None) -> Link:
    """A link to the server of a URL, or to the one at `address` with the credentials of a topology.

    Raises:
        InvalidURL.
    """
    return Link(connect.connector(url, None), address)


def to_sentinel(sentinel: Sentinel, address: Address) -> Link:
    """A link to one of the Sentinels themselves, with their credentials."""
    itself = replace(
        sentinel,
        db=0,
        username=sentinel.sentinel_username,
        password=sentinel.sentinel_password,
        ssl=sentinel.sentinels_with_tls,
        socket_timeout=max(0.1, sentinel.sentinel_timeout),
        socket_connect_timeout=max(0.1, sentinel.sentinel_timeout),
    )
    return Link(connect.connector(itself, None), address)


def as_fields(reply: Reply) -> dict[str, str]:
    """Names and values of a flat list, or of the lines of INFO."""
    if isinstance(reply, list):
        words = [str(word) for word in reply]
        return dict(zip(words[::2], words[1::2], strict=False))
    lines = [line.partition(":") for line in str(reply).splitlines() if not line.startswith("#")]
    return {name: value for name, colon, value in lines if colon}


def _readable(reply: Any) -> Reply:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "backslashreplace")
    if isinstance(reply, Exception):  # an error inside of a list, as EXEC has it
        return str(reply)
    return [_readable(part) for part in reply] if isinstance(reply, list) else reply
