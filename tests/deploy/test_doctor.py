"""`reliq doctor` on real servers and Sentinels with bad settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from servers import start_server, wait_until

from reliq import Queue, rights
from reliq.cli import main
from reliq.doctor import Finding, Level, examine
from reliq.embedded import Server
from reliq.testing.topology import Topology

from .conftest import Start, ask


def bad(found: list[Finding]) -> set[tuple[str, str]]:
    """Level and title of what is not in order; what concerns the version is the lane's."""
    return {(str(f.level), f.title) for f in found if f.level != Level.OK and f.title != "security"}


def doctor(*args: str) -> tuple[int, Any, str]:
    """Exit code, JSON and everything printed."""
    ran = CliRunner().invoke(main, ["-o", "json", "doctor", *args])
    return ran.exit_code, json.loads(ran.stdout), ran.output


def test_a_server_that_is_well_set_up(server: Server) -> None:
    """Append-only, a limit of memory, no eviction: nothing to say."""
    with start_server(append_only=True, maxmemory="100mb") as good, Queue("emails", good.url) as queue:
        queue.enqueue(1)
        found = examine(good.url)
    assert bad(found) == set()
    assert {finding.title for finding in found} >= {"role", "version", "rights", "queues", "clock", "timeouts"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, ("critical", "eviction")),
        ({"maxmemory": "0"}, ("warning", "memory")),
        ({"appendonly": "no", "save": ""}, ("critical", "persistence")),
        ({"appendonly": "no", "save": "60 1"}, ("warning", "persistence")),
        ({"appendfsync": "no"}, ("warning", "persistence")),
    ],
)
def test_bad_settings_are_found(settings: dict[str, str], expected: tuple[str, str]) -> None:
    """Each on a server that is well set up but for it."""
    with start_server(append_only=True, maxmemory="100mb") as server, redis.Redis.from_url(server.url) as client:
        for name, value in settings.items():
            client.config_set(name, value)
        assert bad(examine(server.url)) == {expected}


def test_memory_that_is_nearly_full() -> None:
    """Before enqueueing is refused."""
    with start_server(append_only=True) as server, redis.Redis.from_url(server.url) as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", int(used * 1.02))
        assert ("critical", "memory") in bad(examine(server.url))


def test_a_server_that_is_down() -> None:
    """It is a finding, not a traceback; the password of its URL is nowhere."""
    code, found, printed = doctor("redis://:hunter2@127.0.0.1:1/0")
    assert code == 2
    assert [(each["level"], each["title"]) for each in found if each["level"] == "critical"] == [
        ("critical", "reachable")
    ]
    assert "hunter2" not in printed


def test_a_wrong_password_is_a_finding(fresh_server: Server) -> None:
    """As is a missing one; neither is shown."""
    with redis.Redis.from_url(fresh_server.socket_url) as admin:
        admin.config_set("requirepass", "hunter2")
    for url in (fresh_server.url, fresh_server.url.replace("redis://", "redis://:hunter3@")):
        found = examine(url)
        assert found[0].title == "reachable"
        assert "hunter" not in str(found)


def test_a_user_without_rights_to_look(fresh_server: Server) -> None:
    """Each thing that could not be looked at is said, and that is exit code 3, not 0."""
    with redis.Redis.from_url(fresh_server.socket_url) as admin:
        ask(admin, "ACL", "SETUSER", "ann", "on", ">pw", *rights.rules(["worker"], info=False))
    code, found, printed = doctor(fresh_server.url.replace("redis://", "redis://ann:pw@"))
    assert code == 3
    assert {each["title"] for each in found} >= {"settings", "rights", "queues"}
    assert "pw" not in printed


@pytest.mark.parametrize("role", ["producer", "worker", "monitor"])
def test_it_tells_what_a_user_can_be(role: str, fresh_server: Server) -> None:
    """By dry run: the roles whose scripts and commands are all allowed, for a user who may ask."""
    with redis.Redis.from_url(fresh_server.socket_url) as admin:
        rules = (*rights.rules([role], queue="emails"), "+acl|whoami", "+acl|dryrun")
        ask(admin, "ACL", "SETUSER", "ann", "on", ">pw", *rules)
        url = fresh_server.url.replace("redis://", "redis://ann:pw@")
        said = {finding.what for finding in examine(url, queue="emails") if finding.title == "rights"}
        assert said == {f"ann can be {role}"}
        assert [f.level for f in examine(url, queue="other") if f.title == "rights"] == [Level.CRITICAL]
        ask(admin, "ACL", "SETUSER", "ann", "-hmget")
        (lacking,) = [finding for finding in examine(url, queue="emails") if finding.title == "rights"]
    assert (lacking.level, "HMGET" in lacking.what) == (Level.CRITICAL, True)


def test_queues_are_looked_at(fresh_server: Server) -> None:
    """A queue whose state is gone, and one of a newer reliq."""
    with redis.Redis.from_url(fresh_server.socket_url) as admin:
        for name in ("fine", "gone", "newer"):
            with Queue(name, fresh_server.url) as queue:
                queue.enqueue(1)
        admin.delete("reliq:{gone}:meta")
        admin.hset("reliq:{newer}:meta", "layout", "2")
        found = {
            (finding.where, str(finding.level)) for finding in examine(fresh_server.url) if finding.title == "queues"
        }
    assert found == {("queue fine", "ok"), ("queue gone", "warning"), ("queue newer", "critical")}


def test_the_url_of_a_replica(topology: Topology) -> None:
    """Every write to it would be refused."""
    assert ("critical", "role") in bad(examine(topology.replicas[0].url))


def test_a_deployment_behind_sentinels(start: Start) -> None:
    """Well set up, it has nothing but what is in order: each server and each Sentinel is looked at."""
    config = {"maxmemory": "100mb", "min-replicas-to-write": "1"}
    topology = start(config=config, password="hunter2", sentinel_password="hunter3")
    found = examine(topology.url)
    assert bad(found) == set()
    places = {finding.where for finding in found}
    assert places >= {f"{node.host}:{node.port}" for node in topology.nodes}
    assert places >= {f"Sentinel {node.host}:{node.port}" for node in topology.sentinels}
    assert "hunter" not in str(found)


def test_a_deployment_in_disorder(topology: Topology) -> None:
    """A Sentinel that is down, a replica that is cut off, no min-replicas: all of it at once."""
    topology.sentinels[0].kill()
    cut = topology.replicas[0]
    cut.call("REPLICAOF", "127.0.0.1", "1")
    for node in topology.sentinels[1:]:
        node.call("SENTINEL", "SET", "mymaster", "down-after-milliseconds", "60000")
    wait_until(lambda: cut.info()["master_link_status"] == "down", "the replica is cut off")
    found = bad(examine(topology.url))
    expected = {("warning", "sentinels"), ("critical", "replication"), ("warning", "min-replicas")}
    assert found >= expected | {("warning", "down-after")}


def test_sentinels_that_are_all_down(topology: Topology) -> None:
    """There is no master to be found; that is the finding."""
    url = topology.url
    for node in topology.sentinels:
        node.kill()
    assert ("critical", "master") in bad(examine(url))


def test_the_exit_code_is_that_of_a_monitoring_plugin() -> None:
    """0, 1 and 2; wrong usage is 3; a person reads paragraphs with what to do."""
    with start_server(append_only=True, maxmemory="100mb") as server, redis.Redis.from_url(server.url) as client:
        holes = any(finding.title == "security" for finding in examine(server.url))
        assert doctor(server.url)[0] == int(holes)
        client.config_set("maxmemory", "0")
        assert doctor(server.url)[0] == 1
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert doctor(server.url)[0] == 2
        ran = CliRunner().invoke(main, ["-u", server.url, "doctor"])
    assert "can cost: items are deleted" in ran.stdout
    assert "do: CONFIG SET maxmemory-policy noeviction" in ran.stdout
    assert CliRunner().invoke(main, ["doctor", "--nonsense"]).exit_code == 3
