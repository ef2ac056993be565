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


def interfaces() -> set[str]:
    """Network interfaces of this machine that are ours."""
    return {name for name in os.listdir("/sys/class/net") if name.startswith("reliq")}  # noqa: PTH208  names are wanted
