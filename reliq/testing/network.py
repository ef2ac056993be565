"""Where the nodes of a topology are, and who can reach whom. Linux, but for `Loopback`.

Three kinds: `Namespaces` (root and iproute2: each node is a machine of its own in a network of its own, and a cut loses
packets), `Relays` (anybody: every connection runs through a relay in this process, and a cut holds bytes back), and
`Loopback` (plain ports, nothing can be cut).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from reliq.errors import InvalidArgument

CLIENTS = "clients"  # the name of all that is not a node: this process and every other one of the machine


@dataclass(frozen=True)
class Seat:
    """The place of a node.

    `host` and `port` are what everybody else reaches it at, `bind` is where it listens, `source` the address that its
    own connections come from ('' where nobody asks), `enter` the words before its command line.
    """

    host: str
    port: int
    bind: tuple[str, int]
    source: str = ""
    enter: tuple[str, ...] = ()


class Network(Protocol):
    """What a topology needs of a network. Names are those of nodes, and CLIENTS."""

    kind: str

    def seat(self, name: str) -> Seat:
        """A new place, kept until `close`."""

    def cut(self, pairs: list[tuple[str, str]]) -> None:
        """Nothing passes any more from the first to the second name of each pair; the other way is another pair."""

    def heal(self) -> None:
        """Everything passes again."""

    def close(self) -> None:
        """Gives all places back."""


class Loopback:
    """Ports of 127.0.0.1, each held by a socket of ours beside the server's, so that nobody else is given it."""

    kind = "loopback"

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def seat(self, name: str) -> Seat:  # noqa: ARG002  as the others
        """A port that stays ours also while its node is down."""
        address = ("127.0.0.1", self.reserve("127.0.0.1"))
        return Seat(*address, bind=address)

    def reserve(self, host: str) -> int:
        """A free port. The kernel gives it to nobody else, and lets a server with SO_REUSEADDR listen on it."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, 0))
        self._held.append(held)
        port: int = held.getsockname()[1]
        return port

    def cut(self, pairs: list[tuple[str, str]]) -> None:
        """Refused: nothing stands between the nodes here."""
        raise InvalidArgument(f"{pairs[:1]} can't be cut on plain ports: make the Topology with network='auto'")

    def heal(self) -> None:
        """Nothing is cut."""

    def close(self) -> None:
        """Lets go of the ports."""
        for held in self._held:
            held.close()
        self._held.clear()


@cache
def has_namespaces() -> bool:
    """Whether this process may make network namespaces, and has the programs for it."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        return False
    tried = subprocess.run(["unshare", "--net", "ip", "link", "add", "type", "veth"], capture_output=True, check=False)
    return tried.returncode == 0


def network(kind: str) -> Network:
    """A new network: `auto`, `namespaces`, `relays` or `loopback`; `auto` is namespaces where possible, else relays.

    Raises:
        InvalidArgument: another word.
        OSError, subprocess.CalledProcessError: namespaces were asked for and can't be made.
    """
    from reliq.testing.namespaces import Namespaces  # noqa: PLC0415  those who need one kind load one kind
    from reliq.testing.relays import Relays  # noqa: PLC0415

    if kind == "auto":
        kind = "namespaces" if has_namespaces() else "relays"
    match kind:
        case "namespaces":
            return Namespaces()
        case "relays":
            return Relays()
        case "loopback":
            return Loopback()
    raise InvalidArgument(f"network={kind!r} is neither auto, namespaces, relays nor loopback")
