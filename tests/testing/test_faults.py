"""Each fault of a server does what its name says, and leaves a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import wait_until
from testing.conftest import is_alive, state_of

from reliq.errors import ServerError
from reliq.testing.control import Control
from reliq.testing.faults import Faults
from reliq.testing.history import History
from reliq.testing.node import Node
from reliq.testing.topology import Topology


@pytest.fixture
def topology(binary: Path) -> Iterator[Topology]:
    with Topology(replicas=0, sentinels=0, binary=binary, network="loopback") as running:
        yield running


@pytest.fixture
def node(topology: Topology) -> Node:
    return topology.master


@pytest.fixture
def faults(topology: Topology) -> Faults:
    return Faults(topology)


@pytest.fixture
def client(node: Node) -> Iterator[Control]:
    with Control(node.address, timeout=0.3) as control:
        control.call("PING")
        yield control


def test_pause_stops_the_process_and_resume_lets_it_do_what_was_asked(
    node: Node, faults: Faults, client: Control
) -> None:
    """Connections stay; the request that waited is done afterwards."""
    faults.pause(node)
    assert state_of(node.pid) == "T"
    with pytest.raises(TimeoutError):
        client.call("INCR", "counter")
    faults.resume(node)
    assert state_of(node.pid) != "T"
    wait_until(lambda: node.call("GET", "counter") == "1", "it did what was asked meanwhile")
    assert [record.what for record in faults.records] == ["pause", "resume"]


def test_pausing_twice_is_pausing_once(node: Node, faults: Faults) -> None:
    """A second signal changes nothing, and one resume is enough."""
    faults.pause(node)
    faults.pause(node)
    faults.resume(node)
    faults.resume(node)
    assert node.answers()


def test_a_paused_node_can_be_killed(node: Node, faults: Faults) -> None:
    """SIGKILL does not wait for SIGCONT."""
    pid = node.pid
    faults.pause(node)
    faults.kill(node)
    assert not is_alive(pid)
    assert not node.running


@pytest.mark.parametrize("wipe", [False, True])
def test_restart_with_and_without_data(node: Node, faults: Faults, client: Control, wipe: bool) -> None:
    """A new process at the same address, with what was written or with nothing."""
    client.call("SET", "key", "value")
    pid = node.pid
    faults.restart(node, wipe=wipe)
    assert node.pid != pid
    assert not is_alive(pid)
    assert node.call("GET", "key") == (None if wipe else "value")


def test_full_memory_refuses_writes_until_it_is_freed(node: Node, faults: Faults, client: Control) -> None:
    """Reads go on meanwhile."""
    faults.fill_memory(node)
    with pytest.raises(ServerError, match="OOM"):
        client.call("SET", "key", "value")
    assert client.call("GET", "key") is None
    faults.free_memory(node)
    assert client.call("SET", "key", "value") == "OK"


def test_scripts_are_flushed_and_data_stay(node: Node, faults: Faults, client: Control) -> None:
    """Only the cache of scripts is emptied."""
    sha = str(client.call("SCRIPT", "LOAD", "return 1"))
    client.call("SET", "key", "value")
    faults.flush_scripts(node)
    assert client.call("SCRIPT", "EXISTS", sha) == [0]
    assert client.call("GET", "key") == "value"
    faults.flush_all(node)
    assert client.call("GET", "key") is None


def test_connections_are_reset(node: Node, faults: Faults, client: Control) -> None:
    """A client that waits for a reply finds its connection closed."""
    faults.reset_connections(node)
    with pytest.raises(OSError):  # noqa: PT011  closed or reset, whichever the kernel says first
        client.call("BLPOP", "nothing", 0)


def test_a_history_is_told_of_what_may_lose_items(topology: Topology, node: Node, tmp_path: Path) -> None:
    """Before and after; a fault that must lose nothing is not announced."""
    history = History(tmp_path / "faults.jsonl")
    faults = Faults(topology, history)
    faults.flush_scripts(node)
    faults.restart(node, wipe=True)
    history.close()
    events = (tmp_path / "faults.jsonl").read_text().splitlines()
    announced = [line for line in events if '"announce"' in line]
    assert len(announced) == 2
    assert all("restart server-1" in line for line in announced)


def test_a_fault_that_fails_leaves_no_record(node: Node, faults: Faults) -> None:
    """What did not happen is not said to have happened."""
    node.kill()
    with pytest.raises(ServerError, match="not running"):
        faults.pause(node)
    assert faults.records == []


def test_power_off_loses_what_was_on_its_way(binary: Path) -> None:
    """The network goes first: a client that waits sees no end of its connection, only silence, until it heals."""
    with Topology(replicas=0, sentinels=0, binary=binary) as topology:
        node, faults = topology.master, Faults(topology)
        with Control(node.address, timeout=0.3) as client:
            client.call("PING")
            faults.power_off(node)
            with pytest.raises(TimeoutError):
                client.call("PING")
        faults.heal()
        node.start()
        with Control(node.address) as client:
            assert client.call("PING") == "PONG"
