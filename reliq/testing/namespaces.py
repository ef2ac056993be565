"""Each node in a network namespace of its own, joined by a bridge: a cut loses packets without a word.

Nothing of it has a name in the file system. A namespace lives by a descriptor of this process and by the processes in
it, and takes its interfaces along, so all of it is gone when this process and its servers are.
"""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass

from reliq.errors import ServerError
from reliq.testing.network import CLIENTS, Seat

_NOWHERE = "02:00:00:00:00:01"  # a hardware address that no interface has: what is sent there is lost
_SUBNETS = 512  # of 198.18.0.0/15, which is set aside for tests of networks and never routed


@dataclass(frozen=True)
class _Place:
    address: str
    interface: str
    space: int | None  # the descriptor of its namespace; None: the machine's own

    @property
    def enter(self) -> tuple[str, ...]:
        return () if self.space is None else ("nsenter", f"--net=/proc/{os.getpid()}/fd/{self.space}")


class Namespaces:
    """A network of 198.18.x.0/24, where x.1 is this machine and each node has an address of its own."""

    kind = "namespaces"

    def __init__(self) -> None:
        self._hub = _new_space()
        self._subnet, interface = "", ""
        try:
            self._ip(_enter(self._hub), "link add bridge type bridge", "link set bridge up")
            self._subnet, interface = self._joined()
        except BaseException:
            os.close(self._hub)
            raise
        self._places = {CLIENTS: _Place(f"{self._subnet}.1", interface, None)}
        self._cut: set[tuple[str, str]] = set()

    def seat(self, name: str) -> Seat:
        """A new namespace with a cable to the bridge."""
        number = len(self._places) + 1
        place = _Place(f"{self._subnet}.{number}", "eth0", _new_space())
        self._places[name] = place
        hub, space = f"/proc/self/fd/{self._hub}", f"/proc/self/fd/{place.space}"
        self._ip((), f"link add n{number} netns {hub} type veth peer name eth0 netns {space}")
        self._ip(_enter(self._hub), f"link set n{number} master bridge up")
        self._ip(place.enter, f"addr add {place.address}/24 dev eth0", "link set eth0 up", "link set lo up")
        return Seat(place.address, 6379, bind=("0.0.0.0", 6379), enter=place.enter)  # noqa: S104  of its own namespace

    def cut(self, pairs: list[tuple[str, str]]) -> None:
        """Packets from the first to the second are lost. Both sides notice only that nothing comes."""
        self._each(pairs, f"replace {{address}} lladdr {_NOWHERE} nud permanent dev {{interface}}")
        self._cut.update(pairs)

    def heal(self) -> None:
        """Removes what `cut` did."""
        self._each(sorted(self._cut), "del {address} dev {interface}")
        self._cut.clear()

    def close(self) -> None:
        """Lets go of the namespaces; each goes with its last process."""
        spaces = [place.space for place in self._places.values() if place.space is not None]
        for space in (*spaces, self._hub):
            os.close(space)
        subprocess.run(
            ["ip", "link", "del", self._places[CLIENTS].interface], capture_output=True, check=False
        )  # the kernel does it too, but later
        self._places.clear()

    def _each(self, pairs: list[tuple[str, str]], what: str) -> None:
        for origin in dict.fromkeys(first for first, _ in pairs):
            here = self._places[origin]
            targets = [self._places[second].address for first, second in pairs if first == origin]
            lines = [what.format(address=address, interface=here.interface) for address in targets]
            self._ip(here.enter, *(f"neigh {line}" for line in lines))

    def _joined(self) -> tuple[str, str]:
        """Joins this machine to the bridge, by the first interface name (and so subnet) that nobody has."""
        for number in random.sample(range(_SUBNETS), _SUBNETS):
            interface, hub = f"reliq{number}", f"/proc/self/fd/{self._hub}"
            made = self._try((), f"link add {interface} type veth peer name root netns {hub}")
            if made.returncode == 0:
                subnet = f"198.{18 + number // 256}.{number % 256}"
                self._ip(_enter(self._hub), "link set root master bridge up")
                self._ip((), f"addr add {subnet}.1/24 dev {interface}", f"link set {interface} up")
                return subnet, interface
            if "exists" not in made.stderr:
                raise ServerError(f"can't make a network: {made.stderr.strip()}")
        raise ServerError("can't make a network: all subnets are in use")

    def _ip(self, enter: tuple[str, ...], *lines: str) -> None:
        ran = self._try(enter, *lines)
        if ran.returncode:
            raise ServerError(f"ip {'; '.join(lines)}: {ran.stderr.strip()}")

    def _try(self, enter: tuple[str, ...], *lines: str) -> subprocess.CompletedProcess[str]:
        """Runs lines of `ip` in one process, which has the descriptors of all namespaces."""
        spaces = [place.space for place in getattr(self, "_places", {}).values() if place.space is not None]
        return subprocess.run(
            [*enter, "ip", "-batch", "-"],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            check=False,
            pass_fds=(self._hub, *spaces),
        )


def _enter(space: int) -> tuple[str, ...]:
    return _Place("", "", space).enter


def _new_space() -> int:
    """A descriptor of a new network namespace."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        if not (holder.stdout and holder.stdout.readline()):
            raise ServerError("can't make a network namespace")
        return os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
