"""Topologies: what starts, what is at their addresses, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from servers import missing, wait_until
from testing.conftest import KINDS, interfaces_of, is_alive

from reliq.errors import InvalidArgument, ServerError
from reliq.testing.control import Control, fields
from reliq.testing.faults import Faults
from reliq.testing.network import has_namespaces
from reliq.testing.topology import Topology

LOOKS = 1000  # at roles that change: of looks that ask a node twice, one among so many meets a change
PROGRAM = """
    import sys
    from pathlib import Path
    from reliq.testing.topology import Topology

    topology = Topology(replicas=1, sentinels=1, binary=Path(sys.argv[1]), network=sys.argv[2]).start()
    topology.replicas[0].kill()
    pids = [node.pid for node in topology.everyone if node.running]
    print(*(node.directory for node in topology.everyone), *pids, topology.master.host, flush=True)
    sys.stdin.read()
"""


def test_a_failover_by_the_book(binary: Path) -> None:
    """The master is killed; the Sentinels agree on a replica, it has the data, and the killed one can come back."""
    with Topology(binary=binary) as topology:
        assert len(topology.replicas) == 2
        assert topology.url.count(",") == 2
        old, faults = topology.master, Faults(topology)
        old.call("SET", "key", "value")
        assert old.call("WAIT", 2, 5000) == 2
        faults.kill(old)
        seconds = float(faults.wait_switched(old).details["seconds"])
        assert 0.9 < seconds < 20  # a Sentinel waits `down_after` first
        assert topology.master is not old
        assert topology.master.call("GET", "key") == "value"
        assert topology.wait_ready() < 20
        faults.start(old)
        assert old.call("GET", "key") == "value"


def test_two_failovers_in_a_row(binary: Path) -> None:
    """The second order is given when the Sentinels have done with the first; both have their time in the record."""
    with Topology(binary=binary) as topology:
        record = Faults(topology).failover(times=2)
        assert {"seconds-1", "seconds-2"} < set(record.details)
        epochs = [fields(node.call("SENTINEL", "MASTER", "mymaster"))["config-epoch"] for node in topology.sentinels]
        assert max(map(int, epochs)) >= 2  # each failover has an epoch of its own


def test_a_change_of_roles_is_no_error(binary: Path) -> None:
    """Looks at a server that becomes a master and a replica all the time end in yes or no."""
    with Topology(replicas=1, sentinels=0, binary=binary, network="loopback") as topology:
        master, replica = topology.nodes
        enough = threading.Event()

        def change() -> None:
            while not enough.is_set():
                replica.call("REPLICAOF", "NO", "ONE")
                replica.call("REPLICAOF", master.host, master.port)

        changing = threading.Thread(target=change)
        changing.start()
        try:
            seen = {topology._in_sync() for _ in range(LOOKS)}
        finally:
            enough.set()
            changing.join()
        assert False in seen
        topology.wait_ready()


@pytest.mark.parametrize("network", [*KINDS, "loopback"])
def test_passwords_and_several_masters(binary: Path, network: str) -> None:
    """Each service has its own master and URL; strangers are let in neither by servers nor by Sentinels."""
    if network == "namespaces" and not has_namespaces():
        missing("network namespaces need root and iproute2")
    secret = 'a"b\\c d'
    with Topology(2, 1, 1, binary, password=secret, sentinel_password="other", network=network) as topology:
        assert topology.services == ("mymaster", "mymaster-2")
        first, second = map(topology.master_of, topology.services)
        assert first is not second
        assert secret not in topology.url_of("mymaster-2")
        assert "/mymaster-2/0" in topology.url_of("mymaster-2")
        for node in (first, *topology.sentinels):
            with Control(node.address) as stranger, pytest.raises(ServerError, match="NOAUTH"):
                stranger.call("PING")
        with Control(first.address, password=secret) as client:
            assert client.call("PING") == "PONG"


def test_without_sentinels(binary: Path) -> None:
    """A server alone has a plain URL, and is its own master."""
    with Topology(replicas=0, sentinels=0, binary=binary, network="loopback") as topology:
        assert topology.url == f"redis://127.0.0.1:{topology.master.port}/0"
        assert topology.nodes == [topology.master]


def test_a_port_stays_ours_while_its_node_is_down(binary: Path) -> None:
    """Nobody is given the port of a killed node, and the node comes back to it."""
    with Topology(replicas=0, sentinels=0, binary=binary, network="loopback") as topology:
        node = topology.master
        node.kill()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(node.address)
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(node.address)
        node.start()
        with Control(node.address) as client:
            assert client.call("PING") == "PONG"


def test_plain_ports_can_not_be_cut(binary: Path) -> None:
    """The refusal says what to do."""
    topology = Topology(replicas=0, sentinels=0, binary=binary, network="loopback")
    with topology, pytest.raises(InvalidArgument, match="network='auto'"):
        Faults(topology).partition(topology.master)


def test_a_node_that_does_not_start_says_why_and_leaves_nothing(binary: Path) -> None:
    """The end of its log is in the error, and what had started is stopped."""
    topology = Topology(replicas=0, sentinels=0, binary=binary, network="loopback", config={"no-such-line": "1"})
    with pytest.raises(ServerError, match="no-such-line"):
        topology.start()
    assert topology.everyone == []


@pytest.mark.parametrize("network", [*KINDS, "loopback"])
@pytest.mark.parametrize("end", [signal.SIGKILL, None], ids=["killed", "in order"])
def test_nothing_stays_behind(binary: Path, network: str, end: signal.Signals | None) -> None:
    """Processes, directories and interfaces are gone, also when the process that started them was killed."""
    if network == "namespaces" and not has_namespaces():
        missing("network namespaces need root and iproute2")
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(binary), network]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        words = program.stdout.readline().split()
        folders, pids = [Path(word) for word in words[:3]], [int(word) for word in words[3:-1]]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        assert all(folder.is_dir() for folder in folders)
        made = interfaces_of(words[-1])
        assert len(made) == (network == "namespaces")
        if end is not None:
            os.kill(program.pid, end)
        program.communicate()
    wait_until(lambda: not any(map(is_alive, pids)), "its processes have ended")
    wait_until(lambda: not any(folder.exists() for folder in folders), "its directories are removed")
    wait_until(lambda: not interfaces_of(words[-1]), "its interfaces are gone")


def test_sentinels_know_each_other_at_once(binary: Path) -> None:
    """A topology that has started could fail over: each Sentinel has the replicas and its fellows."""
    with Topology(replicas=1, binary=binary, network="loopback") as topology:
        for sentinel in topology.sentinels:
            master = fields(sentinel.call("SENTINEL", "MASTER", "mymaster"))
            assert (master["num-slaves"], master["num-other-sentinels"], master["quorum"]) == ("1", "2", "2")
            assert str(sentinel.call("SENTINEL", "CKQUORUM", "mymaster")).startswith("OK")
