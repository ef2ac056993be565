"""What people and sweepers do with a queue and its items, by their ids or their state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reliq import _ids, _reading, _scripts
from reliq._session import Command, Reply
from reliq.info import Settings
from reliq.outcomes import Moved, Recovered
from reliq.states import ItemState, sources


def recover(limit: int) -> Command[tuple[Recovered, int]]:
    """Takes back items whose lease ended. Returns how many, and how many ended leases are left."""

    def decode(reply: Reply) -> tuple[Recovered, int]:
        return Recovered(*reply[2:7]), reply[7]

    return Command(_scripts.load("recover"), (limit,), decode)


def requeue(ids: Sequence[str]) -> Command[Moved]:
    """Scheduled, orphaned and dead items to the tail of the queue."""
    return _by_id("requeue", (), ids, done={ItemState.QUEUED})


def resolve(ids: Sequence[str], decision: str) -> Command[Moved]:
    """Orphaned and dead items to finished, queued or dead."""
    done = {"finish": ItemState.FINISHED, "requeue": ItemState.QUEUED, "dead": ItemState.DEAD}[decision]
    return _by_id("resolve", (decision,), ids, done={done})


def cancel(ids: Sequence[str]) -> Command[Moved]:
    """Removes queued and scheduled items."""
    return _by_id("cancel", (), ids, done={ItemState.REMOVED})


def discard(ids: Sequence[str]) -> Command[Moved]:
    """Removes orphaned and dead items."""
    return _by_id("discard", (), ids, done={ItemState.REMOVED})


def _by_id(verb: str, first: tuple[str, ...], ids: Sequence[str], done: set[ItemState]) -> Command[Moved]:
    """A verb that goes by ids. The script tells the states before; an item that was there already is done as well."""
    unique = list(dict.fromkeys(_ids.check(item_id) for item_id in ids))
    keys = [_ids.pack(item_id) for item_id in unique]
    good = sources(verb) | done

    def decode(reply: Reply) -> Moved:
        states = {i: ItemState(s.decode()) if s else None for i, s in zip(unique, reply[2], strict=True)}
        skipped = {i: state for i, state in states.items() if state not in good}
        return Moved(tuple(i for i in unique if i not in skipped), skipped)

    return Command(_scripts.load(verb), (*first, *keys), decode, keys)


def redrive(limit: int, token: bytes) -> Command[int]:
    """Moves the items that died first back to the queue. The token makes a repeat harmless."""
    return Command(_scripts.load("redrive"), (token, limit), lambda reply: int(reply[2]))


def purge(state: ItemState, limit: int) -> Command[tuple[int, bool]]:
    """Removes items of one state. Returns how many, and whether there may be more."""
    return Command(_scripts.load("purge"), (state.value, limit), lambda reply: (reply[2], bool(reply[3])))


def configure(settings: Mapping[str, str]) -> Command[Settings]:
    """Changes settings, by their names on the server."""
    args = [part for pair in settings.items() for part in pair]
    return Command(_scripts.load("configure"), args, lambda reply: _reading.settings_of(reply[2]))


def pause(*, claim: bool, enqueue: bool) -> Command[None]:
    """Closes the queue."""
    return Command(_scripts.load("pause"), (int(claim), int(enqueue)), lambda _: None)


def resume() -> Command[None]:
    """Opens the queue."""
    return Command(_scripts.load("resume"), (), lambda _: None)
