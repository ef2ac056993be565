"""A replica that becomes the master without having got the last of what its master took: at the word, every time."""

from __future__ import annotations

from typing import Any

from contract.clients import make_queue
from servers import wait_until

from reliq import Item, Queue
from reliq.testing.topology import Topology


def one(queue: Queue) -> Item:
    """The next item."""
    (item,) = queue.claim()
    return item


class Behind:
    """A master and its replica. `queue` is a client of the master; `part`, then `switch`, makes one of the replica.

    Args:
        topology: of one master and one replica, without Sentinels.
        style: of the clients, sync or async.
        name: of the queue.
    """

    def __init__(self, topology: Topology, style: str, name: str) -> None:
        self.topology = topology
        self.old, self.new = topology.nodes
        self._style, self._name = style, name
        self._opened: list[Queue] = []
        self.queue = self.open(self.old.url)

    def open(self, url: str, **options: Any) -> Queue:
        self._opened.append(make_queue(self._style, self._name, url, **options))
        return self._opened[-1]

    def part(self) -> None:
        """From now on the replica gets nothing. It has everything up to here."""
        wait_until(self._in_step, "the replica to have everything")
        assert self.topology.network
        self.topology.network.cut([(self.old.name, self.new.name), (self.new.name, self.old.name)])

    def switch(self) -> Queue:
        """The replica is the master, with what it has. Returns a client of it; the old one goes on unawares."""
        self.new.call("REPLICAOF", "NO", "ONE")
        return self.open(self.new.url)

    def kill_old(self) -> None:
        """SIGKILL of the old master."""
        self.old.kill()

    def resurrect(self) -> None:
        """The old master is back, with what it had on disk, and takes itself for the master."""
        self.old.start()

    def rejoin(self) -> None:
        """The old master becomes a replica of the new one."""
        assert self.topology.network
        self.topology.network.heal()
        self.old.call("REPLICAOF", self.new.host, self.new.port)
        wait_until(lambda: self.old.info()["master_link_status"] == "up", "the old master to follow", 30)

    def close(self) -> None:
        """As it was before, for the next test."""
        for queue in self._opened:
            queue.close()
        assert self.topology.network
        self.topology.network.heal()
        if not self.old.running:
            self.old.start()
        self.old.call("REPLICAOF", "NO", "ONE")
        self.old.call("CLIENT", "KILL", "TYPE", "replica")  # the link that was cut, which it counts as another replica
        self.new.call("REPLICAOF", self.old.host, self.old.port)
        self.topology.wait_ready()

    def _in_step(self) -> bool:
        told, got = self.old.info(), self.new.info()
        return got["master_link_status"] == "up" and told["master_repl_offset"] == got["slave_repl_offset"]
