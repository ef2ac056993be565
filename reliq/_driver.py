"""Runs commands and plans to their end: repeats what failed in a way that may pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError

from reliq import _plans, _policy, _replies
from reliq._keys import REGISTRY
from reliq._links import Home
from reliq._plans import Effect, Listen, Plan, Sleep
from reliq._policy import Retry
from reliq._session import Command
from reliq._waits import Waits
from reliq.errors import ReliqError, Unavailable

T = TypeVar("T")
log = logging.getLogger("reliq")


class Driver(Waits):
    """Sends the commands of one queue over connections of its own. Threads may share it; a forked child may use it.

    A connection is used by one call at a time, and never again after a call on it was broken off: an answer that
    nobody waits for must not be read by the next one.

    Attributes:
        retries: attempts that failed in a way that may pass.
    """

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
