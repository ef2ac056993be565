"""Which items a bulk verb acts on: found first, written down, shown, and then acted on, these and no others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from reliq.cli._exit import Exit, Stop, confirm, partly, say
from reliq.cli._options import Options
from reliq.cli._output import Age, Bar, Shown, instant
from reliq.info import ItemInfo
from reliq.item import Progress
from reliq.outcomes import Moved
from reliq.states import ItemState

if TYPE_CHECKING:
    from reliq.queue import Queue

BATCH = 1000  # ids of one call
COLUMNS = ("id", "state", "age", "deliveries", "failures", "error", "payload")


def chosen(queue: Queue, state: str, *, older_than: float | None, limit: int | None, now: float) -> Iterator[ItemInfo]:
    """The items of a state, oldest first, that have been in it (see `since`) for longer than `older_than` seconds."""
    infos = queue.scan(state)
    if older_than is not None:
        infos = (info for info in infos if now - (since(info) or now) > older_than)
    return islice(infos, limit)


def since(info: ItemInfo) -> float | None:
    """From when an item's age counts: since it died, was set aside or ended, else since it was enqueued."""
    return info.enqueued_at if info.state is ItemState.SCHEDULED or info.at is None else info.at


def row(info: ItemInfo, now: float) -> dict[str, Any]:
    """An item in a list of them."""
    start = since(info)
    return {
        "id": info.id,
        "state": info.state.value,
        "age": None if start is None else Age(max(0.0, now - start)),
        "deliveries": info.deliveries,
        "failures": info.failures,
        "error": Shown(info.problem or info.error, as_json=False),
        "payload": Shown(info.payload),
    }


def listed(options: Options, info: ItemInfo, now: float) -> dict[str, Any]:
    """An item in a list: what a table has room for, or all that is known."""
    return row(info, now) if options.output == "table" else row(info, now) | details(info)


def details(info: ItemInfo) -> dict[str, Any]:
    """Everything about one item."""
    known = {
        "id": info.id,
        "state": info.state.value,
        "payload": Shown(info.payload, width=0),
        "headers": Shown(dict(info.headers), width=0),
        "enqueued_at": instant(info.enqueued_at),
        "at": instant(info.at),
        "deliveries": info.deliveries,
        "failures": info.failures,
        "expiries": info.expiries,
        "error": Shown(info.error, width=0, as_json=False),
        "group": info.group,
        "batch": info.batch,
        "result": Shown(info.result, width=0) if info.state is ItemState.FINISHED else None,
    }
    if info.progress:
        known |= _progress(info.progress)
    unreadable = {"problem": info.problem, "raw": Shown(info.raw, width=0)} if info.problem else {}
    return known | unreadable


def _progress(progress: Progress) -> dict[str, Any]:
    """A checkpoint, with a bar where its handler said how far it is."""
    return {
        "progress": None if progress.done is None else Bar(progress.done, progress.total),
        "progress_done": progress.done,
        "progress_total": progress.total,
        "progress_note": progress.note or None,
        "progress_at": instant(progress.at),
        "progress_state": Shown(progress.state, width=0),
    }


class Ids:
    """Ids in a temporary file, so that a million of them take no memory."""

    def __init__(self) -> None:
        self.count = 0
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115  see close

    def close(self) -> None:
        """Drops the file."""
        self._file.close()

    def add(self, item_id: str) -> None:
        """Notes an id. It is printable, so that a line holds it."""
        self._file.write(item_id + "\n")
        self.count += 1

    def batches(self) -> Iterator[list[str]]:
        """The ids in their order, a bounded number at a time."""
        self._file.seek(0)
        lines = (line.rstrip("\n") for line in self._file)
        while batch := list(islice(lines, BATCH)):
            yield batch


def act(options: Options, ids: Ids, verb: Callable[[Sequence[str]], Moved], done_word: str) -> None:
    """Acts on ids, says which were skipped and where they are, and ends with 6 where it was only some of them."""
    done, skipped, unknown = [0], 0, 0
    with partly(done, f"items had been {done_word}"):
        for batch in ids.batches():
            moved = verb(batch)
            done[0] += len(moved.ids)
            skipped += len(moved.skipped)
            unknown += sum(state is None for state in moved.skipped.values())
            for item_id, state in moved.skipped.items():
                say(f"skipped {item_id}: {state or 'unknown'}")
    options.out().record({done_word: done[0], "skipped": skipped})
    if skipped:
        raise Stop(Exit.PARTLY_DONE if done[0] else Exit.NOTHING_FOUND if unknown == skipped else Exit.REFUSED)


def preview(options: Options, queue: Queue, infos: Iterable[ItemInfo], what: str) -> None:
    """Shows what would be done."""
    from reliq.cli._queues import server_time

    now = server_time(queue)
    count = options.out().rows(COLUMNS, (listed(options, info, now) for info in infos))
    if not count:
        raise Stop(Exit.NOTHING_FOUND, "no such items")
    options.note(f"would {what} {count} items; nothing was done")


def agree(options: Options, question: str, *, yes: bool) -> None:
    """Asks, or with `--yes` says what is going to be done."""
    if yes:
        options.note(question)
    confirm(f"{question}?", yes=yes)
