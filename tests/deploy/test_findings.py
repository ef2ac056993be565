"""The rules of `reliq doctor`, on facts: which of them make which finding. No server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reliq import _advisories
from reliq._findings import Finding, Level, ServerReport, of_server
from reliq._findings_site import QueueReport, Report, findings
from reliq._site import SentinelView

INFO = {
    "valkey_version": "9.1.2",
    "role": "master",
    "maxmemory": "1000000000",
    "used_memory": "1000000",
    "maxclients": "10000",
    "connected_clients": "10",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "connected_slaves": "1",
    "master_repl_offset": "5000",
    "slave0": "ip=10.0.0.2,port=6379,state=online,offset=5000,lag=0",
}
CONFIG = {
    "maxmemory-policy": "noeviction",
    "save": "",
    "appendfsync": "everysec",
    "min-replicas-to-write": "1",
    "min-replicas-max-lag": "10",
}
GOOD = ServerReport("10.0.0.1:6379", INFO, CONFIG, 0.01, sentinels=True)
MASTER = ("10.0.0.1", 6379)
VIEWS = tuple(
    SentinelView(
        (f"10.0.1.{number}", 26379),
        master=MASTER,
        facts={"quorum": "2", "down-after-milliseconds": "5000", "flags": "master"},
        quorum="OK 3 usable Sentinels.",
    )
    for number in (1, 2, 3)
)
WELL = Report(
    [GOOD], VIEWS, MASTER, "default", {"worker": ()}, [QueueReport("emails", "1", "ready")], {"redis-py": "8.1.0"}
)


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    """Level and title of what is not in order."""
    return [(str(finding.level), finding.title) for finding in found if finding.level != Level.OK]


def server(**changes: str) -> ServerReport:
    """A good server, with other lines in its INFO."""
    return replace(GOOD, info=INFO | changes)


def setting(name: str, value: str) -> ServerReport:
    """A good server, with another setting."""
    return replace(GOOD, config=CONFIG | {name: value})


def test_a_good_deployment_has_nothing_but_what_is_in_order() -> None:
    """Each rule says something, and nothing alarms."""
    found = findings(WELL)
    assert bad(found) == []
    titles = {finding.title for finding in found}
    assert titles >= set("version eviction memory persistence min-replicas replicas clock role quorum rights".split())


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (server(valkey_version="7.0.1"), ("critical", "version")),
        (server(valkey_version="8.1.0"), ("warning", "security")),
        (setting("maxmemory-policy", "allkeys-lru"), ("critical", "eviction")),
        (server(maxmemory="0"), ("warning", "memory")),
        (server(used_memory="800000000"), ("warning", "memory")),
        (server(used_memory="950000000"), ("critical", "memory")),
        (server(connected_clients="9000"), ("warning", "connections")),
        (server(aof_enabled="0"), ("critical", "persistence")),
        (replace(GOOD, info=INFO | {"aof_enabled": "0"}, config=CONFIG | {"save": "60 1"}), ("warning", "persistence")),
        (setting("appendfsync", "no"), ("warning", "persistence")),
        (server(aof_last_write_status="err"), ("critical", "disk")),
        (server(rdb_last_bgsave_status="err"), ("critical", "disk")),
        (setting("min-replicas-to-write", "0"), ("warning", "min-replicas")),
        (server(slave0="ip=10.0.0.2,port=1,state=online,offset=4000,lag=40"), ("warning", "replicas")),
        (server(slave0="ip=10.0.0.2,port=1,state=wait_bgsave,offset=0,lag=0"), ("warning", "replicas")),
        (server(role="slave", master_link_status="down"), ("critical", "replication")),
        (replace(GOOD, offset=-3.0), ("warning", "clock")),
        (replace(GOOD, offset=90.0), ("critical", "clock")),
        (ServerReport("10.0.0.1:6379", failure="refused"), ("critical", "reachable")),
        (ServerReport("10.0.0.1:6379"), ("unknown", "settings")),
    ],
)
def test_a_server_in_disorder(report: ServerReport, expected: tuple[str, str]) -> None:
    """One finding, with its cost and what to do about it."""
    found = list(of_server(report))
    assert expected in bad(found)
    wrong = [finding for finding in found if finding.level in (Level.WARNING, Level.CRITICAL)]
    assert all(finding.can_cost and finding.do for finding in wrong)


def test_a_master_without_persistence_that_has_replicas_wipes_them() -> None:
    """It is said only where there is somebody to be wiped."""
    alone = replace(server(aof_enabled="0", connected_slaves="0"), sentinels=False)
    watched = server(aof_enabled="0")
    costs = [next(f.can_cost for f in of_server(each) if f.title == "persistence") for each in (alone, watched)]
    assert "wipes its replicas" not in costs[0]
    assert "wipes its replicas" in costs[1]


def test_what_the_user_may_not_ask_is_unknown_and_no_alarm() -> None:
    """With CONFIG closed, as managed services have it, INFO tells what it can."""
    report = ServerReport("10.0.0.1:6379", INFO | {"maxmemory_policy": "noeviction"}, None, 0.0, sentinels=True)
    assert set(bad(list(of_server(report)))) == {("unknown", "min-replicas")}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (replace(WELL, views=VIEWS[:2]), ("warning", "sentinels")),
        (replace(WELL, views=(*VIEWS[:2], SentinelView(("10.0.1.3", 1), failure="refused"))), ("warning", "sentinels")),
        (replace(WELL, views=(*VIEWS[:2], replace(VIEWS[2], quorum="NOQUORUM 1 usable"))), ("critical", "quorum")),
        (replace(WELL, views=(*VIEWS[:2], replace(VIEWS[2], master=("10.0.0.2", 6379)))), ("critical", "master")),
        (replace(WELL, master=None), ("critical", "master")),
        (replace(WELL, servers=[server(role="slave", master_link_status="up")]), ("critical", "role")),
        (replace(WELL, servers=[GOOD, replace(GOOD, offset=3.0)]), ("warning", "clock")),
        (replace(WELL, rights=None), ("unknown", "rights")),
        (replace(WELL, rights={"worker": ["script claim"], "producer": ["XADD", "HSET"]}), ("critical", "rights")),
        (replace(WELL, queues=None), ("unknown", "queues")),
        (replace(WELL, queues=[QueueReport("emails")]), ("warning", "queues")),
        (replace(WELL, queues=[QueueReport("emails", "2", "ready")]), ("critical", "queues")),
        (replace(WELL, queues=[QueueReport("emails", "1", "rebuilding")]), ("warning", "queues")),
        (replace(WELL, queues=[QueueReport("emails", failure="NOPERM")]), ("unknown", "queues")),
        (replace(WELL, client={"redis-py": "4.6.0"}), ("critical", "client")),
        (replace(WELL, patience=0.3), ("warning", "timeouts")),
        (replace(WELL, patience=120.0), ("warning", "timeouts")),
    ],
)
def test_a_deployment_in_disorder(report: Report, expected: tuple[str, str]) -> None:
    """Sentinels, rights, queues and the client."""
    assert expected in bad(findings(report))


@pytest.mark.parametrize(("milliseconds", "level"), [("500", "warning"), ("60000", "warning"), ("5000", "ok")])
def test_down_after_has_a_sensible_range(milliseconds: str, level: str) -> None:
    """Too short fails over for nothing, too long keeps everybody waiting."""
    views = tuple(replace(view, facts=view.facts | {"down-after-milliseconds": milliseconds}) for view in VIEWS)
    found = findings(replace(WELL, views=views))
    assert {str(finding.level) for finding in found if finding.title == "down-after"} == {level}


def test_the_worst_comes_first() -> None:
    """Who reads one line only reads the right one."""
    found = findings(replace(WELL, servers=[server(maxmemory="0", aof_enabled="0")]))
    assert [str(finding.level) for finding in found[:2]] == ["critical", "warning"]


@pytest.mark.parametrize(
    ("name", "version", "holes", "cure"),
    [
        ("Redis", "7.0.15", 6, "7.2.16"),  # 7.0 has no releases any more; it is too old for one of the holes
        ("Redis", "7.2.10", 5, "7.2.16"),
        ("Redis", "7.2.11", 4, "7.2.16"),
        ("Redis", "7.2.14", 2, "7.2.16"),
        ("Redis", "7.4.11", 0, ""),
        ("Redis", "8.0.6", 4, "8.2.9"),
        ("Redis", "8.2.2", 4, "8.2.9"),
        ("Redis", "8.2.8", 1, "8.2.9"),
        ("Redis", "8.2.9", 0, ""),
        ("Redis", "8.8.0", 1, "8.8.2"),
        ("Redis", "9.0.0", 0, ""),
        ("Valkey", "7.2.12", 3, "7.2.14"),
        ("Valkey", "8.1.3", 5, "8.1.9"),
        ("Valkey", "8.1.7", 1, "8.1.9"),
        ("Valkey", "8.1.9", 0, ""),
        ("Valkey", "9.0.0", 4, "9.0.5"),
        ("Valkey", "9.1.0", 1, "9.1.1"),
        ("Valkey", "9.1.2", 0, ""),
        ("Redis", "", 0, ""),
    ],
)
def test_known_holes_by_version(name: str, version: str, holes: int, cure: str) -> None:
    """Of each series the first release that closed them; a series that began later has none."""
    found = _advisories.open_holes(name, version)
    assert (len(found), _advisories.cure(found, name, version) if found else "") == (holes, cure)


def test_releases_are_listed_in_order() -> None:
    """The nearest release that closes a hole is looked for from the oldest series on, one of each."""
    for hole in _advisories.ADVISORIES:
        for releases in hole.fixed.values():
            series = [_advisories.version_of(each)[:2] for each in releases]
            assert series == sorted(set(series))


def test_a_version_is_no_proof_of_a_hole() -> None:
    """Debian closes holes under the old number: whoever reads of them is told so, and which package has all fixes."""
    of_debian = replace(GOOD, info={name: value for name, value in INFO.items() if name != "valkey_version"})
    of_debian.info["redis_version"] = "7.0.15"
    (found,) = [each for each in of_server(of_debian) if each.title == "security"]
    assert found.level is Level.WARNING
    assert "by its number alone" in found.what
    assert "5:7.0.15-1~deb12u10" in found.what
    (elsewhere,) = [each for each in of_server(server(valkey_version="8.1.3")) if each.title == "security"]
    assert "distributions close holes under an old number" in elsewhere.what
