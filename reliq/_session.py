"""A call as a value, and what a client knows about its queue. No I/O."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from reliq import _codec, _ids
from reliq._codec import Codec
from reliq._durability import MEMORY, Durability
from reliq._keys import Keys
from reliq._scripts import Script
from reliq.errors import InvalidArgument
from reliq.typed import PayloadType

T = TypeVar("T")
Reply = list[Any]
Wire = tuple[bytes | str | int, ...]  # a command, part by part


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """One call of a script, as a value.

    Attributes:
        args: what follows the epoch and the time in ARGV.
        decode: makes the result from the reply, which starts with a status word and the epoch.
        keys: ids (as the server has them) that an error should name.
        durability: what is to be confirmed of it.
    """

    script: Script
    args: Sequence[bytes | str | int]
    decode: Callable[[Reply], T]
    keys: Sequence[bytes] = ()
    durability: Durability = MEMORY


class Session:
    """What a client knows about its queue: its name, its keys, the epoch it has seen, and how payloads are coded."""

    def __init__(
        self,
        queue: str,
        *,
        codecs: Sequence[Codec] = (),
        max_payload: int = _codec.MAX_PAYLOAD,
        payload_type: PayloadType | None = None,
    ) -> None:
        self.queue = queue
        self.keys = Keys(queue)
        self.epoch = b""
        self.now_ms = b""  # tests set it to walk through time
        self.codecs = tuple(codecs)
        self.codecs_by_name: Mapping[str, Codec] = {codec.name: codec for codec in codecs}
        if len(self.codecs_by_name) < len(self.codecs):
            raise InvalidArgument("codecs= has two codecs of one name, and a record tells them by their names")
        self.max_payload = max_payload
        self.payload_type = payload_type  # what payloads become on their way out; None: what msgpack makes of them
        self.patience = 5.0  # seconds that a confirmation of durability may take
        self.owner: Any = None  # the queue object, which items lead back to
        self.abandoned: list[bytes] = []  # receipts of claims that were broken off: the next claim asks with them
        self._pid = os.getpid()
        self.head = lru_cache(maxsize=None)(self._head)

    def encode(self, payload: Any, key: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of an item as it is stored.

        Raises:
            PayloadError: a part of the payload can't be carried, or it is too large.
        """
        if self.payload_type is not None:
            payload = self.payload_type.encode(payload)
        if not headers and not self.codecs:
            return _codec.sized(_codec.pack_payload(payload), self.max_payload)
        return _codec.encode_long(
            payload,
            queue=self.queue,
            item_id=_ids.unpack(key),
            headers=headers or {},
            codecs=self.codecs,
            limit=self.max_payload,
        )

    def _head(self, script: Script) -> Wire:
        return ("EVALSHA", script.sha, len(script.keys), *self.keys.of(script.keys))

    def abandoned_receipt(self) -> bytes | None:
        """Takes one receipt of a claim that was broken off. Those from before a fork are the parent's."""
        if self._pid != os.getpid():
            self._pid, self.abandoned = os.getpid(), []
        try:
            return self.abandoned.pop(0)  # in the order of the claims, which is that of their items
        except IndexError:  # there is none, or another thread was faster
            return None

    def wire(self, command: Command[Any]) -> Wire:
        """The whole command as it goes to the server."""
        return (*self.head(command.script), self.epoch, self.now_ms, *command.args)

    def accept(self, command: Command[T], reply: Reply) -> T:
        """Reads a reply, and learns the epoch from it where none is known yet.

        What is known stays known: a call that another thread had sent before that may find the queue gone, or another
        one in its place, and be right; those who know of the first one are to be told.
        """
        if not self.epoch:
            self.epoch = reply[1]
        return command.decode(reply)
