"""A real master with replicas and Sentinels, on this machine, that a test may break in every way. POSIX only.

with Topology() as topology:
    queue = reliq.Queue("emails", topology.url)
    old = topology.master
    old.kill()
    topology.wait_switched(old)
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from reliq._server_files import find_server
from reliq.errors import InvalidArgument, ServerError
from reliq.testing import configuration
from reliq.testing.control import fields, rows
from reliq.testing.network import Network, network
from reliq.testing.node import Node

Address = tuple[str, int]
_DOWN = {"s_down", "o_down", "disconnected"}


class Topology:
    """Servers and Sentinels of one binary. They end with this process at the latest, however that ends.

    Nothing runs before `start` (or `with`). Not for use by two threads at once.

    Args:
        masters: how many, 1 or more; the Sentinels watch them as `mymaster`, `mymaster-2` ...
        replicas: of each master.
        sentinels: processes; 0 for none. More than half of them are the quorum.
        binary: the server program, which has to be able to run as a Sentinel; None: `find_server()`.
        down_after: seconds without an answer after which a Sentinel thinks that a node is down.
        failover_timeout: seconds, as Sentinel's `failover-timeout`.
        password: of the servers; '' for none.
        sentinel_password: of the Sentinels.
        append_only: servers keep an append-only file, so that a restart keeps their data.
        config: lines for the servers' configuration, name to value.
        network: `auto`, `namespaces`, `relays`, or `loopback` where no test cuts it; see `reliq.testing.network`.

    Raises:
        InvalidArgument, ServerNotFound.
    """

    def __init__(
        self,
        masters: int = 1,
        replicas: int = 2,
        sentinels: int = 3,
        binary: Path | None = None,
        *,
        down_after: float = 1.0,
        failover_timeout: float = 3.0,
        password: str = "",
        sentinel_password: str = "",
        append_only: bool = True,
        config: Mapping[str, str] | None = None,
        network: str = "auto",
    ) -> None:
        if masters < 1 or replicas < 0 or sentinels < 0:
            raise InvalidArgument("a topology has at least one master, and not less than no replicas and Sentinels")
        self._binary = (binary or find_server()).absolute()
        self._shape = (masters, replicas, sentinels)
        self._timing = (round(down_after * 1000), round(failover_timeout * 1000))
        self.password, self.sentinel_password = password, sentinel_password
        self._lines = {"appendonly": "yes" if append_only else "no", **(config or {})}
        self._kind = network
        self.network: Network | None = None
        self.services = tuple("mymaster" if number == 1 else f"mymaster-{number}" for number in range(1, masters + 1))
        self._groups: dict[str, list[Node]] = {}
        self.sentinels: list[Node] = []

    @property
    def nodes(self) -> list[Node]:
        """All servers, down or not; the first of each service was its first master."""
        return [node for group in self._groups.values() for node in group]

    @property
    def everyone(self) -> list[Node]:
        """Servers and Sentinels."""
        return [*self.nodes, *self.sentinels]

    @property
    def url(self) -> str:
        """For `reliq.Queue`: redis+sentinel://, or redis:// where there are no Sentinels. Mask it before printing."""
        return self.url_of("mymaster")

    @property
    def master(self) -> Node:
        """The master, as most Sentinels name it now; see `master_of`."""
        return self.master_of("mymaster")

    @property
    def replicas(self) -> list[Node]:
        """The servers of `mymaster` that are not its master, down or not."""
        return self.replicas_of("mymaster")

    def url_of(self, service: str) -> str:
        """The URL of one of several masters."""
        if not self.sentinels:
            return self._groups[service][0].url
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        hosts = ",".join(f"{node.host}:{node.port}" for node in self.sentinels)
        query = f"?sentinel_password={quote(self.sentinel_password, safe='')}" if self.sentinel_password else ""
        return f"redis+sentinel://{login}{hosts}/{service}/0{query}"

    def master_of(self, service: str) -> Node:
        """The server that more Sentinels than any other name as the master; without Sentinels the one that says so.

        Raises:
            ServerError: no Sentinel answers, or there is no such server.
        """
        if self.sentinels:
            votes = Counter(self.votes(service).values())
            wanted = votes.most_common(1)[0][0] if votes else None
            found = [node for node in self._groups[service] if node.address == wanted]
        else:
            found = [node for node in self._groups[service] if _is_master(node)]
        if not found:
            raise ServerError(f"nobody knows the master of {service}")
        return found[0]

    def replicas_of(self, service: str) -> list[Node]:
        """The servers of a service that are not its master."""
        master = self.master_of(service)
        return [node for node in self._groups[service] if node is not master]

    def votes(self, service: str = "mymaster") -> dict[str, Address]:
        """Which master each Sentinel names, by the Sentinel's name; without those that do not answer."""
        named = {node.name: _named(node, service) for node in self.sentinels if node.running and not node.paused}
        return {name: address for name, address in named.items() if address}

    def node(self, name_or_address: str | Address) -> Node:
        """The server or Sentinel of this name, or at this address. Raises KeyError."""
        for node in self.everyone:
            if name_or_address in (node.name, node.address):
                return node
        raise KeyError(name_or_address)

    def start(self, timeout: float = 30.0) -> Self:
        """Starts everything and waits until it is ready to fail over.

        Args:
            timeout: seconds.

        Raises:
            ServerError: something does not start; the end of its log is in the message. What did start is stopped.
        """
        try:
            self.network = network(self._kind)
            for service in self.services:
                self._start_servers(service, self.network)
            self._wait(self._in_sync, "the replicas are in sync", timeout)
            self._start_sentinels(self.network)
            self.wait_ready(timeout)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Ends all processes, removes their directories, and gives the network back. A second time does nothing."""
        for node in self.everyone:
            node.close()
        if self.network is not None:
            self.network.close()
        self.network = None
        self._groups, self.sentinels = {}, []

    stop = close

    def wait_ready(self, timeout: float = 30.0) -> float:
        """Waits until a failover would work: each running replica is in sync with its master, and each running Sentinel
        knows the same master, its replicas and the other Sentinels, and sees none of the running ones as down.

        Args:
            timeout: seconds.

        Returns:
            How many seconds it took.

        Raises:
            ServerError: not in time; the message says what was missing.
        """
        began = time.monotonic()
        self._wait(self._in_sync, "the replicas are in sync", timeout)
        self._wait(self._agreed, "the Sentinels see all others", timeout)
        return time.monotonic() - began

    def wait_switched(
        self, old: Node, *, service: str = "mymaster", since: float | None = None, timeout: float = 60.0
    ) -> float:
        """Waits until more than half of all Sentinels name another master than `old`.

        Args:
            old: the master before.
            service: whose master.
            since: when the time to be returned began, by `time.monotonic()`: a fault's `at`. None: now.
            timeout: seconds.

        Returns:
            Seconds since then.

        Raises:
            ServerError: not in time.
        """
        began = time.monotonic() if since is None else since

        def switched() -> bool:
            votes = Counter(address for address in self.votes(service).values() if address != old.address)
            return bool(votes) and votes.most_common(1)[0][1] > len(self.sentinels) // 2

        self._wait(switched, f"most Sentinels name another master than {old.name}", timeout)
        return time.monotonic() - began

    def wait_unanimous(self, service: str = "mymaster", timeout: float = 30.0) -> None:
        """Waits until all Sentinels that answer name one master. Raises ServerError where they don't in time."""
        self._wait(lambda: len(set(self.votes(service).values())) == 1, "the Sentinels name one master", timeout)

    def __enter__(self) -> Self:
        return self if self.network else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _start_servers(self, service: str, network: Network) -> None:
        group = self._groups.setdefault(service, [])
        for _ in range(1 + self._shape[1]):
            name = f"server-{len(self.nodes) + 1}"
            seat = network.seat(name)
            lines = configuration.server(seat, group[0].address if group else None, self.password, self._lines)
            node = Node(name, self._binary, seat, lines, password=self.password)
            group.append(node)
            node.start()

    def _start_sentinels(self, network: Network) -> None:
        """They are told of each other beforehand, which spares the seconds in which they find out."""
        names = [f"sentinel-{number + 1}" for number in range(self._shape[2])]
        seats = [(network.seat(name), secrets.token_hex(20)) for name in names]
        for name, (seat, myid) in zip(names, seats, strict=True):
            others = [(other.host, other.port, number) for other, number in seats if number != myid]
            services = [self._service(service) for service in self.services]
            lines = configuration.sentinel(seat, myid, self.sentinel_password, services, others)
            self.sentinels.append(Node(name, self._binary, seat, lines, sentinel=True, password=self.sentinel_password))
        for node in self.sentinels:
            node.start()

    def _service(self, name: str) -> configuration.Service:
        master, *replicas = (node.address for node in self._groups[name])
        quorum = self._shape[2] // 2 + 1
        return configuration.Service(name, master, replicas, quorum, *self._timing, self.password)

    def _in_sync(self) -> bool:
        return all(self._group_in_sync(service) for service in self.services)

    def _group_in_sync(self, service: str) -> bool:
        """Decided on one look at each node: one that changes its role in between would contradict itself."""
        facts = {node: node.info() for node in self._groups[service] if node.running and not node.paused}
        masters = [node for node, told in facts.items() if told["role"] == "master"]
        if len(masters) != 1 or (self.sentinels and masters[0] is not self.master_of(service)):
            return False
        return all(_follows(told, masters[0]) for node, told in facts.items() if node is not masters[0])

    def _agreed(self) -> bool:
        alive = [node for node in self.sentinels if node.running and not node.paused]
        return all(self._sees_all(node, service) for node in alive for service in self.services)

    def _sees_all(self, sentinel: Node, service: str) -> bool:
        """Whether a Sentinel sees every node that runs, and none of them as anything but in order."""
        master = fields(sentinel.call("SENTINEL", "MASTER", service))
        replicas = rows(sentinel.call("SENTINEL", "REPLICAS", service))
        others = rows(sentinel.call("SENTINEL", "SENTINELS", service))
        replicas = [row for row in replicas if row["info-refresh"] != "0"]  # of others it would not make a master
        well = {_address(row) for row in (master, *replicas, *others) if not _DOWN & set(row["flags"].split(","))}
        wanted = [*self._groups[service], *(node for node in self.sentinels if node is not sentinel)]
        return {node.address for node in wanted if node.running and not node.paused} <= well

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not _holds(condition):
            if time.monotonic() > deadline:
                logs = "\n".join(f"{node.name}: {node.log_tail(5)}" for node in self.everyone)
                raise ServerError(f"after {timeout} s still not: {what}\n{logs}")
            time.sleep(0.02)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except ServerError:  # a server that is made a replica closes its connections, ours too
        return False


def _follows(told: Mapping[str, str], master: Node) -> bool:
    """Whether the facts of a node say that it is a replica of this master, and in touch with it."""
    host, port, link = (told.get(name) for name in ("master_host", "master_port", "master_link_status"))
    return (host, port, link) == (master.host, str(master.port), "up")


def _is_master(node: Node) -> bool:
    return node.running and not node.paused and node.info()["role"] == "master"


def _named(sentinel: Node, service: str) -> Address | None:
    reply = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    return (str(reply[0]), int(str(reply[1]))) if isinstance(reply, list) else None


def _address(row: dict[str, str]) -> Address:
    return row["ip"], int(row["port"])
