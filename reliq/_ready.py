"""Whether a planned failover may begin: everything that can be known before anything is touched."""

from __future__ import annotations

import time
from dataclasses import dataclass

from reliq._admin import Refused, Unreachable
from reliq._site import SentinelView, Site, is_away, most, place_of, shown
from reliq._topology import Address

NEAR = 1024 * 1024  # bytes behind the master at which a replica is waited for with writes paused
_NEEDED = (("CLIENT", "PAUSE", "1", "WRITE"), ("CLIENT", "UNPAUSE"), ("REPLICAOF", "NO", "ONE"))


@dataclass(frozen=True, slots=True)
class Readiness:
    """What the Sentinels and servers say before a failover.

    Attributes:
        reasons: why it must not begin; empty where it may.
        views: the word of each Sentinel.
        master: which server most Sentinels name.
        replicas: those that a Sentinel could make the master.
    """

    reasons: tuple[str, ...]
    views: tuple[SentinelView, ...]
    master: Address | None
    replicas: tuple[Address, ...]

    @property
    def sentinels(self) -> list[Address]:
        """Where all Sentinels are, those that do not answer too."""
        return [view.address for view in self.views]

    @property
    def known_master(self) -> Address:
        """The master, where there is no reason against. Raises ValueError."""
        if self.master is None:
            raise ValueError("most Sentinels name no common master")
        return self.master

    @property
    def asked(self) -> SentinelView:
        """The Sentinel that is asked to fail over: of those that answer and name the master, the first."""
        return next(view for view in self.views if view.master and view.master == self.master)

    @property
    def down_after(self) -> float:
        """Seconds without an answer after which Sentinels take the master for down; the shortest that any has."""
        known = [view.facts.get("down-after-milliseconds", "30000") for view in self.views if not view.failure]
        return min(int(ms) for ms in known) / 1000


def look(site: Site) -> Readiness:
    """Asks everybody. Nothing is changed."""
    views = tuple(site.views())
    named = [view.master for view in views if view.master]
    master = most(site.named([view.address for view in views]), len(views))
    if not master:
        said = "; ".join(f"{shown(view.address)}: {view.failure or shown(view.master)}" for view in views)
        return Readiness((f"most of the {len(views)} Sentinels name no common master ({said})",), views, None, ())
    reasons = [f"the Sentinels disagree on the master: {', '.join(map(shown, sorted(set(named))))}"] * (
        len(set(named)) > 1
    )
    replicas = _candidates(next(view for view in views if view.master == master))
    reasons += _sentinels_ill(views) + _master_ill(site, master) + _replicas_ill(site, master, replicas)
    return Readiness(tuple(reasons), views, master, tuple(replicas))


def offset_of(site: Site, address: Address) -> int:
    """How far a server is in the stream of writes. Raises Refused, Unreachable."""
    facts = site.server(address).fields("INFO", "replication")
    return int(facts["master_repl_offset" if facts["role"] == "master" else "slave_repl_offset"])


def behind(site: Site, offset: int, replicas: tuple[Address, ...]) -> int:
    """Bytes that the last of the replicas is behind an offset; 0 where all are there."""
    return max(0, offset - min(offset_of(site, replica) for replica in replicas))


def wait_near(site: Site, ready: Readiness, until: float) -> bool:
    """Waits for replicas that are far behind, while the master goes on. False where they are not near in time."""
    while behind(site, offset_of(site, ready.known_master), ready.replicas) > NEAR:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _candidates(view: SentinelView) -> list[Address]:
    """Replicas that a Sentinel may choose. One with priority 0 never is."""
    return [place_of(row) for row in view.replicas if row.get("slave-priority") != "0" and not is_away(row)]


def _sentinels_ill(views: tuple[SentinelView, ...]) -> list[str]:
    reasons = []
    for view in (view for view in views if not view.failure):
        if not view.quorum.startswith("OK"):
            reasons.append(f"Sentinel {shown(view.address)}: {view.quorum}")
        if flags := view.flags & {"s_down", "o_down", "failover_in_progress"}:
            reasons.append(f"Sentinel {shown(view.address)} sees the master as {', '.join(sorted(flags))}")
    return reasons


def _master_ill(site: Site, master: Address) -> list[str]:
    """Whether it is one, answers, and lets us do what we will have to."""
    try:
        link = site.server(master)
        role = link.fields("INFO", "replication").get("role")
        if role != "master":
            return [f"{shown(master)}, which the Sentinels name as the master, says that it is a {role}"]
        user = str(link.call("ACL", "WHOAMI"))
        tried = {words: str(link.call("ACL", "DRYRUN", user, *words)) for words in _NEEDED}
        return [f"{shown(master)}: {said}" for said in tried.values() if said != "OK"]
    except (Refused, Unreachable) as error:
        return [str(error)]


def _replicas_ill(site: Site, master: Address, replicas: list[Address]) -> list[str]:
    """A replica that a Sentinel might choose has to be reachable, and in step: else what it lacks would be lost."""
    if not replicas:
        return ["no replica is up that a Sentinel could make the master"]
    reasons = []
    for replica in replicas:
        try:
            facts = site.server(replica).fields("INFO", "replication")
        except (Refused, Unreachable) as error:
            reasons.append(f"replica {error}")
            continue
        if facts.get("role") != "slave" or facts.get("master_link_status") != "up":
            reasons.append(f"replica {shown(replica)} is not connected to the master {shown(master)}")
    return reasons
