"""A planned failover in which nothing that was acknowledged gets lost.

A plain SENTINEL FAILOVER loses it: the old master goes on taking writes for about ten seconds after the switch. Here
writes wait until the next master has everything, and the old one takes none until it is a replica.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from reliq import _handover, _policy, _ready
from reliq._admin import Refused, Unreachable
from reliq._handover import HandOver, NotInTime
from reliq._ready import Readiness
from reliq._site import Site, shown
from reliq._topology import Address, Sentinel
from reliq.connect import mask, sentinel_of
from reliq.errors import InvalidURL, ServerError

METHODS = ("auto", "coordinated", "pause")


class FailoverRefused(ServerError):
    """The deployment is in no state for a planned failover, or a server refused. Nothing has changed.

    `reasons` has what is wrong, a sentence each.
    """

    def __init__(self, name: str, reasons: tuple[str, ...]) -> None:
        super().__init__(f"no failover of {name!r}: {'; '.join(reasons)}")
        self.reasons = reasons


class FailoverFailed(ServerError):
    """It had begun, and was not done in time. `master` is who most Sentinels name now; None where they don't."""

    def __init__(self, name: str, why: str, master: Address | None) -> None:
        super().__init__(f"failover of {name!r}: {why}; the master is {shown(master)}")
        self.master = master


@dataclass(frozen=True, slots=True)
class FailoverReport:
    """What a failover did.

    Attributes:
        name: what the Sentinels call the master.
        method: `coordinated` where the servers handed over by themselves, else `pause`.
        old, new: host and port of the master before and after.
        offset: of the stream of writes, which the replicas had reached when the switch was asked for; -1 where the
            servers saw to that.
        paused: seconds for which writes waited on the old master; 0 where the servers saw to that.
        switched: seconds from asking a Sentinel until most of them named the new master.
        gap: seconds in which no master took writes, at most.
        agreed: how many Sentinels named the new master at the end, `sentinels` of how many.
    """

    name: str
    method: str
    old: Address
    new: Address
    offset: int
    paused: float
    switched: float
    gap: float
    agreed: int
    sentinels: int


def run(
    url: str | Sentinel,
    *,
    timeout: float = 30.0,
    method: str = "auto",
    on_progress: Callable[[str], None] | None = None,
) -> FailoverReport:
    """Makes a replica the master, without losing a write that was acknowledged.

    Writers wait for the time that it takes, about two seconds, and go on at the new master. Nothing begins unless most
    Sentinels agree, the quorum is there, and each replica that might be chosen is in step.

    Args:
        url: redis+sentinel://, or a `Sentinel` object.
        timeout: seconds, 1 to 600. By then it is done, or writes go on at the old master.
        method: `coordinated` (Valkey 9: the master itself hands over), `pause` (writes are paused from here), or `auto`
            for the first one that all Sentinels know.
        on_progress: is called with each step, a line of text.

    Returns:
        What happened, with times.

    Raises:
        InvalidArgument, InvalidURL.
        FailoverRefused: it was not done, and nothing has changed; the reasons are in the error.
        FailoverFailed: it was begun and not done in time.

    If the caller is killed in between, writes on the old master go on by themselves, `timeout` + 15 seconds later at
    most; what the Sentinels have begun, they end. Ctrl-C lets writes go on as soon as it is clear who the master is.
    """
    limit = _policy.seconds(timeout, "timeout", low=1, high=600)
    wanted = _policy.one_of(method, "method", METHODS)
    sentinel = _topology_of(url)
    say = on_progress or _nothing
    until = time.monotonic() + limit
    with Site(sentinel) as site:
        ready = _checked(site, until, say)
        coordinated = all(view.coordinated for view in ready.views if not view.failure)
        if wanted == "coordinated" or (wanted == "auto" and coordinated):
            return _coordinated(site, ready, until, say)
        return _by_pause(site, ready, until, say)


def readiness(url: str | Sentinel) -> Readiness:
    """Whether `run` would begin now, and on what: asks everybody, changes nothing. Raises InvalidURL."""
    with Site(_topology_of(url)) as site:
        return _ready.look(site)


def _topology_of(url: str | Sentinel) -> Sentinel:
    sentinel = sentinel_of(url)
    if sentinel is None:
        raise InvalidURL(f"{mask(str(url))} is no redis+sentinel:// URL: only Sentinels can fail over")
    return sentinel


def _checked(site: Site, until: float, say: Callable[[str], None]) -> Readiness:
    ready = _ready.look(site)
    if ready.reasons:
        raise FailoverRefused(site.sentinel.name, ready.reasons)
    say(f"{shown(ready.master)} is the master, with {len(ready.replicas)} replicas and {len(ready.views)} Sentinels")
    try:
        near = _ready.wait_near(site, ready, until)
    except (Refused, Unreachable) as error:
        raise FailoverRefused(site.sentinel.name, (str(error),)) from error
    if not near:
        raise FailoverRefused(site.sentinel.name, ("the replicas are too far behind the master, and do not catch up",))
    return ready


def _coordinated(site: Site, ready: Readiness, until: float, say: Callable[[str], None]) -> FailoverReport:
    say("the master is asked to hand over")
    asked = time.monotonic()
    try:
        _handover.ask(site, ready, "COORDINATED")
        new = _handover.wait_switched(site, ready, until)
    except Refused as error:
        raise FailoverRefused(site.sentinel.name, (str(error),)) from error
    except (NotInTime, Unreachable) as error:
        raise _failed(site, ready, error) from error
    seconds = time.monotonic() - asked
    say(f"most Sentinels name {shown(new)}")
    return _report(site, ready, "coordinated", new, offset=-1, paused=0.0, switched=seconds, gap=seconds)


def _by_pause(site: Site, ready: Readiness, until: float, say: Callable[[str], None]) -> FailoverReport:
    work = HandOver(site, ready, until, say)
    try:
        with work.paused():
            work.catch_up()
            say(f"writes are paused, and the replicas have everything up to {work.offset}; asking for the switch")
            new = work.switch()
            switched = time.monotonic()
            say(f"most Sentinels name {shown(new)}")
    except Refused as error:
        raise FailoverRefused(site.sentinel.name, (str(error),)) from error
    except (NotInTime, Unreachable) as error:
        raise _failed(site, ready, error) from error
    ended = work.resumed_at or time.monotonic()
    return _report(
        site,
        ready,
        "pause",
        new,
        offset=work.offset,
        paused=ended - work.pause.began,
        switched=switched - work.asked_at,
        gap=switched - work.pause.began,
    )


def _report(
    site: Site, ready: Readiness, method: str, new: Address, *, offset: int, paused: float, switched: float, gap: float
) -> FailoverReport:
    agreed = site.named(ready.sentinels)[new]
    return FailoverReport(
        site.sentinel.name,
        method,
        ready.known_master,
        new,
        offset,
        round(paused, 3),
        round(switched, 3),
        round(gap, 3),
        agreed,
        len(ready.views),
    )


def _failed(site: Site, ready: Readiness, error: Exception) -> FailoverFailed:
    named = site.named(ready.sentinels)
    return FailoverFailed(site.sentinel.name, str(error), named.most_common(1)[0][0] if named else None)


def _nothing(_: str) -> None:
    """Where nobody wants to hear of progress."""
