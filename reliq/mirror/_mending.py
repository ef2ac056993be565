"""What else a repair of a live queue has to know: which end is of which item, and which batches lack something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from reliq._codec import STAMP
from reliq.mirror._filling import PAGE, Filling
from reliq.mirror._plan import LIVE, Entry
from reliq.mirror._recoveries import Recoveries


def ended_since(entry: Entry, marker: bytes | None) -> bool:
    """Whether an end is that of this item, and not of an earlier one with its id: the ends of that come before it."""
    return marker is not None and marker[1 : 1 + STAMP] > entry.record[:STAMP]


class MirroredBatch(NamedTuple):
    """A batch as Postgres has it."""

    id: bytes
    when: str
    sealed: bool
    total: int
    following: bytes

    @property
    def then(self) -> bytes:
        """The id of the item that follows."""
        return self.following[1 : 1 + self.following[0]]


class Batches:
    """The batches of a queue on both sides."""

    def __init__(self, recoveries: Recoveries, filling: Filling) -> None:
        self._recoveries, self._filling = recoveries, filling

    def open_for(self, rows: Sequence[Entry]) -> None:
        """Puts the batches of these items there, where they are lost as well: before the items, which count in them."""
        names = [name for name in Counter(row.batch for row in rows) if name]
        counted = self._recoveries.members_of(names) if names else {}
        for batch in self._known(names):
            self._put(batch, "open", max(0, batch.total - counted.get(batch.id, 0)))

    def different(self) -> Iterator[tuple[MirroredBatch, str]]:
        """Batches of which Redis knows less than Postgres, and what that is. Some may just have gone on meanwhile."""
        after = b""
        while page := self._recoveries.page_of_batches(after, PAGE):
            yield from self.still_different([name for name, *_ in page])
            after = page[-1][0]

    def still_different(self, names: Sequence[bytes]) -> Iterator[tuple[MirroredBatch, str]]:
        """Those of the batches that differ now."""
        batches = self._known(names)
        for batch, state in zip(batches, self._filling.batches([b.id for b in batches]), strict=True):
            if state is None:
                yield batch, "the mirror has the batch, Redis does not know it"
            elif batch.sealed and state.split(b" ")[1] == b"0":
                yield batch, "the mirror has the batch sealed, Redis open"

    def put_right(self, batch: MirroredBatch) -> bool:
        """Seals a batch whose members are all there, and puts a lost one there; or forgets it, where it is through.

        False: members of it are missing still, so that it would be followed too early.
        """
        if self._is_through(batch):
            return self._recoveries.forget_batch(batch.id, lambda: self._filling.batches([batch.id]) == [None])
        if not self._is_complete(batch):
            return False
        if batch.sealed:
            self._put(batch, "seal", 0)
        return True

    def _is_through(self, batch: MirroredBatch) -> bool:
        if self._filling.batches([batch.id]) != [None]:
            return False
        if self._recoveries.ended_among([batch.then]) or self._recoveries.by_id([batch.then]):
            return True
        return self._put(batch, "open", batch.total) == "through"

    def _is_complete(self, batch: MirroredBatch) -> bool:
        """Whether every member that Postgres awaits is awaited in Redis, or has ended there."""
        after = b""
        while ids := self._recoveries.members(batch.id, after, PAGE):
            for entry in self._filling.get(ids):
                if not entry.state or (entry.state.decode() in LIVE and entry.batch != batch.id):
                    return False
            after = ids[-1]
        return True

    def _known(self, names: Sequence[bytes]) -> list[MirroredBatch]:
        return [MirroredBatch(*row) for row in self._recoveries.batches_by_id(names)] if names else []

    def _put(self, batch: MirroredBatch, phase: str, total: int) -> str:
        return self._filling.put_back_batch(batch.id, phase, batch.when, total, batch.following)
