"""Records what a process asks of a queue and what it is told, for `reliq.testing.check_history` to decide on.

history = History("worker-1.jsonl")
queue = Recording(reliq.Queue("emails", url), history)

def handle(item):
    with history.handling(item):
        ...

reliq.Worker(queue, handle).run()
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reliq.errors import LeaseLost, ReliqError, Unavailable
from reliq.item import Item, New
from reliq.outcomes import Enqueued, Failed
from reliq.states import ItemState
from reliq.testing._events import STARTED, Event


class History:
    """A file that one process appends to: a line for each event, written at once and whole.

    A process that is killed loses nothing that it was told before: what it began to write last is torn at worst, and
    the reader leaves that out. Threads and tasks may share a history. Give each process a file of its own.

    Args:
        path: the file; it is appended to where it exists.
        name: of the process, in reports; its number is added.

    Raises:
        OSError: the file can't be opened.
    """

    def __init__(self, path: str | Path, name: str = "process") -> None:
        self.path, self.name = Path(path), name
        self._calls = itertools.count(1)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # behind a line that a killed process tore
        self.process(STARTED, self.who)

    @property
    def who(self) -> str:
        """Name and number of this process, as events carry it."""
        return f"{self.name}:{os.getpid()}"

    def close(self) -> None:
        """Closes the file. Nothing is lost without it."""
        os.close(self._file)

    def write(self, kind: str, **data: Any) -> None:
        """Appends an event that happens now."""
        os.write(self._file, Event(time.monotonic(), self.who, kind, data).line())

    def next_call(self) -> int:
        """A number for a call, by which its answer finds its question."""
        return next(self._calls)

    @contextmanager
    def handling(self, item: Item) -> Iterator[None]:
        """Around what a handler does with an item: when it began, and when it ended unless the process died."""
        about = {"id": item.id, "receipt": item.receipt}
        self.write("began", **about, delivery=item.delivery, until=item.expires)
        how = "raised"
        try:
            yield
            how = "returned"
        finally:
            self.write("ended", **about, how=how, until=item.expires)

    def process(self, what: str, who: str) -> None:
        """Notes what happened to a process: `killed`, `stopped`, `continued`, `terminated`.

        For whoever sends the signal: before `killed` and `stopped`, so that what follows is blamed on it.

        Args:
            what: one of these words.
            who: the process, as its own `History.who` says it.
        """
        self.write("process", what=what, who=who)

    def announce(self, what: str) -> None:
        """Notes a failover or a change of epoch, before and after it: what breaks across it is counted apart."""
        self.write("announce", what=what)

    def final(self, states: Mapping[ItemState, Iterable[str]], counts: Mapping[str, int]) -> None:
        """Notes where all items are when everybody has stopped. `reliq.testing.final_state` finds it out."""
        for state, ids in states.items():
            listed = list(ids)
            for start in range(0, max(1, len(listed)), 1000):
                self.write("final", state=state.value, ids=listed[start : start + 1000])
        self.write("counts", counts=dict(counts))

    # What `Recording` and `AsyncRecording` write

    @contextmanager
    def enqueueing(
        self, entries: Sequence[New], before: Iterable[Enqueued] = (), later: Iterable[New] = ()
    ) -> Iterator[list[Enqueued]]:
        """Around an enqueue of items that have their ids; what was enqueued is put into the list that it gives.

        An error out of it names `before` as enqueued as well: what earlier batches of the same call have done. Those of
        `later` come when something else has happened.
        """
        call, done = self.next_call(), list[Enqueued]()
        if not entries:
            yield done
            return
        self.write("enqueue", phase="invoke", call=call, **_described(entries, later))
        phase = "info"
        try:
            yield done
        except ReliqError as error:
            done += error.enqueued
            error.enqueued = (*before, *error.enqueued)
            phase = "info" if _may_have_been_applied(error) else "refused"
            raise
        finally:
            there = {outcome.id for outcome in done}
            if there:
                self.write("enqueue", phase="ok", call=call, ids=list(there))
            if left := [str(entry.id) for entry in entries if entry.id not in there]:
                self.write("enqueue", phase=phase, call=call, ids=left)

    @contextmanager
    def settling(self, verb: str, items: Iterable[Item], **more: Any) -> Iterator[dict[str, Any]]:
        """Around a call that needs receipts. What else is known of the answer is put into the dict that it gives."""
        call, answer = self.next_call(), dict[str, Any]()
        held: dict[str, list[str]] = {}
        until: dict[str, float] = {}
        for item in items:
            held.setdefault(item.receipt, []).append(item.id)
            until[item.receipt] = max(item.expires, until.get(item.receipt, item.expires))
        self.write(verb, phase="invoke", call=call, held=held, until=until, **more)
        try:
            yield answer
        except LeaseLost as error:
            self.write(verb, phase="ok", call=call, **{**answer, "lost": list(error.ids)})
            raise
        except BaseException:  # whatever it was: a part of a large call may have been applied
            self.write(verb, phase="info", call=call)
            raise
        self.write(verb, phase="ok", call=call, **answer)

    def claimed(self, items: Iterable[Item]) -> None:
        """Notes what a claim brought, if anything."""
        batches: dict[str, list[Item]] = {}
        for item in items:
            batches.setdefault(item.receipt, []).append(item)
        for receipt, batch in batches.items():
            first = batch[0]
            self.write(
                "claim",
                receipt=receipt,
                asked=first.expires - first.lease,
                lease=first.lease,
                epoch=first.epoch,
                ids=[item.id for item in batch],
                deliveries=[item.delivery for item in batch],
                attempts=[item.attempt for item in batch],
            )

    @contextmanager
    def deciding(self, verb: str, ids: Iterable[str], **more: Any) -> Iterator[list[str]]:
        """Around a verb of operators, by ids; those that it moved are put into the list that it gives."""
        call, moved = self.next_call(), list[str]()
        self.write(verb, phase="invoke", call=call, ids=list(ids), **more)
        try:
            yield moved
        except BaseException:
            self.write(verb, phase="info", call=call)
            raise
        self.write(verb, phase="ok", call=call, ids=moved)


def dead_of(outcomes: Iterable[Failed] | None) -> list[str]:
    """The ids whose last attempt it was: dead, or discarded."""
    return [outcome.id for outcome in outcomes or () if outcome.state in (ItemState.DEAD, ItemState.REMOVED)]


def _described(entries: Sequence[New], at_some_time: Iterable[New]) -> dict[str, Any]:
    groups = [entry.group for entry in entries]
    later = [str(entry.id) for entry in entries if entry.delay or entry.at is not None]
    later += [str(entry.id) for entry in at_some_time]
    described: dict[str, Any] = {"ids": [str(entry.id) for entry in entries]}
    return described | ({"groups": groups} if any(groups) else {}) | ({"later": later} if later else {})


def _may_have_been_applied(error: ReliqError) -> bool:
    return isinstance(error, Unavailable) and error.may_have_been_applied
