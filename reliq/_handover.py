"""The steps of a planned failover on servers that do not hand over by themselves: pause, catch up, switch, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reliq import _ready
from reliq._admin import Link, Refused, Unreachable
from reliq._ready import Readiness
from reliq._site import Site, most, shown
from reliq._topology import Address

LOOK = 0.02  # seconds between two looks while writers wait
SETTLE = 10.0  # seconds to find out, after something went wrong, which server is the master
_SPARE = 15.0  # seconds; Sentinels make a replica of an old master about ten after the switch


class NotInTime(Exception):
    """A step took too long."""


class Pause:
    """Writes on one master that wait. Its end is known to the server too, so that it is over when we are gone.

    Args:
        link: to the master.

    Attributes:
        began: when the first one was asked for, on the monotonic clock; 0 where none was.
        ends: when it is over in any case.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.began = 0.0
        self.ends = 0.0

    def extend(self, seconds: float) -> None:
        """Pauses writes for so long, or for longer than it was to last. Raises Refused, Unreachable."""
        before = time.monotonic()
        self.began = self.began or before  # where the reply is missing it may have begun
        self._link.call("CLIENT", "PAUSE", int(seconds * 1000), "WRITE")
        self.ends = before + seconds

    def end(self) -> None:
        """Lets writes go on. Raises Refused, Unreachable."""
        self._link.call("CLIENT", "UNPAUSE")


class HandOver:
    """One failover by pause.

    Args:
        site: the deployment.
        ready: what was seen of it, without reasons against.
        until: when to give up, on the monotonic clock.
        say: is told of each step.
    """

    def __init__(self, site: Site, ready: Readiness, until: float, say: Callable[[str], None]) -> None:
        self._site, self._ready, self._until, self._say = site, ready, until, say
        self.old = ready.known_master
        self.pause = Pause(site.server(ready.known_master))
        self.asked_at = 0.0
        self.offset = 0
        self.resumed_at = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Writes wait inside, and go on at its end, however that comes: on the one server that is master then."""
        try:
            yield
        finally:
            if self.pause.began:
                self._resume()

    def catch_up(self) -> None:
        """Pauses writes and waits until every replica that could become the master has them all.

        Kept shorter than the Sentinels' patience: their own announcements wait as well, and they would take the master
        for dead.
        """
        seconds = max(0.2, min(5.0, self._ready.down_after / 2, self._until - time.monotonic()))
        until = time.monotonic() + seconds
        self.pause.extend(seconds + 1.0)
        offset = _ready.offset_of(self._site, self.old)
        while missing := _ready.behind(self._site, offset, self._ready.replicas):
            if time.monotonic() > until:
                raise NotInTime(f"after {seconds:g} s a replica is still {missing} bytes behind the master")
            time.sleep(LOOK)
        self.offset = offset

    def switch(self) -> Address:
        """Asks a Sentinel to fail over, and waits until most of them name another master. Returns its address."""
        self.pause.extend(self._until - time.monotonic() + _SPARE)
        self.asked_at = time.monotonic()  # before: where the reply is missing it may have begun
        ask(self._site, self._ready)
        return wait_switched(self._site, self._ready, self._until)

    def _resume(self) -> None:
        if not self.asked_at:
            self._unpause()
            return
        until = time.monotonic() + SETTLE
        while not (decided := self._decided()):
            if time.monotonic() > until:
                left = max(0.0, self.pause.ends - time.monotonic())
                self._say(f"it is open who the master is: writes on {shown(self.old)} wait for {left:.0f} s more")
                return
            time.sleep(LOOK)
        if decided != self.old and not self._demoted(decided):
            self._say(f"{shown(self.old)} did not become a replica: writes on it wait for its Sentinels")
            return
        self._unpause()

    def _decided(self) -> Address | None:
        """Who the master is and stays; None where a Sentinel may still change that."""
        named = most(self._site.named(self._ready.sentinels), len(self._ready.sentinels))
        if named and named != self.old:
            return named
        try:
            link = self._site.at_sentinel(self._ready.asked.address)
            if "failover_in_progress" in link.fields("SENTINEL", "MASTER", self._site.sentinel.name)["flags"]:
                return None
            promoted = [r for r in self._ready.replicas if is_master(self._site, r)]
        except (Refused, Unreachable):
            return None
        return None if promoted else named

    def _demoted(self, new: Address) -> bool:
        """Makes a replica of the old master, as its Sentinels would ten seconds later: what waits there is refused."""
        link = self._site.server(self.old)
        try:
            link.call("REPLICAOF", new[0], new[1])
        except (Refused, Unreachable) as error:
            self._say(str(error))
            return False
        try:
            link.call("CONFIG", "REWRITE")
        except (Refused, Unreachable) as error:  # it would be put right by its Sentinels after a restart
            self._say(f"the role is not in its configuration file: {error}")
        return True

    def _unpause(self) -> None:
        try:
            self.pause.end()
            self.resumed_at = time.monotonic()
        except (Refused, Unreachable) as error:
            left = max(0.0, self.pause.ends - time.monotonic())
            self._say(f"{error}; the pause of {shown(self.old)} ends by itself in {left:.0f} s")


def ask(site: Site, ready: Readiness, *more: str) -> None:
    """SENTINEL FAILOVER. Raises Refused, Unreachable."""
    site.at_sentinel(ready.asked.address).call("SENTINEL", "FAILOVER", site.sentinel.name, *more)


def wait_switched(site: Site, ready: Readiness, until: float) -> Address:
    """Waits until most Sentinels name another master, and that says so itself. Returns its address.

    Raises:
        NotInTime.
    """
    while True:
        named = most(site.named(ready.sentinels), len(ready.sentinels))
        if named and named != ready.master and is_master(site, named):
            return named
        if time.monotonic() > until:
            raise NotInTime(f"most Sentinels still do not name another master than {shown(ready.master)}")
        time.sleep(LOOK)


def is_master(site: Site, address: Address) -> bool:
    """Whether a server says that it is one. False where it does not answer."""
    try:
        return site.server(address).fields("INFO", "replication").get("role") == "master"
    except (Refused, Unreachable):
        return False
