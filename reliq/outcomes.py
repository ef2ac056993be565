"""What became of items: values that calls return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reliq.states import ItemState


class Enqueued(NamedTuple):
    """What became of an enqueue.

    Attributes:
        created: False where the queue knew the id already and left it as it was.
        durability: what is confirmed of it: `memory`, `replicated:2`, `replicated:all`, `fsynced` or `checkpointed`.
    """

    id: str
    created: bool
    durability: str = "memory"


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that belong together, and the one that follows when they are through.

    Attributes:
        id: pass it to `queue.batch` again to go on with a batch whose making was broken off, and to `batch_progress`.
        then_id: the item that follows.
        members: what became of the enqueue of each member, in order.
    """

    id: str
    then_id: str
    members: tuple[Enqueued, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """What became of an item whose attempt failed. `due_at` is in Unix seconds, for scheduled ones."""

    id: str
    state: ItemState
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """What a verb did that goes by ids. True where it did what was asked for all of them.

    Attributes:
        ids: those that are now as asked, also where an earlier call did it.
        skipped: the others, with the state they are in (None: the queue knows no such id).
    """

    ids: tuple[str, ...]
    skipped: Mapping[str, ItemState | None]

    def __bool__(self) -> bool:
        return not self.skipped


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many items a recovery took back, by where they went. `unreadable` ones are among the dead as well."""

    requeued: int = 0
    orphaned: int = 0
    dead: int = 0
    unreadable: int = 0
    due: int = 0

    def __add__(self, other: Recovered) -> Recovered:
        return Recovered(
            self.requeued + other.requeued,
            self.orphaned + other.orphaned,
            self.dead + other.dead,
            self.unreadable + other.unreadable,
            self.due + other.due,
        )
