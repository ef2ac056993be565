"""What reliq is measured against: queues and calls written by hand, as fast as that is reasonable."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import hiredis
import msgpack
import redis

from reliq import _commands, _ids
from reliq._commands import Body
from reliq._session import Command, Session

TEXT = "x" * 98  # 100 bytes in msgpack
Wire = tuple[bytes | str | int, ...]


class Streams:
    """A queue on Redis Streams: pipelined XADD, XREADGROUP COUNT n, XACK and XDEL. Payloads are msgpack, as reliq's."""

    def __init__(self, client: redis.Redis, key: str, consumer: str = "c") -> None:
        self.client, self.key, self.consumer = client, key, consumer
        if not client.exists(key):
            client.xgroup_create(key, "g", mkstream=True)

    def enqueue(self, payloads: Iterable[Any]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for payload in payloads:
            pipeline.xadd(self.key, {"p": msgpack.packb(payload)})
        pipeline.execute()

    def claim(self, count: int) -> list[tuple[bytes, Any]]:
        reply: Any = self.client.xreadgroup("g", self.consumer, {self.key: ">"}, count=count)
        entries = reply[0][1] if reply else []
        return [(entry_id, msgpack.unpackb(fields[b"p"])) for entry_id, fields in entries]

    def finish(self, ids: Sequence[bytes]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        pipeline.xack(self.key, "g", *ids)
        pipeline.xdel(self.key, *ids)
        pipeline.execute()

    def work(self, batch: int) -> int:
        """A worker's loop whose handler does nothing, until the stream has nothing left."""
        done = 0
        while entries := self.claim(batch):
            self.finish([entry_id for entry_id, _ in entries])
            done += len(entries)
        return done


class BareSocket:
    """A socket and hiredis, nothing else."""

    def __init__(self, url: str) -> None:
        self._socket = connected(url)
        self._reader = hiredis.Reader()

    def call(self, *words: bytes | str | int) -> Any:
        self._socket.sendall(packed(words))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        return reply

    def close(self) -> None:
        self._socket.close()


class BareProtocol(asyncio.Protocol):
    """The same for asyncio: a transport and hiredis. One call at a time."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[Any]

    @classmethod
    async def connect(cls, url: str) -> BareProtocol:
        plain = connected(url)
        plain.setblocking(False)
        return (await asyncio.get_running_loop().create_connection(cls, sock=plain))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if (reply := self._reader.gets()) is not False:
            self._answer.set_result(reply)

    async def call(self, *words: bytes | str | int) -> Any:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(packed(words))
        return await self._answer

    def close(self) -> None:
        self._transport.close()


def packed(words: Wire) -> bytes:
    data: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # declared for tuples of one part
    return data


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(parts.path)
        return plain
    plain = socket.create_connection((parts.hostname, parts.port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def enqueues(url: str, name: str, count: int) -> tuple[Command[Any], list[Wire]]:
    """As many enqueues of one item each, as reliq would send them, for a queue that has been made and a script that
    the server has. Returns one of the commands, and all of them as words.
    """
    session = Session(name)
    record = msgpack.packb(TEXT)
    commands = [_commands.enqueue([Body(key, record)]) for key in _ids.new_keys(count + 1)]
    first, plain = commands.pop(), BareSocket(url)
    plain.call("SCRIPT", "LOAD", first.script.source)
    session.accept(first, plain.call(*session.wire(first)))  # the epoch is known from here on
    plain.close()
    return first, [session.wire(command) for command in commands]
