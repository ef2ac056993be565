"""A queue in Redis as a rebuild and a reconciliation see it: looked at, filled, and asked about its items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from reliq import _commands, _replies, _scripts
from reliq._reading import pairs
from reliq._session import Command, Reply
from reliq.errors import ScriptFailed, StaleEpoch
from reliq.mirror._journal import Journal
from reliq.mirror._plan import LIVE, Entry, Target
from reliq.queue import Queue
from reliq.states import ItemState

PAGE = 1000  # items in a call
BATCH_BYTES = 2 * 1024 * 1024  # of a call, about


class Filling:
    """One queue on its server, with connections of its own and an epoch of its own.

    A rebuild can't use the client that was passed in: that one knows the epoch from before, and may be guarded.
    """

    def __init__(self, queue: Queue) -> None:
        self.name = queue.name
        made_of = {name: queue._made_of[name] for name in ("url", "client", "timeout")}
        self.queue = Queue(queue.name, **made_of)
        self.session, self.driver = self.queue._session, self.queue._driver

    def close(self) -> None:
        """Closes its connections."""
        self.queue.close()

    def ask(self, *parts: bytes | str | int) -> Any:
        """A plain command that only reads."""
        return self.driver._asked(_replies.pack(parts))

    def look(self) -> Target:
        """What the server has of the queue, whatever its epoch and state."""
        fields = ("epoch", "state", "stamp", "rebuild_id")
        epoch, state, stamp, rebuild = self.ask("HMGET", self.session.keys["meta"], *fields)
        if epoch is None:
            return Target()
        self.session.epoch = b""  # this looks, it does not judge
        counts = {name: value for name, value in self.counts().items() if name in LIVE}
        rebuilt_by = str(UUID(bytes=rebuild)) if rebuild and len(rebuild) == 16 else ""
        return Target(int(epoch), (state or b"").decode(), int(stamp or 0), rebuilt_by, counts)

    def counts(self) -> dict[str, int]:
        """Items by state, and totals."""
        found: Reply = self.driver.call(Command(_scripts.load("inspect"), (), lambda reply: reply[2]))
        return {name: int(value) for name, value in pairs(found).items()}

    def last_in_journal(self) -> str:
        """The id of the last entry, '' where there is none."""
        args = ("", "")
        last: bytes = self.driver.call(Command(_scripts.load("mirror"), args, lambda reply: reply[3]))
        return last.decode()

    def server(self) -> str:
        """Which run of which server this is, as a follower notes it."""
        return Journal(self.queue).facts().server

    def first_in_journal(self) -> str:
        """The id of the entry that stands for all that was restored."""
        found = self.ask("XRANGE", self.session.keys["journal"], "-", "+", "COUNT", 1)
        return str(found[0][0].decode()) if found else ""

    def set_cron(self, name: str, next_at: str, kept: bytes) -> None:
        """Puts a recurring item, as lua/crons.lua told it. One that is there already is left as it is."""
        _, revision, definition = kept.split(b" ", 2)
        args = (name, "", revision, definition, next_at)
        self.driver.call(Command(_scripts.load("cron_set"), args, lambda _: None))

    def restored(self) -> int:
        """How many items, ended ones too, a rebuild has put there."""
        return int(self.ask("HGET", self.session.keys["meta"], "enqueued") or 0)

    def begin(self, rebuild: UUID, epoch: int, settings: Mapping[str, str], *, wipe: bool) -> None:
        """Opens the queue for `restore`, closed to everybody else. Repeating it changes nothing.

        Raises:
            StaleEpoch: it is not empty, and not this rebuild's; or has a later epoch.
        """
        fields = [part for pair in settings.items() for part in pair]
        args = ("wipe" if wipe else "begin", rebuild.bytes, epoch, *fields)
        self.session.epoch = b""
        try:
            self.driver.call(Command(_scripts.load("rebuild"), args, lambda _: None))
        except ScriptFailed as error:
            if "NOT_EMPTY" not in str(error):
                raise
            raise StaleEpoch(self.name, known=epoch, found=self.look().epoch or 0) from error

    def end(self, rebuild: UUID, epoch: int) -> None:
        """Opens the queue to everybody. Repeating it changes nothing."""
        self.driver.call(Command(_scripts.load("rebuild"), ("end", rebuild.bytes, epoch), lambda _: None))

    def restore(self, rebuild: UUID, entries: Sequence[Entry]) -> int:
        """Puts items behind those that are there. Returns how many it had to put."""
        args: list[bytes | str | int] = [rebuild.bytes]
        for entry in entries:
            args += entry
        return self.driver.call(Command(_scripts.load("restore"), args, lambda reply: int(reply[2])))

    def restore_batch(self, rebuild: UUID, row: Sequence[Any]) -> None:
        """Puts a batch: its id, when it is followed, whether it is sealed, members, those awaited, what follows."""
        key, when, sealed, total, awaited, following = row
        args = (rebuild.bytes, bytes(key), when, int(sealed), total, awaited, bytes(following))
        self.driver.call(Command(_scripts.load("restore_batch"), args, lambda _: None))

    def put_back(self, entries: Sequence[Entry]) -> set[bytes]:
        """Puts items that a live queue has lost. Returns the ids that it had to put."""
        args = [part for entry in entries for part in entry]

        def decode(reply: Reply) -> set[bytes]:
            there = {int(i) for i in reply[2]}
            return {entry.id for i, entry in enumerate(entries) if i not in there}

        return self.driver.call(Command(_scripts.load("put_back"), args, decode, [entry.id for entry in entries]))

    def put_back_batch(self, key: bytes, phase: str, when: str, total: int, following: bytes) -> str:
        """Opens a batch that a live queue has lost, or seals it. Returns what it is now, as the script says it."""
        args = (key, phase, when, total, following)
        return self.driver.call(Command(_scripts.load("put_back_batch"), args, lambda reply: bytes(reply[2]).decode()))

    def batches(self, names: Sequence[bytes]) -> list[bytes | None]:
        """How far batches are, as lua/_batch.lua keeps it; None for one that is not there."""
        found: list[bytes | None] = []
        if names:
            found = self.ask("HMGET", self.session.keys["batches"], *(b"b" + name for name in names))
        return found

    def end_again(self, ended: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
        """Ends items as their end markers say, where nobody holds them. Returns the ids that it ended."""
        args = [part for pair in ended for part in pair]

        def decode(reply: Reply) -> set[bytes]:
            left = {int(i) for i in reply[2]}
            return {key for i, (key, _) in enumerate(ended) if i not in left}

        return self.driver.call(Command(_scripts.load("end_again"), args, decode, [key for key, _ in ended]))

    def get(self, keys: Sequence[bytes]) -> list[Entry]:
        """How items are now; the state of one that the queue does not know is empty."""

        def decode(reply: Reply) -> list[Entry]:
            return [_entry(key, *found) for key, found in zip(keys, reply[3], strict=True)]

        return self.driver.call(Command(_scripts.load("get"), keys, decode, keys)) if keys else []

    def pages(self, state: str) -> Iterator[list[bytes]]:
        """Ids in a state, a page at a time. Exact where nothing moves."""
        cursor, more = b"", True
        while more:
            keys, cursor = self.driver.call(_commands.scan(ItemState(state), cursor, PAGE))
            for start in range(0, len(keys), PAGE):  # a claim, or a call that ended items, may have more
                yield keys[start : start + PAGE]
            more = cursor != b""


def _entry(
    key: bytes,
    state: bytes,
    record: bytes,
    history: bytes,
    error: bytes,
    at: bytes,
    group: bytes,
    checkpoint: bytes,
    batch: bytes,
) -> Entry:
    """An item out of the reply of lua/get.lua."""
    return Entry(key, state, record, history, at, error, group, checkpoint, batch)
