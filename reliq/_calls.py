"""One attempt at a command: what is sent, what its answer means, and what becomes of the connection."""

from __future__ import annotations

import contextlib
import logging
import socket
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from reliq import _durability, _policy, _replies
from reliq._links import Home, Links, OnFailover
from reliq._plans import Block
from reliq._policy import Applied, Retry, ScriptMissing
from reliq._session import Command, Session
from reliq.connect import Connector, endpoint, limit

T = TypeVar("T")
log = logging.getLogger("reliq")


class Calls:
    """Connections of a driver, and what is done on one of them.

    A connection is used by one call at a time, and never again after a call on it was broken off: an answer that nobody
    waits for must not be read by the next one.
    """

    def __init__(
        self, connector: Connector[Any], session: Session, timeout: float, on_failover: OnFailover | None = None
    ) -> None:
        self.session = session
        self.timeout = timeout
        self.retries = 0
        self._connector = connector
        self._links = Links(connector, self._check, on_failover)
        self._registered = False
        self._replicas = 0  # that were connected to the master when it was last looked at

    @property
    def failovers(self) -> int:
        """How many times the master was another one than before."""
        return self._links.failovers

    def _attempt(self, command: Command[T]) -> T:
        if command.durability.confirms:
            return self._confirmed(command)
        packed = _replies.pack(self.session.wire(command))
        connection = self._take()
        try:
            reply = self._answer(connection, packed)
        except RedisError as error:
            if not _replies.is_reply(error):
                raise _replies.from_loss(error, connection) from error
            verdict = _replies.from_reply(error, command, self.session, connection)
            if isinstance(verdict, ScriptMissing):
                reply = self._load_and_answer(command, connection, packed)
            else:
                self._keep(connection, error)
                raise verdict from error
        self._links.keep(connection)
        return self.session.accept(command, reply)

    def _confirmed(self, command: Command[T]) -> T:
        """Sends a command, and behind it the question whether replicas or the disk have it.

        Raises:
            DurabilityNotReached: it was applied, and is less safe than it was to be.
        """
        wanted, connection = command.durability, self._take()
        known = self._links.replicas() or self._replicas
        question = _durability.question(wanted, known, min(self.session.patience, self._connector.longest_block))
        packed = _replies.pack(self.session.wire(command)) + _replies.pack(question)
        try:
            reply, confirmation = self._both(connection, packed)
            if isinstance(reply, NoScriptError):
                self._answer(connection, _replies.pack(("SCRIPT", "LOAD", command.script.source)))
                reply, confirmation = self._both(connection, packed)
        except RedisError as error:
            raise _replies.from_loss(error, connection) from error
        if isinstance(reply, RedisError):
            self._keep(connection, reply)
            raise _replies.refusal(reply, command, self.session, connection) from reply
        if isinstance(confirmation, RedisError):
            self._keep(connection, confirmation)
            raise _replies.unconfirmed(confirmation, command, self.session, connection) from confirmation
        self._links.keep(connection)
        outcome = self.session.accept(command, reply)
        achieved, reached = _durability.judge(wanted, confirmation, known)
        if not reached:
            raise _replies.not_reached(command, self.session, achieved)
        return outcome

    def _both(self, connection: Any, packed: bytes) -> tuple[Any, Any]:
        """Two replies; those that are errors as values, so that the second one is read in any case."""
        try:
            connection.send_packed_command((packed,), check_health=False)
            first = self._read(connection)
            ended = isinstance(first, RedisError) and _replies.ends_connection(first)
            return first, None if ended else self._read(connection)
        except BaseException:
            self._links.drop(connection)
            raise

    def _read(self, connection: Any) -> Any:
        try:
            return connection.read_response(disable_decoding=True)
        except RedisError as error:
            if not _replies.is_reply(error):
                raise
            return error

    def _keep(self, connection: Any, error: RedisError) -> None:
        """Keeps a connection after an error reply, unless that says that it leads to the wrong place."""
        if _replies.ends_connection(error):
            self._links.drop(connection)
        else:
            self._links.keep(connection)

    def _load_and_answer(self, command: Command[Any], connection: Any, packed: bytes) -> Any:
        """The server lost its scripts (restart, failover, SCRIPT FLUSH): loads this one and sends the call again."""
        try:
            self._answer(connection, _replies.pack(("SCRIPT", "LOAD", command.script.source)))
            return self._answer(connection, packed)
        except RedisError as error:
            if not _replies.is_reply(error):
                raise _replies.from_loss(error, connection) from error
            self._keep(connection, error)
            verdict = _replies.from_reply(error, command, self.session, connection)
            if isinstance(verdict, ScriptMissing):  # flushed between the two: an attempt like any other that failed
                verdict = Retry("the server forgot the script again", Applied.NO)
            raise verdict from error

    def _exchange(self, packed: bytes, block: Block | None = None) -> Any:
        connection = self._take()
        if block and block.breakable:
            block.breakable(partial(shut, connection))
        if block:  # silence beyond its end is a link that was cut: nobody needs the usual patience to see that
            limit(connection, min(block.seconds + _policy.MARGIN, self._connector.patience))
        try:
            reply = self._answer(connection, packed)
        except RedisError as error:
            if _replies.is_reply(error):
                self._keep(connection, error)
            raise
        if block:
            limit(connection, self._connector.patience)
        self._links.keep(connection)
        return reply

    def _answer(self, connection: Any, packed: bytes) -> Any:
        """One request and its reply. A connection is closed by whatever breaks this off, Ctrl-C included."""
        try:
            connection.send_packed_command((packed,), check_health=False)
            return connection.read_response(disable_decoding=True)
        except BaseException as error:
            if not (isinstance(error, RedisError) and _replies.is_reply(error)):
                self._links.drop(connection)
            raise

    def _take(self) -> Any:
        return self._links.take()

    @property
    def _idle(self) -> Home:
        return self._links.home

    def _check(self, connection: Any) -> None:
        """Refuses a server that loses items, and a replica. A user without the right to ask is taken at its
        administrator's word.
        """
        facts = self._facts(connection)
        if facts:
            _policy.check_server(facts)
            self._replicas = facts.replicas
        if self._connector.sentinel and facts and facts.role == "slave":
            raise RedisConnectionError(f"{endpoint(connection)} is a replica, not the master")

    def _facts(self, connection: Any) -> _policy.ServerFacts | None:
        try:
            info = self._answer(connection, _replies.pack(("INFO",)))
        except RedisError as error:
            if not _replies.error_reply(error).startswith("NOPERM"):
                raise
            log.info("queue %s: no right to INFO, the server's settings are not checked", self.session.queue)
            return None
        return _policy.server_facts(info.decode())


def shut(connection: Any) -> None:
    """Ends a connection that another thread reads from. Closing its descriptor under that one could hit a new one."""
    with contextlib.suppress(OSError, AttributeError):  # it is closed already
        connection._sock.shutdown(socket.SHUT_RDWR)
