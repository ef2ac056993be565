"""Waiting on the server: for a token, with a command that follows it, and for a message."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import RedisError

from reliq import _policy, _replies
from reliq._calls import Calls, shut
from reliq._plans import Block, Listen
from reliq._policy import Retry, ScriptMissing
from reliq._session import Command
from reliq.connect import limit

T = TypeVar("T")
log = logging.getLogger("reliq")


class Waits(Calls):
    """Waits of a driver. None of them carries an item that its receipt would not bring again."""

    def call(self, command: Command[T]) -> T:
        """Sends a command until it is answered or the deadline is over."""
        raise NotImplementedError

    def _block(self, effect: Block) -> bytes | None:
        """Waits for a token. Carries no item, so that nothing is lost with it."""
        keys = effect.keys or (self.session.keys["wake"],)
        seconds = min(effect.seconds, self._connector.longest_block)
        request = _replies.pack(("BLPOP", *keys, f"{seconds:.3f}"))
        try:
            reply = (self._exactly if effect.exact else self._exchange)(request, effect)
            return reply[0] if reply else None
        except Retry:
            time.sleep(_policy.pause_before(1))  # the claim that follows will tell what is wrong
        except RedisError as error:
            log.info("waiting on queue %s: %s", self.session.queue, error)
            time.sleep(_policy.pause_before(1))
        return None

    def _block_then(self, effect: Block, command: Command[T]) -> T:
        """Waits, and reads what the server did when the wait was over: one flight for both.

        Raises:
            Retry, ReliqError: as of the command. An error of the wait is one of the command, which was not asked for.
        """
        keys = effect.keys or (self.session.keys["wake"],)
        seconds = min(effect.seconds, self._connector.longest_block)
        packed = _replies.pack(("BLPOP", *keys, f"{seconds:.3f}")) + _replies.pack(self.session.wire(command))
        connection = self._take()
        if effect.breakable:
            effect.breakable(partial(shut, connection))
        limit(connection, min(seconds + _policy.MARGIN, self._connector.patience))
        try:
            waited, reply = self._both(connection, packed)
        except (RedisError, OSError, ValueError) as error:  # the last two: it was broken off
            self._links.drop(connection)
            raise _replies.from_loss(error, connection) from error
        limit(connection, self._connector.patience)
        failure = waited if isinstance(waited, RedisError) else reply
        if not isinstance(failure, RedisError):
            self._links.keep(connection)
            return self.session.accept(command, reply)
        self._keep(connection, failure)
        verdict = _replies.from_reply(failure, command, self.session, connection)
        if isinstance(verdict, ScriptMissing):
            return self._attempt(command)
        raise verdict from failure

    def _exactly(self, packed: bytes, effect: Block) -> Any:
        """As `_exchange`, and gives the connection up when the time has passed."""
        connection = self._take()
        if effect.breakable:
            effect.breakable(partial(shut, connection))
        try:
            connection.send_packed_command((packed,), check_health=False)
            if not connection.can_read(timeout=effect.seconds):
                self._links.drop(connection)
                return None
            reply = connection.read_response(disable_decoding=True)
        except (RedisError, OSError, ValueError) as error:
            self._links.drop(connection)
            raise _replies.from_loss(error, connection) from error
        self._links.keep(connection)
        return reply

    def _listen(self, effect: Listen) -> Any:
        """Asks, and asks again at each message. A listener that breaks off is made up for by asking."""
        until = time.monotonic() + effect.seconds
        connection = self._listener(effect.channel)
        try:
            while True:
                left = max(0.0, min(until - time.monotonic(), _policy.BLOCK))
                answer = self.call(effect.ask(left))
                if answer is not None or not left:
                    return answer
                if connection is None:
                    time.sleep(_policy.pause_before(1))
                    connection = self._listener(effect.channel)
                elif not self._heard(connection, left):
                    connection = None
        finally:
            if connection is not None:
                self._links.drop(connection)

    def _listener(self, channel: bytes) -> Any:
        """A connection that listens, None where there can be none now."""
        try:
            connection = self._links.open()
            self._answer(connection, _replies.pack(("SUBSCRIBE", channel)))
        except (RedisError, Retry) as error:
            log.info("queue %s: not listening: %s", self.session.queue, error)
            return None
        return connection

    def _heard(self, connection: Any, seconds: float) -> bool:
        """Waits for a message, or for the time to pass. False where the connection is gone."""
        try:
            if connection.can_read(timeout=seconds):
                connection.read_response(disable_decoding=True)
        except RedisError:
            self._links.drop(connection)
            return False
        return True
