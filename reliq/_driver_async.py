"""Sends commands and runs plans: the asyncio one of the two places that touch the network. Twin of _driver.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from reliq import _durability, _plans, _policy, _replies
from reliq._keys import REGISTRY
from reliq._links_async import AsyncLinks, Home, OnFailover
from reliq._plans import Block, Effect, Listen, Plan, Sleep
from reliq._policy import Applied, Retry, ScriptMissing
from reliq._session import Command, Session
from reliq.connect import Connector, endpoint
from reliq.errors import ReliqError

T = TypeVar("T")
log = logging.getLogger("reliq")

MARGIN = 1.0  # seconds beyond the end of a wait on the server after which silence means that the link is gone


class AsyncDriver:
    """Sends the commands of one queue over connections of its own. Tasks of one event loop share
    it; on another loop, or in a forked child, it starts over with new connections.

    A connection is used by one call at a time, and never again after a call on it was broken off, a
    cancelled task's included: an answer that nobody waits for must not be read by the next one.

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
        self._links = AsyncLinks(connector, self._check, on_failover)
        self._registered = False
        self._replicas = 0  # that were connected to the master when it was last looked at

    @property
    def failovers(self) -> int:
        """How many times the master was another one than before."""
        return self._links.failovers

    async def call(self, command: Command[T]) -> T:
        """Sends a command until it is answered or the deadline is over.

        Raises:
            ReliqError: the server's refusal, or `Unavailable`.
        """
        home = self._links.home
        try:
            return await self._attempt(command)
        except Retry as failure:
            self.retries += 1
            log.warning("%s on queue %s: %s; trying again", command.script.name, self.session.queue, failure)
            return await self._interpret(_plans.persist(command, self.timeout, failure), self._attempt, home)

    async def run(self, plan: Plan[T]) -> T:
        """Runs a plan to its end."""
        return await self._interpret(plan, self.call)

    def seen(self, plan: Plan[T]) -> Plan[T]:
        """The plan as a pipe is to run it: as it is. The driver of a recording notes what is asked and answered."""
        return plan

    async def once(self, plan: Plan[T]) -> T:
        """Runs a plan whose commands are tried once. `Retry` leaves it as an error: the caller is who tries again."""
        return await self._interpret(plan, self._attempt)

    async def close(self) -> None:
        """Closes the connections that are idle."""
        await self._links.close()

    async def register(self) -> None:
        """Adds the queue to the listing of queues, once. The listing is a convenience, so a failure is only logged."""
        if not self._registered:
            self._registered = True
            try:
                await self._exchange(_replies.pack(("SADD", REGISTRY, self.session.queue)))
            except (RedisError, Retry, ReliqError) as error:
                log.info("queue %s is not listed: %s", self.session.queue, error)

    async def _interpret(
        self,
        plan: Plan[T],
        perform: Callable[[Command[Any]], Awaitable[Any]],
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
                    result = await self._do(effect, perform, home)
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

    async def _do(self, effect: Effect, perform: Callable[[Command[Any]], Awaitable[Any]], home: Home) -> Any:
        if isinstance(effect, Command):
            return await perform(effect)
        if isinstance(effect, Sleep):
            await self._links.pause(effect.seconds, home)
            return None
        if isinstance(effect, Listen):
            return await self._listen(effect)
        if effect.then is not None:
            return await self._block_then(effect, effect.then)
        return await self._block(effect)

    async def _attempt(self, command: Command[T]) -> T:
        if command.durability.confirms:
            return await self._confirmed(command)
        packed = _replies.pack(self.session.wire(command))
        connection = await self._take()
        try:
            reply = await self._answer(connection, packed)
        except RedisError as error:
            if not _replies.is_reply(error):
                raise _replies.from_loss(error, connection) from error
            verdict = _replies.from_reply(error, command, self.session, connection)
            if isinstance(verdict, ScriptMissing):
                reply = await self._load_and_answer(command, connection, packed)
            else:
                await self._keep(connection, error)
                raise verdict from error
        self._links.keep(connection)
        return self.session.accept(command, reply)

    async def _confirmed(self, command: Command[T]) -> T:
        """Sends a command, and behind it the question whether replicas or the disk have it.

        Raises:
            DurabilityNotReached: it was applied, and is less safe than it was to be.
        """
        wanted, connection = command.durability, await self._take()
        known = self._links.replicas() or self._replicas
        question = _durability.question(wanted, known, min(self.session.patience, self._connector.longest_block))
        packed = _replies.pack(self.session.wire(command)) + _replies.pack(question)
        try:
            reply, confirmation = await self._both(connection, packed)
            if isinstance(reply, NoScriptError):
                await self._answer(connection, _replies.pack(("SCRIPT", "LOAD", command.script.source)))
                reply, confirmation = await self._both(connection, packed)
        except RedisError as error:
            raise _replies.from_loss(error, connection) from error
        if isinstance(reply, RedisError):
            await self._keep(connection, reply)
            raise _replies.refusal(reply, command, self.session, connection) from reply
        if isinstance(confirmation, RedisError):
            await self._keep(connection, confirmation)
            raise _replies.unconfirmed(confirmation, command, self.session, connection) from confirmation
        self._links.keep(connection)
        outcome = self.session.accept(command, reply)
        achieved, reached = _durability.judge(wanted, confirmation, known)
        if not reached:
            raise _replies.not_reached(command, self.session, achieved)
        return outcome

    async def _both(self, connection: Any, packed: bytes, patience: float | None = None) -> tuple[Any, Any]:
        """Two replies; those that are errors as values, so that the second one is read in any case."""
        seconds = patience or self._connector.patience
        try:
            async with asyncio.timeout(seconds):
                await connection.send_packed_command(packed, check_health=False)
                first = await self._read(connection)
                ended = isinstance(first, RedisError) and _replies.ends_connection(first)
                return first, None if ended else await self._read(connection)
        except TimeoutError:
            await self._links.drop(connection)
            raise RedisTimeoutError(f"no answer in {seconds:g} s") from None
        except BaseException:
            await self._links.drop(connection)
            raise

    async def _read(self, connection: Any) -> Any:
        try:
            return await connection.read_response(disable_decoding=True)
        except RedisError as error:
            if not _replies.is_reply(error):
                raise
            return error

    async def _keep(self, connection: Any, error: RedisError) -> None:
        """Keeps a connection after an error reply, unless that says that it leads to the wrong place."""
        if _replies.ends_connection(error):
            await self._links.drop(connection)
        else:
            self._links.keep(connection)

    async def _load_and_answer(self, command: Command[Any], connection: Any, packed: bytes) -> Any:
        """The server lost its scripts (restart, failover, SCRIPT FLUSH): loads this one and sends the call again."""
        try:
            await self._answer(connection, _replies.pack(("SCRIPT", "LOAD", command.script.source)))
            return await self._answer(connection, packed)
        except RedisError as error:
            if not _replies.is_reply(error):
                raise _replies.from_loss(error, connection) from error
            await self._keep(connection, error)
            verdict = _replies.from_reply(error, command, self.session, connection)
            if isinstance(verdict, ScriptMissing):  # flushed between the two: an attempt like any other that failed
                verdict = Retry("the server forgot the script again", Applied.NO)
            raise verdict from error

    async def _block(self, effect: Block) -> bytes | None:
        """Waits for a token. Carries no item, so that nothing is lost with it."""
        keys = effect.keys or (self.session.keys["wake"],)
        seconds = min(effect.seconds, self._connector.longest_block)
        try:
            # Silence beyond the end of the wait is a link that was cut: nobody needs the usual patience to see that.
            patience = min(seconds + MARGIN, self._connector.patience)
            reply = await self._exchange(_replies.pack(("BLPOP", *keys, f"{seconds:.3f}")), patience)
            return reply[0] if reply else None
        except Retry:
            await asyncio.sleep(_policy.pause_before(1))  # the claim that follows will tell what is wrong
        except RedisError as error:
            log.info("waiting on queue %s: %s", self.session.queue, error)
            await asyncio.sleep(_policy.pause_before(1))
        return None

    async def _block_then(self, effect: Block, command: Command[T]) -> T:
        """Asyncio twin of `Driver._block_then`."""
        keys = effect.keys or (self.session.keys["wake"],)
        seconds = min(effect.seconds, self._connector.longest_block)
        packed = _replies.pack(("BLPOP", *keys, f"{seconds:.3f}")) + _replies.pack(self.session.wire(command))
        connection = await self._take()
        try:
            waited, reply = await self._both(connection, packed, min(seconds + MARGIN, self._connector.patience))
        except RedisError as error:
            raise _replies.from_loss(error, connection) from error
        failure = waited if isinstance(waited, RedisError) else reply
        if not isinstance(failure, RedisError):
            self._links.keep(connection)
            return self.session.accept(command, reply)
        await self._keep(connection, failure)
        verdict = _replies.from_reply(failure, command, self.session, connection)
        if isinstance(verdict, ScriptMissing):
            return await self._attempt(command)
        raise verdict from failure

    async def _listen(self, effect: Listen) -> Any:
        """Asks, and asks again at each message. A listener that breaks off is made up for by asking."""
        loop = asyncio.get_running_loop()
        until = loop.time() + effect.seconds
        connection = await self._listener(effect.channel)
        try:
            while True:
                left = max(0.0, min(until - loop.time(), _policy.BLOCK))
                answer = await self.call(effect.ask(left))
                if answer is not None or not left:
                    return answer
                if connection is None:
                    await asyncio.sleep(_policy.pause_before(1))
                    connection = await self._listener(effect.channel)
                elif not await self._heard(connection, left):
                    connection = None
        finally:
            if connection is not None:
                await self._links.drop(connection)

    async def _listener(self, channel: bytes) -> Any:
        """A connection that listens, None where there can be none now."""
        try:
            connection = await self._links.open()
            await self._answer(connection, _replies.pack(("SUBSCRIBE", channel)))
        except (RedisError, Retry) as error:
            log.info("queue %s: not listening: %s", self.session.queue, error)
            return None
        return connection

    async def _heard(self, connection: Any, seconds: float) -> bool:
        """Waits for a message, or for the time to pass. False where the connection is gone."""
        try:
            async with asyncio.timeout(seconds):
                await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except TimeoutError:
            return True
        except (RedisError, OSError):
            await self._links.drop(connection)
            return False
        return True

    async def _exchange(self, packed: bytes, patience: float | None = None) -> Any:
        connection = await self._take()
        try:
            reply = await self._answer(connection, packed, patience)
        except RedisError as error:
            if _replies.is_reply(error):
                await self._keep(connection, error)
            raise
        self._links.keep(connection)
        return reply

    async def _answer(self, connection: Any, packed: bytes, patience: float | None = None) -> Any:
        """One request and its reply. A connection is closed by whatever breaks this off, Ctrl-C included."""
        seconds = patience or self._connector.patience
        try:
            async with asyncio.timeout(seconds):
                await connection.send_packed_command(packed, check_health=False)
                return await connection.read_response(disable_decoding=True)
        except TimeoutError:
            await self._links.drop(connection)
            raise RedisTimeoutError(f"no answer in {seconds:g} s") from None
        except BaseException as error:
            if not (isinstance(error, RedisError) and _replies.is_reply(error)):
                await self._links.drop(connection)
            raise

    async def _take(self) -> Any:
        return await self._links.take()

    @property
    def _idle(self) -> Home:
        return self._links.home

    async def _check(self, connection: Any) -> None:
        """Refuses a server that loses items, and a replica. A user without the right to ask is taken at its
        administrator's word.
        """
        facts = await self._facts(connection)
        if facts:
            _policy.check_server(facts)
            self._replicas = facts.replicas
        if self._connector.sentinel and facts and facts.role == "slave":
            raise RedisConnectionError(f"{endpoint(connection)} is a replica, not the master")

    async def _facts(self, connection: Any) -> _policy.ServerFacts | None:
        try:
            info = await self._answer(connection, _replies.pack(("INFO",)))
        except RedisError as error:
            if not _replies.error_reply(error).startswith("NOPERM"):
                raise
            log.info("queue %s: no right to INFO, the server's settings are not checked", self.session.queue)
            return None
        return _policy.server_facts(info.decode())
