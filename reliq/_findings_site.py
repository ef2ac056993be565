"""What is wrong with a deployment as a whole: Sentinels, rights, queues, the client. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reliq._advisories import version_of
from reliq._findings import FAR_OFFSET, OFFSET, Finding, Level, ServerReport, of_server
from reliq._site import SentinelView, shown
from reliq._topology import Address

SHORT, LONG = 1.0, 30.0  # seconds of down-after: below it a hiccup is a failover, above it everybody waits
LAYOUT = "1"
OLD_CLIENT = (5, 2)


@dataclass(frozen=True, slots=True)
class QueueReport:
    """What `meta` of a listed queue says, or why that can't be read; all empty where the queue is gone."""

    name: str
    layout: str = ""
    state: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found out.

    Attributes:
        servers: each server; the one that is used first.
        views: each Sentinel's word; empty where there are none.
        master: which server most Sentinels name.
        user: who we are on the server; empty where it does not tell.
        rights: what this user lacks for each role; None where it may not try, empty where nobody could be asked.
        queues: those that are listed; None where the user may not ask.
        client: name and version of what reliq talks with.
        patience: seconds without an answer after which a connection is given up.
    """

    servers: Sequence[ServerReport]
    views: Sequence[SentinelView] = ()
    master: Address | None = None
    user: str = ""
    rights: Mapping[str, Sequence[str]] | None = None
    queues: Sequence[QueueReport] | None = ()
    client: Mapping[str, str] = field(default_factory=dict)
    patience: float = 5.0


def findings(report: Report) -> list[Finding]:
    """Everything, the worst first."""
    found = [finding for server in report.servers for finding in of_server(server)]
    for rule in (_role, _sentinels, _agreement, _down_after, _clocks, _rights, _queues, _client):
        found += rule(report)
    worst = (Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK)
    return sorted(found, key=lambda finding: worst.index(finding.level))


def _role(report: Report) -> Iterator[Finding]:
    if not report.servers or report.servers[0].failure:
        return
    used = report.servers[0]
    if used.role == "slave":
        cost = "every call is refused as READONLY"
        do = "pass the URL of the master, or redis+sentinel:// with the Sentinels"
        yield Finding(Level.CRITICAL, "role", used.where, "the URL leads to a replica", cost, do)
    elif used.role:
        yield Finding(Level.OK, "role", used.where, "it is the master")


def _sentinels(report: Report) -> Iterator[Finding]:
    count = len(report.views)
    if not report.views:
        return
    if count < 3:
        cost = "when one machine dies nobody may fail over"
        what = f"{count} Sentinels"
        yield Finding(Level.WARNING, "sentinels", "", what, cost, "run three or more, each on a machine of its own")
    else:
        yield Finding(Level.OK, "sentinels", "", f"{count} Sentinels")
    for view in report.views:
        where = f"Sentinel {shown(view.address)}"
        if view.failure:
            cost, do = "one less that may vote, and that clients can ask", "look whether it runs and can be reached"
            yield Finding(Level.WARNING, "sentinels", where, f"no answer: {view.failure}", cost, do)
        elif not view.quorum.startswith("OK"):
            cost = "no failover happens when the master dies"
            yield Finding(Level.CRITICAL, "quorum", where, view.quorum, cost, "bring the missing Sentinels back")
        else:
            yield Finding(Level.OK, "quorum", where, view.quorum)
    yield from _quorum(report)


def _quorum(report: Report) -> Iterator[Finding]:
    quorums = {int(view.facts["quorum"]) for view in report.views if view.facts.get("quorum", "").isdigit()}
    if 1 in quorums and len(report.views) > 1:
        cost = "one Sentinel that has lost its network begins failovers that nobody needs"
        yield Finding(Level.WARNING, "quorum", "", "the quorum is 1", cost, "SENTINEL SET name quorum: more than half")
    if len(quorums) > 1:
        listed = ", ".join(map(str, sorted(quorums)))
        yield Finding(
            Level.WARNING, "quorum", "", f"the Sentinels have different quorums: {listed}", "", "make them equal"
        )


def _agreement(report: Report) -> Iterator[Finding]:
    if not report.views:
        return
    named = {view.master for view in report.views if view.master}
    if report.master is None:
        cost = "clients do not know where to go"
        what = f"most Sentinels name no common master: {', '.join(map(shown, sorted(named))) or 'none'}"
        yield Finding(Level.CRITICAL, "master", "", what, cost, "look at the logs of the Sentinels")
    elif len(named) > 1:
        cost = "clients that ask the wrong one write to a server that is not the master"
        what = f"the Sentinels name different masters: {', '.join(map(shown, sorted(named)))}"
        yield Finding(
            Level.CRITICAL, "master", "", what, cost, "wait for the end of a failover, else look at their logs"
        )
    else:
        yield Finding(Level.OK, "master", "", f"all Sentinels that answer name {shown(report.master)}")


def _down_after(report: Report) -> Iterator[Finding]:
    known = {view.address: int(view.facts.get("down-after-milliseconds", "0")) / 1000 for view in report.views}
    seconds = sorted({value for value in known.values() if value})
    if not seconds:
        return
    if seconds[-1] > LONG:
        cost = f"when the master dies, nothing works for more than {seconds[-1]:g} s"
        do = "SENTINEL SET name down-after-milliseconds 5000"
        yield Finding(Level.WARNING, "down-after", "", f"down-after is {seconds[-1]:g} s", cost, do)
    elif seconds[0] < SHORT:
        cost = "a server that pauses for a moment (fork, slow script) is failed over"
        do = "SENTINEL SET name down-after-milliseconds 5000"
        yield Finding(Level.WARNING, "down-after", "", f"down-after is {seconds[0]:g} s", cost, do)
    else:
        yield Finding(Level.OK, "down-after", "", f"down-after is {seconds[0]:g} s")
    if len(seconds) > 1:
        listed = ", ".join(f"{value:g} s" for value in seconds)
        what = f"the Sentinels have different down-after: {listed}"
        yield Finding(
            Level.WARNING, "down-after", "", what, "they do not see a dead master together", "make them equal"
        )


def _clocks(report: Report) -> Iterator[Finding]:
    """Between the servers: after a failover, another clock decides on leases."""
    offsets = [server.offset for server in report.servers if server.offset is not None]
    if len(offsets) < 2:
        return
    apart = max(offsets) - min(offsets)
    level = Level.CRITICAL if apart > FAR_OFFSET else Level.WARNING if apart > OFFSET else Level.OK
    what = f"the clocks of the servers are {apart:.2f} s apart"
    if level == Level.OK:
        yield Finding(level, "clock", "", what)
    else:
        cost = "after a failover all leases end at once, or none ends for that long"
        yield Finding(level, "clock", "", what, cost, "run a time service (chrony) on all of them")


def _rights(report: Report) -> Iterator[Finding]:
    if report.rights is None:
        what = f"{report.user or 'this user'} may not try its rights (ACL DRYRUN)"
        do = "run it as an administrator, or as this user with +acl|dryrun +acl|whoami for a moment"
        yield Finding(Level.UNKNOWN, "rights", "", what, "", do)
        return
    if not report.rights:
        return
    whole = [role for role, lacking in report.rights.items() if not lacking]
    if not whole:
        nearest = min(report.rights.items(), key=lambda each: len(each[1]), default=("", ()))
        cost = "calls are refused as AccessDenied"
        what = f"{report.user} has all rights of no role; nearest is {nearest[0]}, without {', '.join(nearest[1][:3])}"
        yield Finding(
            Level.CRITICAL, "rights", "", what, cost, "see `reliq acl`; after an upgrade of reliq print them again"
        )
    else:
        yield Finding(Level.OK, "rights", "", f"{report.user} can be {', '.join(whole)}")


def _queues(report: Report) -> Iterator[Finding]:
    if report.queues is None:
        yield Finding(Level.UNKNOWN, "queues", "", "this user may not list queues", "", "see `reliq acl monitor`")
        return
    for queue in report.queues:
        where = f"queue {queue.name}"
        if queue.failure:
            yield Finding(Level.UNKNOWN, "queues", where, queue.failure, "", "give +hmget on its keys")
        elif not queue.layout:
            cost = "clients that know it get StateLost"
            do = "rebuild it from its mirror, or accept the loss: docs/how-to/state-lost.md"
            yield Finding(Level.WARNING, "queues", where, "it is listed, and its state is gone", cost, do)
        elif queue.layout != LAYOUT:
            what, do = f"its layout is {queue.layout}, this reliq knows {LAYOUT}", "upgrade reliq here"
            yield Finding(Level.CRITICAL, "queues", where, what, "this reliq refuses to touch it", do)
        elif queue.state != "ready":
            what, do = f"its state is {queue.state}", "end the rebuild: `reliq recover verify`"
            yield Finding(Level.WARNING, "queues", where, what, "it is closed for everything but reading", do)
        else:
            yield Finding(Level.OK, "queues", where, f"layout {queue.layout}, {queue.state}")


def _client(report: Report) -> Iterator[Finding]:
    for name, version in report.client.items():
        if name == "redis-py" and version_of(version) < OLD_CLIENT:
            do = "pip install -U redis"
            yield Finding(Level.CRITICAL, "client", "", f"{name} {version}", "reliq is not tested with it", do)
        else:
            yield Finding(Level.OK, "client", "", f"{name} {version}")
    if report.patience < 1.0:
        what = f"socket_timeout is {report.patience:g} s"
        cost = "a server that is slow for a moment looks dead, and calls are sent again"
        yield Finding(Level.WARNING, "timeouts", "", what, cost, "1 to 5 s in the URL: ?socket_timeout=5")
    elif report.patience > 30.0:
        what = f"socket_timeout is {report.patience:g} s"
        cost = "a master that hangs is noticed so late"
        yield Finding(Level.WARNING, "timeouts", "", what, cost, "1 to 5 s in the URL: ?socket_timeout=5")
    else:
        yield Finding(Level.OK, "timeouts", "", f"socket_timeout is {report.patience:g} s")
