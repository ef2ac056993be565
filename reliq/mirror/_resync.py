"""Full resynchronisation of a queue that goes on meanwhile: all items are looked at, then rows that were not met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reliq.errors import MirrorConflict
from reliq.mirror._copying import Copied, Copier, Target, copy_batches, copy_settings
from reliq.mirror._journal import Facts, Journal
from reliq.mirror._rows import MISSING, has_ended
from reliq.mirror.store import query

PAGE = 500  # rows that are looked at at once


class Resync:
    """One pass over a queue.

    The journal's last entry is noted first, so that whatever moves while the pass goes on is looked at again. The
    generation of rows that are met is the new one. A row that is not met is never deleted for that: Redis is asked
    about each such item by its id.

    Args:
        target: with the generation of this pass.
        checked: asks for the facts, refuses those of another server or epoch, and notes them.
        figures: lag and journal as they are to be written.
        stopping: whether to break off; the pass is then begun again some day.
    """

    def __init__(
        self,
        journal: Journal,
        copier: Copier,
        target: Target,
        checked: Callable[[], Facts],
        figures: Callable[[], dict[str, Any]],
        stopping: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._copier = copier
        self._target = target
        self._checked = checked
        self._figures = figures
        self._stopping = stopping
        self._copied = Copied()

    def run(self) -> Copied | None:
        """Returns what was found, None where it was broken off."""
        if not (self._meet_all() and self._look_for_unmet() and self._meet_batches()):
            return None
        with self._target.connection.transaction():
            self._go_on()
            copy_settings(self._target, self._journal)
            self._checked()
        return self._copied

    def _meet_all(self) -> bool:
        """Goes through the hash that has every item. Its own cursor misses nothing that is there all the time."""
        cursor = b""
        while cursor != b"0":
            cursor, found = self._journal.scan_items(cursor or b"0", self._copier.part)
            self._copier.learn([value for _, value in found])
            self._copy([key for key, value in found if not has_ended(value)], self._target)
            if self._stopping():
                return False
        return True

    def _look_for_unmet(self) -> bool:
        """Rows that an earlier pass found missing stay in any case: it was another server that knew of them."""
        kept = replace(self._target, keep_unknown=True)
        known_here = self._look_for(self._target, lowest=MISSING + 1, below=self._target.generation)
        return known_here and (self._target.keep_unknown or self._look_for(kept, lowest=MISSING, below=MISSING + 1))

    def _look_for(self, target: Target, *, lowest: int, below: int) -> bool:
        after = b""
        values = {"queue": target.queue, "lowest": lowest, "below": below, "limit": PAGE}
        while page := self._keys("page_of_unmet", {**values, "after": after}):
            self._copied.unknown += self._copy(page, target).unknown
            after = page[-1]
            if self._stopping():
                return False
        return True

    def _meet_batches(self) -> bool:
        for names in self._journal.scan_batches():
            self._copy_batches(names)
        after = b""
        while page := self._keys("page_of_batches", {"queue": self._target.queue, "after": after, "limit": PAGE}):
            self._copy_batches(page)
            after = page[-1]
        return not self._stopping()

    def _copy(self, ids: list[bytes], target: Target) -> Copied:
        """A part in a transaction of its own, which counts only where this is still our pass over this server."""
        with target.connection.transaction():
            self._go_on()
            copied = self._copier.copy(target, ids)
            self._checked()
        self._copied.live += copied.live
        self._copied.ended += copied.ended
        return copied

    def _copy_batches(self, names: list[bytes]) -> None:
        with self._target.connection.transaction():
            self._go_on()
            copy_batches(self._target, self._journal, names)
            self._checked()

    def _keys(self, name: str, values: dict[str, Any]) -> list[bytes]:
        return [key for (key,) in query(self._target.connection, name, values)]

    def _go_on(self) -> None:
        values = {"queue": self._target.queue, "generation": self._target.generation, "epoch": self._journal.epoch}
        if not query(self._target.connection, "go_on_resyncing", {**values, **self._figures()}):
            raise MirrorConflict(f"queue {self._target.queue!r}: somebody else follows it, or it is being rebuilt")
