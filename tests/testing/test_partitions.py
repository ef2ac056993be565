"""A cut really cuts, in the direction that was asked for, on connections that exist and on new ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from servers import wait_until

from reliq.errors import InvalidArgument
from reliq.testing.control import Control
from reliq.testing.faults import Faults
from reliq.testing.node import Node
from reliq.testing.topology import Topology


@pytest.fixture
def faults(calm: Topology) -> Iterator[Faults]:
    yield (faults := Faults(calm))
    faults.heal()
    calm.wait_ready()


@pytest.fixture
def connect() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key of the test's own: what an earlier one sent into a cut may arrive as late as now."""
    return str(request.node.name)


def counter(node: Node, key: str) -> int:
    """What the server itself has, whatever the network does."""
    return int(str(node.call("GET", key) or 0))


def reaches(node: Node, timeout: float = 2.0) -> bool:
    """Whether a new connection gets an answer."""
    try:
        with Control(node.address, timeout=timeout) as control:
            return control.call("PING") == "PONG"
    except OSError:
        return False


def test_a_master_alone_answers_nobody(calm: Topology, faults: Faults, connect: ExitStack) -> None:
    """Neither the connection that existed nor a new one gets an answer, and the others go on."""
    master = calm.master
    old = connect.enter_context(Control(master.address, timeout=0.3))
    assert old.call("PING") == "PONG"
    faults.partition(master)
    with pytest.raises(TimeoutError):
        old.call("PING")
    assert not reaches(master, timeout=0.3)
    assert all(reaches(node) for node in calm.everyone if node is not master)


def test_out_lets_requests_arrive_and_loses_replies(
    calm: Topology, faults: Faults, connect: ExitStack, key: str
) -> None:
    """One way only: the server did it, and nobody hears of it."""
    master = calm.master
    client = connect.enter_context(Control(master.address, timeout=0.3))
    client.call("PING")
    faults.partition(master, direction="out")
    with pytest.raises(TimeoutError):
        client.call("INCR", key)
    assert counter(master, key) == 1


def test_in_loses_requests(calm: Topology, faults: Faults, connect: ExitStack, key: str) -> None:
    """The other way only: the server never hears of it, but what it says still gets out."""
    master = calm.master
    listener = connect.enter_context(Control(master.address, timeout=5.0))
    client = connect.enter_context(Control(master.address, timeout=0.3))
    listener.call("SUBSCRIBE", "news")
    client.call("PING")
    faults.partition(master, direction="in")
    with pytest.raises(TimeoutError):
        client.call("INCR", key)
    assert counter(master, key) == 0
    assert master.call("PUBLISH", "news", "still here") == 1
    assert listener.read() == ["message", "news", "still here"]


def test_what_was_sent_into_a_cut_arrives_when_it_heals(
    calm: Topology, faults: Faults, connect: ExitStack, key: str
) -> None:
    """A cut is no reset: TCP delivers afterwards, as it does in a real network."""
    master = calm.master
    client = connect.enter_context(Control(master.address, timeout=0.3))
    client.call("PING")
    faults.partition(master)
    with pytest.raises(TimeoutError):
        client.call("INCR", key)
    assert counter(master, key) == 0
    faults.heal()
    wait_until(lambda: counter(master, key) == 1, "the request arrived")


@pytest.mark.parametrize("side", ["master", "replica"])
def test_servers_are_cut_off_from_each_other(calm: Topology, faults: Faults, side: str, key: str) -> None:
    """What the master writes does not reach a replica on the other side, whichever was cut off, until it heals."""
    master, (replica,) = calm.master, calm.replicas
    faults.partition(master if side == "master" else replica)
    with Control(str(master.directory / "socket")) as control:
        control.call("INCR", key)
        assert control.call("WAIT", 1, 300) == 0  # replicas that have it, after so many ms
    assert counter(replica, key) == 0
    faults.heal()
    wait_until(lambda: counter(replica, key) == 1, "it arrived")


def test_clients_may_be_on_the_masters_side(calm: Topology, faults: Faults) -> None:
    """They reach the master, and neither its replica nor the Sentinel; nor does the Sentinel reach the master."""
    master = calm.master
    faults.partition(master, clients=True)
    assert reaches(master)
    assert not any(reaches(node, timeout=0.3) for node in (*calm.replicas, *calm.sentinels))
    faults.heal()
    assert all(reaches(node) for node in calm.everyone)


def test_a_record_says_what_was_cut_and_when(calm: Topology, faults: Faults) -> None:
    """Records stand in order, each with its times."""
    faults.partition(*calm.replicas, direction="in")
    faults.heal()
    first, second = faults.records
    assert (first.what, first.targets) == ("partition", tuple(node.name for node in calm.replicas))
    assert first.details == {"clients": "False", "direction": "in"}
    assert first.at <= first.done <= second.at <= second.done


def test_an_unknown_direction_cuts_nothing(calm: Topology, faults: Faults) -> None:
    """A typing error is told, and leaves no record."""
    with pytest.raises(InvalidArgument, match="sideways"):
        faults.partition(calm.master, direction="sideways")
    assert reaches(calm.master)
    assert faults.records == []
