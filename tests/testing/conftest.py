"""The fault kit, on the server of the lane."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import missing, server_binary

from reliq.testing.network import has_namespaces
from reliq.testing.topology import Topology

KINDS = ("namespaces", "relays")


@pytest.fixture(scope="session")
def binary() -> Path:
    return server_binary()


@pytest.fixture(scope="module", params=KINDS)
def calm(request: pytest.FixtureRequest, binary: Path) -> Iterator[Topology]:
    """Both kinds of network that can be cut, with a Sentinel that never acts: what is tested here is the cutting."""
    if request.param == "namespaces" and not has_namespaces():
        missing("network namespaces need root and iproute2")
    with Topology(replicas=1, sentinels=1, binary=binary, down_after=600.0, network=request.param) as topology:
        yield topology


def is_alive(pid: int) -> bool:
    """A zombie that its new parent has yet to bury is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_of(pid: int) -> str:
    """`T` is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def interfaces_of(host: str) -> set[str]:
    """Interfaces of this machine to the network of namespaces that a node is in. Other tests may have theirs."""
    _, high, low, _ = map(int, host.split("."))
    number = (high - 18) * 256 + low  # 198.18.0 is reliq0
    return {f"reliq{number}"} & set(os.listdir("/sys/class/net"))  # noqa: PTH208  names are wanted
