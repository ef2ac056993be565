"""Sends commands and runs plans: the sync one of the two places that touch the network."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from reliq import _durability, _plans, _policy, _replies
from reliq._keys import REGISTRY
from reliq._links import Home, Links, OnFailover
from reliq._plans import Block, Effect, Listen, Plan, Sleep
from reliq._policy import Applied, Retry, ScriptMissing
from reliq._session import Command, Session
from reliq.connect import Connector, endpoint, limit
from reliq.errors import ReliqError, Unavailable

T = TypeVar("T")
log = logging.getLogger("reliq")

MARGIN = 1.0  # seconds beyond the end of a wait on the server after which silence means that the link is gone


class Driver:
    """Sends the commands of one queue over connections of its own. Threads may share it; a forked child may use it.

    A connection is used by one call at a time, and never again after a call on it was broken off: an answer that
    nobody waits for must not be read by the next one.

    Attributes:
        retries: attempts that failed in a way that may pass.
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

    def call(self, command: Command[T]) -> T:
        """Sends a command until it is answered or the deadline is over.

        Raises:
            ReliqError: the server's refusal, or `Unavailable`.
        """
        home = self._links.home
        try:
            return self._attempt(command)
        except Retry as failure:
            self.retries += 1
            log.warning("%s on queue %s: %s; trying again", command.script.name, self.session.queue, failure)
            return self._interpret(_plans.persist(command, self.timeout, failure), self._attempt, home)

    def run(self, plan: Plan[T]) -> T:
        """Runs a plan to its end."""
        return self._interpret(plan, self.call)

    def seen(self, plan: Plan[T]) -> Plan[T]:
        """The plan as a pipe is to run it: as it is. The driver of a recording notes what is asked and answered."""
        return plan

    def once(self, plan: Plan[T]) -> T:
        """Runs a plan whose commands are tried once. `Retry` leaves it as an error: the caller is who tries again."""
        return self._interpret(plan, self._attempt)

    def close(self) -> None:
        """Closes the connections that are idle."""
        self._links.close()

    def register(self) -> None:
        """Adds the queue to the listing of queues, once. The listing is a convenience, so a failure is only logged."""
        if not self._registered:
            self._registered = True
            try:
                self._exchange(_replies.pack(("SADD", REGISTRY, self.session.queue)))
            except (RedisError, Retry, ReliqError) as error:
                log.info("queue %s is not listed: %s", self.session.queue, error)

    def names(self) -> list[str]:
        """Names of the queues that were ever used on this server."""
        command = _replies.pack(("SMEMBERS", REGISTRY))
        return sorted(name.decode() for name in self._asked(command))

    def info(self) -> dict[str, str]:
        """INFO of the server, as names and values."""
        text = self._asked(_replies.pack(("INFO",))).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def _asked(self, packed: bytes) -> Any:
        """The reply to a command that only reads; asked for again, as a script is, until the deadline is over."""
        until, attempts = time.monotonic() + self.timeout, 1
        while True:
            home = self._links.home
            try:
                return self._asked_once(packed)
            except Retry as failure:
                self.retries += 1
                pause, why = _policy.pause_before(attempts), f"no answer in {self.timeout:g} s. Last: {failure}"
                if time.monotonic() + pause > until:
                    raise Unavailable(
                        why, may_have_been_applied=False, attempts=attempts, seconds=self.timeout
                    ) from failure
                self._links.pause(pause, home)
                attempts += 1

    def _asked_once(self, packed: bytes) -> Any:
        connection = self._take()
        try:
            reply = self._answer(connection, packed)
        except RedisError as error:
            raise _replies.from_connect(error, connection) from error
        self._links.keep(connection)
        return reply

    def _interpret(
        self,
        plan: Plan[T],
        perform: Callable[[Command[Any]], Any],
        home: Home | None = None,
        begun: Command[Any] | None = None,
    ) -> T:
        """`home`: where the connections were when that was tried of which the plan is the repetition.

        `begun`: what the plan has yielded already.
        """
        home = home if home is not None else self._links.home
        try:
            effect: Effect = begun or next(plan)
            while True:
                try:
                    home = home if isinstance(effect, Sleep) else self._links.home
                    result = self._do(effect, perform, home)
                except (ReliqError, Retry) as error:
                    self.retries += isinstance(error, Retry)
                    effect = plan.throw(error)
                else:
                    effect = plan.send(result)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
        finally:
            plan.close()  # at once, so that a plan that was broken off notes what it may have left behind

    def _do(self, effect: Effect, perform: Callable[[Command[Any]], Any], home: Home) -> Any:
        if isinstance(effect, Command):
            return perform(effect)
        if isinstance(effect, Sleep):
            self._links.pause(effect.seconds, home)
            return None
        if isinstance(effect, Listen):
            return self._listen(effect)
        if effect.then is not None:
            return self._block_then(effect, effect.then)
        return self._block(effect)

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
            effect.breakable(partial(_shut, connection))
        limit(connection, min(seconds + MARGIN, self._connector.patience))
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
            effect.breakable(partial(_shut, connection))
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

    def _exchange(self, packed: bytes, block: Block | None = None) -> Any:
        connection = self._take()
        if block and block.breakable:
            block.breakable(partial(_shut, connection))
        if block:  # silence beyond its end is a link that was cut: nobody needs the usual patience to see that
            limit(connection, min(block.seconds + MARGIN, self._connector.patience))
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


def _shut(connection: Any) -> None:
    """Ends a connection that another thread reads from. Closing its descriptor under that one could hit a new one."""
    with contextlib.suppress(OSError, AttributeError):  # it is closed already
        connection._sock.shutdown(socket.SHUT_RDWR)
