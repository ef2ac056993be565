"""Asyncio twin of `_driver.py`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError

from reliq import _plans, _replies
from reliq._keys import REGISTRY
from reliq._links_async import Home
from reliq._plans import Effect, Listen, Plan, Sleep
from reliq._policy import Retry
from reliq._session import Command
from reliq._waits_async import AsyncWaits
from reliq.errors import ReliqError

T = TypeVar("T")
log = logging.getLogger("reliq")


class AsyncDriver(AsyncWaits):
    """Sends the commands of one queue over connections of its own. Tasks of one event loop share
    it; on another loop, or in a forked child, it starts over with new connections.

    A connection is used by one call at a time, and never again after a call on it was broken off, a
    cancelled task's included: an answer that nobody waits for must not be read by the next one.

    Attributes:
        retries: attempts that failed in a way that may pass.
    """

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
