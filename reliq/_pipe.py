"""Several requests on one connection, each sent before the answer to the one before it is read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from reliq import _replies
from reliq._driver import Driver
from reliq._plans import Plan
from reliq._policy import ScriptMissing
from reliq._session import Command


@dataclass(frozen=True, slots=True)
class Sent:
    """A plan whose first command is on its way."""

    plan: Plan[Any]
    command: Command[Any]
    connection: Any


class Pipe:
    """Plans of a driver that are begun, and ended in the order in which they began. For one thread.

    A connection is taken with the first of them and given back with the last. Where it breaks, all that is on its way
    fails when it is ended, as each call fails whose reply was lost; what is begun after that takes another connection.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sent: deque[Sent] = deque()
        self._connection: Any = None

    def begin(self, plan: Plan[Any]) -> None:
        """Sends the first effect of a plan, which is a command.

        Raises:
            Retry, ReliqError: it could not be sent.
        """
        plan = self._driver.seen(plan)
        try:
            command: Any = next(plan)
            connection = self._send(command)
        except BaseException as error:
            plan.throw(error)  # at once, so that it notes what it may have left behind
            raise
        self._sent.append(Sent(plan, command, connection))

    def end(self) -> Any:
        """Reads the answer to what was begun first, and runs its plan to the end. Each command is tried once.

        Raises:
            Retry, ReliqError: as `Driver.once`.
        """
        sent, driver = self._sent.popleft(), self._driver

        def perform(command: Command[Any]) -> Any:
            return self._read(sent) if command is sent.command else driver._attempt(command)

        return driver._interpret(sent.plan, perform, begun=sent.command)

    def _send(self, command: Command[Any]) -> Any:
        packed = _replies.pack(self._driver.session.wire(command))
        connection = self._connection = self._connection or self._driver._links.take()
        try:
            connection.send_packed_command((packed,), check_health=False)
        except BaseException as error:
            self._drop(connection)
            if isinstance(error, RedisError):
                raise _replies.from_loss(error, connection) from error
            raise
        return connection

    def _read(self, sent: Sent) -> Any:
        try:
            reply = sent.connection.read_response(disable_decoding=True)
        except BaseException as error:
            if not isinstance(error, RedisError):
                self._drop(sent.connection)
                raise
            return self._refused(sent, error)
        self._read_from(sent.connection)
        return self._driver.session.accept(sent.command, reply)

    def _refused(self, sent: Sent, error: RedisError) -> Any:
        if not _replies.is_reply(error):
            self._drop(sent.connection)
            raise _replies.from_loss(error, sent.connection) from error
        verdict = _replies.from_reply(error, sent.command, self._driver.session, sent.connection)
        if _replies.ends_connection(error):
            self._drop(sent.connection)
        else:
            self._read_from(sent.connection)
        if isinstance(verdict, ScriptMissing):
            return self._driver._attempt(sent.command)  # by itself: it loads the script first
        raise verdict from error

    def _read_from(self, connection: Any) -> None:
        """Gives the connection back when nothing is on its way any more."""
        if connection is self._connection and not self._sent:
            self._connection = None
            self._driver._links.keep(connection)

    def _drop(self, connection: Any) -> None:
        if connection is self._connection:
            self._connection = None
        self._driver._links.drop(connection)
