"""What the pytest fixtures of `reliq_pytest` give out: a bench for each test, with all that the test asks for on it."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from reliq._keys import REGISTRY, Keys
from reliq.errors import ReliqError
from reliq.queue import Queue
from reliq.queue_async import AsyncQueue
from reliq.testing.faults import Announcing, Faults
from reliq.testing.node import Node
from reliq.testing.proxy import FaultProxy
from reliq.testing.topology import Topology

_PATIENCE = 2.0  # seconds for connections and threads to end that are about to
_OURS = ("relay", "proxy")  # names of threads that end with the bench


class Bench:
    """Servers, proxies and queues of one test. `close` ends all of them, whatever state the test left them in."""

    def __init__(self, binary: Path, name: str = "test") -> None:
        self._binary, self._name = binary, name
        self._topologies: list[Topology] = []
        self._proxies: list[FaultProxy] = []
        self._queues: list[Queue] = []
        self._used: list[tuple[str, str]] = []  # name and URL of every queue, sync or not

    @cached_property
    def server(self) -> Node:
        """A server of its own for the test, empty, with an append-only file; started when it is first asked for."""
        return self.topology(replicas=0, sentinels=0, network="loopback").master

    def topology(self, **options: Any) -> Topology:
        """A started `Topology(**options)`."""
        topology = Topology(**{"binary": self._binary, **options})
        self._topologies.append(topology)
        return topology.start()

    def faults(self, topology: Topology, history: Announcing | None = None) -> Faults:
        """The faults of a topology."""
        return Faults(topology, history)

    def proxy(self, url: str | None = None) -> FaultProxy:
        """A fault proxy in front of a server: the test's own by default."""
        proxy = FaultProxy(url or self.server.url)
        self._proxies.append(proxy)
        return proxy

    def queue(self, url: str | None = None, *, name: str | None = None, **options: Any) -> Queue:
        """A `Queue` with a name that no other has."""
        queue = Queue(*self._place(name, url), **options)
        self._queues.append(queue)
        return queue

    def async_queue(self, url: str | None = None, *, name: str | None = None, **options: Any) -> AsyncQueue:
        """An `AsyncQueue` likewise. Close it in its event loop: `async with`."""
        return AsyncQueue(*self._place(name, url), **options)

    def close(self) -> None:
        """Ends everything."""
        self.close_clients()
        for topology in self._topologies:
            topology.close()

    def close_clients(self) -> None:
        """Closes queues and proxies; servers go on."""
        for queue in self._queues:
            queue.close()
        for proxy in self._proxies:
            proxy.close()

    def held(self) -> list[str]:
        """What is in progress in the queues of this test, a line for each of them."""
        lines = []
        for name, url in sorted(set(self._used)):
            with contextlib.suppress(ReliqError), Queue(name, url, timeout=1.0) as queue:  # of a server that is gone
                if count := queue.counts().in_progress:
                    lines.append(f"queue {name}: {count} in progress")
        return lines

    def strange_keys(self) -> list[str]:
        """Keys on the test's servers that belong to none of its queues, a line for each."""
        known = tuple(Keys(name)[""].decode() for name, _ in self._used)
        return [
            f"{node.name}: key {key}"
            for node in self._answering()
            for key in _keys_of(node)
            if key != REGISTRY.decode() and not key.startswith(known)
        ]

    def connections(self) -> Counter[str]:
        """Connections of clients to the test's servers, as `addr` and `name`; those of Sentinels are not counted."""
        found: Counter[str] = Counter()
        for node in self._answering():
            for line in str(node.call("CLIENT", "LIST", "TYPE", "normal")).splitlines():
                client = dict(word.partition("=")[::2] for word in line.split(" "))
                if not client["name"].startswith("sentinel-") and str(node.directory) not in line:
                    found[f"{node.name}: connection from {client['addr']} (last command: {client['cmd']})"] += 1
        return found

    def _answering(self) -> list[Node]:
        return [n for t in self._topologies for n in t.nodes if n.running and not n.paused and n.answers()]

    def _place(self, name: str | None, url: str | None) -> tuple[str, str]:
        place = (name or f"{self._name}-{secrets.token_hex(4)}", url or self.server.url)
        self._used.append(place)
        return place


class LeakCheck:
    """What was there when the test began, and at `verify` what is there beyond it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._threads = set(threading.enumerate())
        self._connections = bench.connections()

    def verify(self) -> None:
        """Closes the bench's queues and proxies, and waits up to 2 s for what is about to end.

        Raises:
            AssertionError: connections, threads, items in progress or keys are left; each in a line of its own.
        """
        held = self._bench.held()
        self._bench.close_clients()
        deadline = time.monotonic() + _PATIENCE
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.01)
        if left := held + left + self._bench.strange_keys():
            raise AssertionError("the test leaves behind:\n" + "\n".join(left))

    def _left(self) -> list[str]:
        threads = [t for t in threading.enumerate() if t not in self._threads and not t.name.startswith(_OURS)]
        return [f"thread {t.name}" for t in threads] + sorted(self._bench.connections() - self._connections)


def _keys_of(node: Node) -> list[str]:
    keys = node.call("KEYS", "*") if node.info()["role"] == "master" else []
    return [str(key) for key in keys] if isinstance(keys, list) else []
