"""What is wrong with a server, from what it says of itself. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from reliq import _advisories
from reliq._policy import check_server as _check
from reliq._policy import server_facts
from reliq.errors import ServerError

ALMOST, FULL = 0.75, 0.9  # of maxmemory, and of maxclients
LAG_SECONDS, LAG_BYTES = 10, 16 * 1024 * 1024
OFFSET, FAR_OFFSET = 1.0, 30.0  # seconds between two clocks


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # may cost something one day
    CRITICAL = "critical"  # can lose items, or nothing works
    UNKNOWN = "unknown"  # could not be looked at


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: how bad it is.
        title: a few words that stay the same, to filter by.
        where: the server or Sentinel; empty for all of it.
        what: what was found.
        can_cost: what may happen because of it; empty where it is in order.
        do: what to do about it; likewise.
    """

    level: Level
    title: str
    where: str
    what: str
    can_cost: str = ""
    do: str = ""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What one server says.

    Attributes:
        info: INFO; empty where the user may not ask.
        config: the settings that were asked for; None where the user may not ask.
        offset: seconds that its clock is ahead of ours.
        failure: why there is nothing; empty where there is.
        sentinels: whether Sentinels watch over it.
    """

    where: str
    info: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] | None = None
    offset: float | None = None
    failure: str = ""
    sentinels: bool = False

    @property
    def role(self) -> str:
        """`master` or `slave`; empty where it does not tell."""
        return self.info.get("role", "")

    def setting(self, name: str) -> str:
        """A setting, from CONFIG or, where that is closed, from INFO; empty where neither tells."""
        found = (self.config or {}).get(name)
        return self.info.get(name.replace("-", "_"), "") if found is None else found

    def number(self, name: str) -> int:
        """A whole number of INFO; 0 where there is none."""
        text = self.info.get(name, "0")
        return int(text) if text.lstrip("-").isdigit() else 0


def of_server(report: ServerReport) -> Iterator[Finding]:
    """All findings about one server."""
    if report.failure:
        yield _worse(
            Level.CRITICAL if report.role != "slave" else Level.WARNING,
            "reachable",
            report,
            f"no answer: {report.failure}",
            "nothing can be said of it, and it may be down",
            "look whether it runs, and whether address, password and network are right",
        )
        return
    if not report.info:
        yield Finding(Level.UNKNOWN, "settings", report.where, "this user may not ask INFO", "", "give it +info")
        return
    for rule in (_version, _holes, _policy, _memory, _clients, _persistence, _disk, _durability, _replicas, _clock):
        yield from rule(report)


def _version(report: ServerReport) -> Iterator[Finding]:
    facts = server_facts("\n".join(f"{name}:{value}" for name, value in report.info.items()))
    named = f"{facts.name} {facts.version}"
    try:
        _check(facts.__class__(facts.name, facts.version, "", ""))
    except ServerError as error:
        yield _worse(Level.CRITICAL, "version", report, str(error), "reliq refuses to use it", "upgrade the server")
    else:
        yield Finding(Level.OK, "version", report.where, named)


def _holes(report: ServerReport) -> Iterator[Finding]:
    """One finding for all holes; not for certain, as the version is all that is known."""
    facts = server_facts("\n".join(f"{name}:{value}" for name, value in report.info.items()))
    if holes := _advisories.open_holes(facts.name, facts.version):
        named = ", ".join(number for hole in holes for number in hole.ids)
        doubt = _advisories.doubt(facts.name, facts.version)
        yield _worse(
            Level.WARNING,
            "security",
            report,
            f"going by its number alone, {facts.name} {facts.version} is open to {named}; but {doubt}",
            "; ".join(hole.what for hole in holes),
            f"go to {facts.name} {_advisories.cure(holes, facts.name, facts.version)} or later, "
            "or see in the changes of your distribution's package that it has the fixes",
        )


def _policy(report: ServerReport) -> Iterator[Finding]:
    policy = report.setting("maxmemory-policy")
    if policy.startswith("allkeys"):
        yield _worse(
            Level.CRITICAL,
            "eviction",
            report,
            f"maxmemory-policy is {policy}",
            "items are deleted when memory is full; reliq refuses to use it",
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file",
        )
    elif not policy:
        yield Finding(
            Level.UNKNOWN, "eviction", report.where, "maxmemory-policy is hidden", "", "it must be noeviction"
        )
    else:
        yield Finding(Level.OK, "eviction", report.where, f"maxmemory-policy is {policy}: no item has a time to live")


def _memory(report: ServerReport) -> Iterator[Finding]:
    limit, used = report.number("maxmemory"), report.number("used_memory")
    if not limit:
        yield _worse(
            Level.WARNING,
            "memory",
            report,
            "there is no maxmemory",
            "a queue that nobody works on grows until the kernel kills the server",
            "CONFIG SET maxmemory, well below the machine's memory, and max_length for the queues",
        )
        return
    share = used / limit
    level = Level.CRITICAL if share >= FULL else Level.WARNING if share >= ALMOST else Level.OK
    text = f"{share:.0%} of maxmemory ({limit / 2**20:.0f} MiB) is used"
    if level == Level.OK:
        yield Finding(level, "memory", report.where, text)
    else:
        cost = "when it is full, enqueueing is refused; what is there can still be worked off"
        yield _worse(level, "memory", report, text, cost, "raise maxmemory, or let more workers run")


def _clients(report: ServerReport) -> Iterator[Finding]:
    limit, now = report.number("maxclients"), report.number("connected_clients")
    if limit and now / limit >= ALMOST:
        text = f"{now} of at most {limit} connections are open"
        yield _worse(Level.WARNING, "connections", report, text, "new workers are refused", "raise maxclients")


def _persistence(report: ServerReport) -> Iterator[Finding]:
    appends, saves = report.info.get("aof_enabled") == "1", report.setting("save")
    if appends:
        yield from _fsync(report)
        return
    if report.config is None:
        yield Finding(Level.UNKNOWN, "persistence", report.where, "no append-only file; the rest is hidden", "", "")
        return
    watched = report.sentinels or report.number("connected_slaves") > 0 or report.role == "slave"
    if not saves:
        wiped = " A master that comes back empty before Sentinels notice wipes its replicas too." if watched else ""
        yield _worse(
            Level.CRITICAL,
            "persistence",
            report,
            "nothing is written to disk",
            f"a restart loses every item.{wiped}",
            "CONFIG SET appendonly yes, and the same in its configuration file",
        )
        return
    cost = "a restart loses what came since the last snapshot"
    yield _worse(Level.WARNING, "persistence", report, f"only snapshots (save {saves})", cost, "appendonly yes")


def _fsync(report: ServerReport) -> Iterator[Finding]:
    how = report.setting("appendfsync")
    if how == "no":
        cost = "a power failure loses what the kernel had not written, half a minute or so"
        yield _worse(Level.WARNING, "persistence", report, "appendfsync is no", cost, "appendfsync everysec or always")
    else:
        yield Finding(Level.OK, "persistence", report.where, f"append-only file, appendfsync {how or 'unknown'}")


def _disk(report: ServerReport) -> Iterator[Finding]:
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if report.info.get(name, "ok") != "ok":
            cost = "all writes are refused while that lasts (MISCONF), and a restart may lose items"
            yield _worse(
                Level.CRITICAL, "disk", report, f"{name} is {report.info[name]}", cost, "look at its disk and log"
            )


def _durability(report: ServerReport) -> Iterator[Finding]:
    if not report.sentinels or report.role != "master":
        return
    wanted = report.setting("min-replicas-to-write")
    if not wanted or report.config is None:
        yield Finding(Level.UNKNOWN, "min-replicas", report.where, "min-replicas-to-write is hidden", "", "")
    elif wanted == "0":
        yield _worse(
            Level.WARNING,
            "min-replicas",
            report,
            "min-replicas-to-write is 0",
            "a master that is cut off from its replicas goes on taking items, and loses them when the cut heals",
            "min-replicas-to-write 1 and min-replicas-max-lag 10 on all servers",
        )
    else:
        lag = report.setting("min-replicas-max-lag")
        yield Finding(Level.OK, "min-replicas", report.where, f"writes need {wanted} replicas, at most {lag} s behind")


def _replicas(report: ServerReport) -> Iterator[Finding]:
    if report.role == "slave":
        if report.info.get("master_link_status") != "up":
            cost = "it falls behind, and if it became the master, what it lacks would be lost"
            yield _worse(
                Level.CRITICAL, "replication", report, "its link to the master is down", cost, "look at its log"
            )
        return
    count = report.number("connected_slaves")
    if report.sentinels and not count:
        cost = "there is nobody to fail over to, and one copy of every item"
        yield _worse(Level.CRITICAL, "replicas", report, "no replica is connected", cost, "start one")
    for replica in _rows(report.info):
        behind = report.number("master_repl_offset") - int(replica.get("offset", "0"))
        late = int(replica.get("lag", "0"))
        text = f"{replica.get('ip')}:{replica.get('port')} is {late} s and {behind} bytes behind"
        if late > LAG_SECONDS or behind > LAG_BYTES or replica.get("state") != "online":
            cost = "if it became the master now, what it lacks would be lost"
            yield _worse(Level.WARNING, "replicas", report, text, cost, "look at its network and load")
        else:
            yield Finding(Level.OK, "replicas", report.where, text)


def _clock(report: ServerReport) -> Iterator[Finding]:
    if report.offset is None:
        return
    ahead = report.offset
    text = f"its clock is {abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    level = Level.CRITICAL if abs(ahead) > FAR_OFFSET else Level.WARNING if abs(ahead) > OFFSET else Level.OK
    if level == Level.OK:
        yield Finding(level, "clock", report.where, text)
        return
    cost = "after a failover to a server with another clock, leases end too early or too late, and so do delays"
    yield _worse(level, "clock", report, text, cost, "run a time service (chrony) on all machines")


def _rows(info: dict[str, str]) -> Iterator[dict[str, str]]:
    """The replicas in INFO: slave0:ip=...,port=...,state=online,offset=...,lag=..."""
    for name, value in info.items():
        if name.startswith("slave") and name[5:].isdigit():
            yield dict(part.partition("=")[::2] for part in value.split(","))


def _worse(level: Level, title: str, report: ServerReport, what: str, cost: str, do: str) -> Finding:
    return Finding(level, title, report.where, what, cost, do)
