"""The connections of a sync driver: idle, busy, and given up because the master has changed."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from reliq import _replies, _sentinel
from reliq._policy import Applied, Retry
from reliq._topology import Address, Sentinel, shown
from reliq.connect import Connector

log = logging.getLogger("reliq")

OnFailover = Callable[[str, str], object]


class Home(deque[Any]):
    """Idle connections to one master. When it is given up `left` is set, and its connections are used no more."""

    def __init__(self) -> None:
        super().__init__()
        self.left = threading.Event()


class Links:
    """Connections for one driver, to wherever the master is. Threads may share it; a forked child starts over.

    Args:
        connector: makes them.
        check: looks at each new one, and raises where it can't be used.
        on_failover: is called with the old and the new address of the master, in a thread of its own.
    """

    def __init__(
        self, connector: Connector[Any], check: Callable[[Any], None], on_failover: OnFailover | None = None
    ) -> None:
        self.home = Home()
        self.failovers = 0
        self._connector = connector
        self._check = check
        self._on_failover = on_failover
        self._busy: dict[Any, Home] = {}
        self._watch: _sentinel.Watch | None = None
        self._pid = os.getpid()

    def take(self) -> Any:
        """An idle connection or a new one; give it back with `keep` or `drop`.

        Raises:
            Retry, ReliqError: there is none to be had.
        """
        if self._pid != os.getpid():
            self._pid, self.home, self._busy, self._watch = os.getpid(), Home(), {}, None
        if self._connector.sentinel:
            self._watching(self._connector.sentinel)
        while True:
            home = self.home
            try:
                connection = home.pop()
            except IndexError:
                break  # not in here: an error of `open` has nothing to do with this one
            self._busy[connection] = home
            if home is self.home:
                return connection
            self.drop(connection)
        return self.open()

    def open(self) -> Any:
        """A new connection, as `take` gives one."""
        home, master = self.home, self._master()
        while home is not self.home:  # the answer may be about the master before
            home, master = self.home, self._master()
        connection = self._connector.make(master)
        self._busy[connection] = home
        try:
            self._still(home)
            connection.connect()
            self._check(connection)
        except RedisError as error:
            self.drop(connection)
            raise self._explained(_replies.from_connect(error, connection)) from error
        except BaseException:
            self.drop(connection)
            raise
        return connection

    def keep(self, connection: Any) -> None:
        """Takes a connection back, for the next call; ends it where its master was given up meanwhile."""
        home = self._busy.pop(connection, None)
        if home is self.home:
            home.append(connection)
        else:
            connection.disconnect()

    def drop(self, connection: Any) -> None:
        """Ends a connection."""
        self._busy.pop(connection, None)
        connection.disconnect()

    def pause(self, seconds: float, home: Home) -> None:
        """Waits; no longer than until the master that was known as `home` is given up."""
        home.left.wait(seconds)

    def close(self) -> None:
        """Ends idle connections, and busy ones when they come back. Leaves the watch."""
        self._leave_home(interrupt=False)
        if self._watch:
            _sentinel.leave(self._watch, self)
            self._watch = None

    def changed(self, old: Address, new: Address | None) -> None:
        """The watch's thread: no connection to the old master is used any more, nobody waits for an answer on one."""
        self._leave_home(interrupt=True)
        if new and new != old:
            self.failovers += 1
            if self._on_failover:
                arguments = (self._on_failover, shown(old), shown(new))
                threading.Thread(target=_told, args=arguments, name="reliq-on-failover", daemon=True).start()

    def _leave_home(self, *, interrupt: bool) -> None:
        """A busy connection whose owner does not see the new home in time is found among the busy ones below."""
        left, self.home = self.home, Home()
        left.left.set()
        while True:
            try:
                left.pop().disconnect()
            except IndexError:
                break
        for connection, home in list(self._busy.items()) if interrupt else ():
            if home is not self.home:
                connection.interrupt()

    def _still(self, home: Home) -> None:
        if home is not self.home:  # it is among the busy ones too late to be found there
            raise RedisConnectionError("the master has changed meanwhile")

    def _watching(self, sentinel: Sentinel) -> _sentinel.Watch:
        if self._watch is None or self._watch.ended:
            self._watch = _sentinel.join(sentinel, self)
        return self._watch

    def _master(self) -> Address | None:
        if self._connector.sentinel is None:
            return None
        try:
            return self._watching(self._connector.sentinel).resolve().result(_sentinel.STUCK)
        except TimeoutError:
            raise Retry("the Sentinels were not asked in time", Applied.NO) from None

    def replicas(self) -> int:
        """How many replicas the master is known to have by the Sentinels, those that are away included; 0: unknown."""
        return self._watch.replicas() if self._watch else 0

    def _explained(self, failure: Exception) -> Exception:
        remarks = self._watch.remarks() if self._watch else ""
        return Retry(f"{failure}{remarks}", failure.applied) if remarks and isinstance(failure, Retry) else failure


def _told(on_failover: OnFailover, old: str, new: str) -> None:
    try:
        on_failover(old, new)
    except Exception:
        log.exception("on_failover failed")
