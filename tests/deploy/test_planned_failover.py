"""`reliq.failover.run`: nothing acknowledged is lost, and whatever breaks it off, writes go on at one master."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from servers import wait_until

from reliq import Queue, failover
from reliq.errors import InvalidURL, ServerError
from reliq.failover import FailoverFailed, FailoverRefused
from reliq.testing.node import Node
from reliq.testing.topology import Topology

from .conftest import NOTICES, Start, fail_over, settle
from .writers import Writers

ROOT = Path(__file__).parents[2]
TIMES = int(os.environ.get("RELIQ_FAILOVERS", "10"))
GAP = 10.0  # seconds; what is measured is 0.7 to 2: see docs/how-to/planned-failover.md


class Stopped(BaseException):
    """Breaks a failover off at one of its steps, as Ctrl-C would."""


def stop_at(step: int) -> Callable[[str], None]:
    """A listener that stops at the n-th thing that it is told."""
    told: list[str] = []

    def listen(text: str) -> None:
        told.append(text)
        if len(told) == step:
            raise Stopped

    return listen


def paused_by(node: Node) -> bool:
    """Whether anybody ever paused the writes of a server."""
    return "cmdstat_client|pause" in node.info("commandstats")


def enqueue(topology: Topology, item_id: str) -> float:
    """Enqueues an item; returns how many seconds that took."""
    began = time.monotonic()
    with Queue("emails", topology.url, timeout=30.0) as queue:
        queue.enqueue("hi", id=item_id)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(60 + 15 * TIMES)
@pytest.mark.parametrize(("server", "method"), [("valkey9", "coordinated"), ("valkey9", "pause"), ("redis7", "pause")])
def test_no_acknowledged_write_is_lost(server: str, method: str, start: Start) -> None:
    """Ten failovers in a row under four writers, none of whom gets an error (RELIQ_FAILOVERS for more)."""
    topology = start(server=server)
    gaps = []
    with Writers(topology.url) as writers:
        for _ in range(TIMES):
            before = topology.master
            written = len(writers.acknowledged)
            wait_until(partial(writers.more_than, written + 20), "writers go on")
            report = fail_over(topology, method=method)
            assert (report.method, report.old, report.agreed >= 2) == (method, before.address, True)
            assert topology.master.address == report.new
            gaps.append(report.gap)
    assert not writers.failures
    assert len(writers.acknowledged) > 20 * TIMES
    assert writers.lost() == []
    assert max(gaps) < GAP
    print(
        f"{server} {method}: {len(writers.acknowledged)} acknowledged, gaps {min(gaps)} to {max(gaps)} s, longest call"
    )
    print(f"{writers.longest:.2f} s")


def test_the_method_is_chosen_by_what_the_sentinels_know(topology: Topology) -> None:
    """Valkey 9 hands over by itself; with others, writes are paused from here."""
    coordinated = "9." in topology.master.info("server").get("valkey_version", "")[:2]
    report = fail_over(topology)
    assert report.method == ("coordinated" if coordinated else "pause")
    assert report.agreed > report.sentinels // 2


def test_the_old_master_is_a_replica_when_it_is_over(topology: Topology) -> None:
    """It takes no writes of its own again, and lost none of its role on the way: it follows the new one."""
    old = topology.master
    report = fail_over(topology, method="pause")
    told = old.info()
    assert told["role"] == "slave"
    assert (told["master_host"], int(told["master_port"])) == report.new
    assert report.offset > 0
    assert 0 < report.switched <= report.gap <= report.paused


@pytest.mark.parametrize("step", [1, 2, 3])
def test_breaking_off_lets_writes_go_on(step: int, topology: Topology) -> None:
    """Ctrl-C at any step: what was acknowledged is there, and the next write is taken without waiting for the pause."""
    with Writers(topology.url) as writers:
        wait_until(lambda: len(writers.acknowledged) > 20, "writers are at work")
        with pytest.raises(Stopped):
            failover.run(topology.url, method="pause", on_progress=stop_at(step))
        known = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > known + 20, "writers go on", timeout=8.0)
    settle(topology)
    assert writers.lost() == []
    masters = [node for node in topology.nodes if node.info()["role"] == "master"]
    assert masters == [topology.master]


DYING = """
import os, signal, sys
from reliq import failover

def listen(text):
    if text.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

failover.run(sys.argv[1], method="pause", timeout=2, on_progress=listen)
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", ["writes are paused", "most Sentinels name"])
def test_the_pause_ends_by_itself_when_its_maker_is_killed(at: str, topology: Topology) -> None:
    """SIGKILL with writes paused, before and after the switch: nothing is lost, and writers go on in a few seconds."""
    with Writers(topology.url) as writers:
        wait_until(lambda: len(writers.acknowledged) > 20, "writers are at work")
        command, env = [sys.executable, "-c", DYING, topology.url, at], {**os.environ, "PYTHONPATH": str(ROOT)}
        # Again where it was refused: Sentinels may take a busy master for a dead one for a moment.
        wait_until(
            lambda: subprocess.run(command, check=False, env=env).returncode == -signal.SIGKILL,
            "its maker is killed",
            timeout=40.0,
        )
        known = len(writers.acknowledged)
        wait_until(lambda: len(writers.acknowledged) > known + 20, "writers go on", timeout=15.0)
    settle(topology)
    assert writers.lost() == []


def test_it_is_refused_without_a_replica(start: Start) -> None:
    """Nothing is paused, and the reason is said."""
    topology = start(down_after=NOTICES)
    for node in topology.replicas:
        node.kill()
    wait_until(
        lambda: "no replica" in str(failover.readiness(topology.url).reasons), "Sentinels see that they are down"
    )
    with pytest.raises(FailoverRefused, match="no replica is up") as refused:
        failover.run(topology.url)
    assert refused.value.reasons
    assert not paused_by(topology.master)


def test_it_is_refused_without_a_majority_of_sentinels(topology: Topology) -> None:
    """With one Sentinel of three nobody could agree on the new master."""
    for node in topology.sentinels[:2]:
        node.kill()
    with pytest.raises(FailoverRefused, match="name no common master"):
        failover.run(topology.url)
    assert not paused_by(topology.master)


def test_it_is_refused_while_a_replica_is_not_in_step(topology: Topology) -> None:
    """A Sentinel might choose it, and what it lacks would be lost."""
    replica = topology.replicas[0]
    replica.call("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(FailoverRefused, match=f"{replica.port} is not connected to the master"):
        failover.run(topology.url)
    assert not paused_by(topology.master)


def test_it_is_refused_to_a_user_who_could_not_end_it(topology: Topology) -> None:
    """The rights are tried before anything is paused."""
    for node in topology.nodes:
        node.call("ACL", "SETUSER", "ann", "on", ">secret", "+@all", "-replicaof", "allkeys", "&*")
    url = topology.url.replace("redis+sentinel://", "redis+sentinel://ann:secret@")
    with pytest.raises(FailoverRefused, match="replicaof") as refused:
        failover.run(url)
    assert "secret" not in str(refused.value)
    assert not paused_by(topology.master)


def test_it_gives_up_in_time_when_no_sentinel_can_switch(start: Start) -> None:
    """The replica that it asked to take over is gone: writes go on at the old master."""
    topology = start(replicas=1, down_after=600.0)

    def kill_replica(text: str) -> None:
        if text.startswith("writes are paused"):
            topology.replicas[0].kill()

    with pytest.raises((FailoverFailed, FailoverRefused)):
        failover.run(topology.url, method="pause", timeout=2.0, on_progress=kill_replica)
    assert enqueue(topology, "after") < 25.0
    assert topology.master.info()["role"] == "master"


def test_passwords_are_used_and_never_shown(start: Start) -> None:
    """Of servers and Sentinels: the failover works, and no line of its progress has one."""
    topology = start(password="hunter2", sentinel_password="hunter3")
    said: list[str] = []
    report = fail_over(topology, on_progress=said.append)
    assert topology.master.address == report.new
    assert "hunter" not in f"{said} {report}"


def test_only_sentinels_can_fail_over(topology: Topology) -> None:
    """A plain URL is refused before anything is sent, and its password is masked."""
    with pytest.raises(InvalidURL, match="only Sentinels can fail over") as refused:
        failover.run(f"redis://:hunter2@127.0.0.1:{topology.master.port}/0")
    assert "hunter2" not in str(refused.value)


def test_errors_are_those_of_reliq() -> None:
    """Callers catch them by the base class that they know."""
    assert issubclass(FailoverRefused, ServerError)
    assert issubclass(FailoverFailed, ServerError)
