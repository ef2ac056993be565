"""`reliq sentinel status` and `reliq sentinel failover`."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result
from servers import wait_until

from reliq.cli import main
from reliq.testing.topology import Topology

from .conftest import NOTICES, Start


def reliq(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, args, input=stdin)


def test_it_asks_before_it_acts(topology: Topology) -> None:
    """Without a yes nothing is done, and that is exit code 5; with it the report is printed."""
    before = topology.master
    refused = reliq("-u", topology.url, "sentinel", "failover", stdin="n\n")
    assert refused.exit_code == 5
    assert f"instead of {before.host}:{before.port}?" in refused.stderr
    assert topology.master is before

    done = reliq("-u", topology.url, "-o", "json", "sentinel", "failover", stdin="y\n")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["old"] == f"{before.host}:{before.port}"
    assert report["new"] == f"{topology.master.host}:{topology.master.port}"
    assert {"method", "paused", "switched", "gap", "offset", "agreed"} <= set(report)
    assert "most Sentinels name" in done.stderr


def test_what_is_refused_says_why(start: Start) -> None:
    """Exit code 5, and nobody is asked."""
    topology = start(replicas=0)
    ran = reliq("-u", topology.url, "sentinel", "failover")
    assert ran.exit_code == 5
    assert "no replica is up" in ran.stderr


def test_status_of_a_whole_deployment(topology: Topology) -> None:
    """A row for each server and Sentinel, and exit code 0."""
    ran = reliq("-u", topology.url, "-o", "json", "sentinel", "status")
    assert ran.exit_code == 0, ran.output
    kinds = [row["kind"] for row in json.loads(ran.stdout)]
    assert sorted(kinds) == ["master", "replica", "replica", "sentinel", "sentinel", "sentinel"]


def test_status_of_one_in_disorder(start: Start) -> None:
    """A Sentinel that is down has its row; without any replica the exit code is 1."""
    topology = start(down_after=NOTICES)
    topology.sentinels[0].kill()
    for node in topology.replicas:
        node.kill()
    wait_until(lambda: reliq("-u", topology.url, "sentinel", "status").exit_code == 1, "Sentinels see it")
    ran = reliq("-u", topology.url, "sentinel", "status")
    assert "down" in ran.stdout
    assert "no failover now" in ran.stderr


def test_without_any_sentinel(topology: Topology) -> None:
    """Nobody to ask: exit code 4. A URL without Sentinels is wrong usage."""
    url = topology.url
    for node in topology.sentinels:
        node.kill()
    assert reliq("-u", url, "sentinel", "status").exit_code == 4
    assert reliq("-u", topology.nodes[0].url, "sentinel", "status").exit_code == 2
