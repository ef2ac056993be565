"""What a test may do to a topology. Each fault leaves a record of what was done when, by the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from reliq.errors import InvalidArgument, ServerError
from reliq.testing.network import CLIENTS
from reliq.testing.node import Node
from reliq.testing.topology import Topology

_DIRECTIONS = ("both", "out", "in")


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """A fault that happened.

    Attributes:
        what: `kill`, `partition` ...
        targets: names of the nodes that it was done to.
        at: `time.monotonic()` just before.
        done: and just after.
        details: what else there is to say.
    """

    what: str
    targets: tuple[str, ...]
    at: float
    done: float
    details: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        more = "".join(f" {name}={value}" for name, value in self.details.items())
        return f"{self.what} {' '.join(self.targets)}{more}"


class Announcing(Protocol):
    """A history that is told of what may break promises: `reliq.testing.History`."""

    def announce(self, what: str) -> None:
        """Notes it, now."""


class Faults:
    """The faults of one topology.

    Args:
        topology: it has been started.
        history: is told before and after each fault that may lose what was acknowledged or change the master.

    Attributes:
        records: what was done so far, in order.
    """

    def __init__(self, topology: Topology, history: Announcing | None = None) -> None:
        self.topology = topology
        self.records: list[FaultRecord] = []
        self._history = history

    # Processes

    def kill(self, *nodes: Node) -> FaultRecord:
        """SIGKILL. The kernel still sends what the process had written to its connections."""
        return self._to_each("kill", nodes, Node.kill, announced=True)

    def power_off(self, *nodes: Node) -> FaultRecord:
        """The network first, then SIGKILL: nothing that was on its way gets out. `heal` mends the network."""
        with self._noted("power_off", nodes, announced=True) as record:
            self._cut({node.name for node in nodes}, clients=False, direction="both")
            for node in nodes:
                node.kill()
        return record[0]

    def pause(self, *nodes: Node) -> FaultRecord:
        """SIGSTOP: connections stay open and nothing answers."""
        return self._to_each("pause", nodes, Node.pause, announced=True)

    def resume(self, *nodes: Node) -> FaultRecord:
        """SIGCONT."""
        return self._to_each("resume", nodes, Node.resume, announced=True)

    def start(self, *nodes: Node) -> FaultRecord:
        """Starts killed nodes with what they left: their data, and the configuration as it was last."""
        return self._to_each("start", nodes, Node.start, announced=True)

    def restart(self, *nodes: Node, wipe: bool = False) -> FaultRecord:
        """Kills and starts nodes, with their data or, by `wipe`, empty."""
        with self._noted("restart", nodes, announced=True, wipe=wipe) as record:
            for node in nodes:
                node.restart(wipe=wipe)
        return record[0]

    # The network

    def partition(self, *nodes: Node, clients: bool = False, direction: str = "both") -> FaultRecord:
        """Cuts nodes off from all others. Among themselves they go on. Cuts add up until `heal`.

        Args:
            nodes: servers and Sentinels.
            clients: whether the clients are on their side; else they are with the others.
            direction: `both`; `out`: what these nodes send to the others is lost; `in`: what is sent to them.

        Raises:
            InvalidArgument: the network of this topology can't be cut.
        """
        with self._noted("partition", nodes, announced=True, clients=clients, direction=direction) as record:
            self._cut({node.name for node in nodes}, clients=clients, direction=direction)
        return record[0]

    def heal(self) -> FaultRecord:
        """Everybody reaches everybody again. Returns at once; the nodes need a while to notice."""
        with self._noted("heal", (), announced=True) as record:
            if self.topology.network is not None:
                self.topology.network.heal()
        return record[0]

    # The master

    def failover(self, service: str = "mymaster", *, times: int = 1, timeout: float = 60.0) -> FaultRecord:
        """SENTINEL FAILOVER, and waits until most Sentinels name the new master; `times` in a row.

        Args:
            service: whose master.
            times: 1 or more. A Sentinel takes the next order only when it has done with the last one.
            timeout: seconds for each.

        Raises:
            ServerError: no Sentinel did it in time.
        """
        with self._noted("failover", (), announced=True, service=service) as record:
            for number in range(times):
                self.topology.wait_unanimous(service, timeout)
                old = self.topology.master_of(service)
                self._order(service, timeout)
                seconds = self.topology.wait_switched(old, service=service, timeout=timeout)
                record[0].details[f"seconds-{number + 1}"] = f"{seconds:.3f}"
        return record[0]

    def wait_switched(self, old: Node, *, service: str = "mymaster", timeout: float = 60.0) -> FaultRecord:
        """Waits for the failover that an earlier fault brings; its `seconds` count from the last record."""
        since = self.records[-1].at if self.records else None
        with self._noted("switched", (old,), announced=True) as record:
            seconds = self.topology.wait_switched(old, service=service, since=since, timeout=timeout)
            record[0].details["seconds"] = f"{seconds:.3f}"
        return record[0]

    # What a server holds

    def fill_memory(self, node: Node) -> FaultRecord:
        """Sets `maxmemory` to 1 byte: the server refuses what needs memory, until `free_memory`."""
        return self._command("fill_memory", node, "CONFIG", "SET", "maxmemory", 1)

    def free_memory(self, node: Node) -> FaultRecord:
        """Takes the limit off."""
        return self._command("free_memory", node, "CONFIG", "SET", "maxmemory", 0)

    def flush_scripts(self, node: Node) -> FaultRecord:
        """SCRIPT FLUSH: clients have to load their scripts again."""
        return self._command("flush_scripts", node, "SCRIPT", "FLUSH", "SYNC")

    def flush_all(self, node: Node) -> FaultRecord:
        """FLUSHALL: all queues are gone."""
        return self._command("flush_all", node, "FLUSHALL", "SYNC", announced=True)

    def reset_connections(self, node: Node) -> FaultRecord:
        """Closes all connections of clients, also those that wait for a reply; CLIENT KILL."""
        return self._command("reset_connections", node, "CLIENT", "KILL", "TYPE", "normal")

    def _command(self, what: str, node: Node, *words: str | int, announced: bool = False) -> FaultRecord:
        with self._noted(what, (node,), announced=announced) as record:
            node.call(*words)
        return record[0]

    def _to_each(
        self, what: str, nodes: tuple[Node, ...], action: Callable[[Node], None], *, announced: bool
    ) -> FaultRecord:
        with self._noted(what, nodes, announced=announced) as record:
            for node in nodes:
                action(node)
        return record[0]

    def _cut(self, names: set[str], *, clients: bool, direction: str) -> None:
        if direction not in _DIRECTIONS:
            raise InvalidArgument(f"direction={direction!r} is none of {', '.join(_DIRECTIONS)}")
        if self.topology.network is None:
            raise InvalidArgument("the topology is not running")
        here = names | ({CLIENTS} if clients else set())
        there = {node.name for node in self.topology.everyone} | {CLIENTS}
        out = [(inside, outside) for inside in sorted(here) for outside in sorted(there - here)]
        back = [(outside, inside) for inside, outside in out]
        self.topology.network.cut({"both": out + back, "out": out, "in": back}[direction])

    def _order(self, service: str, timeout: float) -> None:
        """Tells a Sentinel to fail over, again where it is not done with the last time."""
        deadline = time.monotonic() + timeout
        while True:
            sentinel = next((node for node in self.topology.sentinels if node.running and not node.paused), None)
            if sentinel is None:
                raise ServerError("no Sentinel is running")
            try:
                sentinel.call("SENTINEL", "FAILOVER", service)
            except ServerError as error:
                if not str(error).startswith(("INPROG", "NOGOODSLAVE")) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    @contextmanager
    def _noted(
        self, what: str, nodes: tuple[Node, ...], *, announced: bool = False, **details: object
    ) -> Iterator[list[FaultRecord]]:
        """Gives a list whose only element is the record, finished when the block is left without an error."""
        targets, told = tuple(node.name for node in nodes), {name: str(value) for name, value in details.items()}
        at = time.monotonic()
        record = [FaultRecord(what, targets, at, at, told)]
        if announced and self._history:
            self._history.announce(str(record[0]))
        yield record
        record[0] = FaultRecord(what, targets, at, time.monotonic(), told)
        self.records.append(record[0])
        if announced and self._history:
            self._history.announce(str(record[0]))
