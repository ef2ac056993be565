"""What the holder of an item does with it, by its receipt."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reliq import _scripts
from reliq._commands.arguments import in_runs, ms
from reliq._commands.enqueuing import Body
from reliq._durability import MEMORY, Durability
from reliq._session import Command, Reply
from reliq.item import Item
from reliq.outcomes import Failed
from reliq.states import ItemState

MAX_ERROR = 4096  # bytes of an error's text that are kept


def finish(items: Iterable[Item], durability: Durability = MEMORY) -> Command[list[str]]:
    """Ends items for good. Returns the ids that are not held any more."""
    return replace(_by_receipt("finish", (), items), durability=durability)


def finish_with(
    endings: Sequence[tuple[Item, bytes]], following: Sequence[Body] = (), durability: Durability = MEMORY
) -> Command[list[str]]:
    """Ends items, each with a result (b"" for none), and enqueues what comes next. Returns the ids that are lost."""
    args: list[bytes | str | int] = [len(endings)]
    for item, result in endings:
        args += (item.proof, item.key, result)
    for body in following:
        args += body[:4]
    return _ending("finish_with", args, endings, durability)


def finish_unseen(
    endings: Sequence[tuple[Item, bytes]], following: Sequence[Body] = (), durability: Durability = MEMORY
) -> Command[list[str]]:
    """As `finish_with`, for items whose claim the server never saw. Ends them only where nobody else had them."""
    args: list[bytes | str | int] = [len(endings)]
    for item, result in endings:
        args += (item.proof, item.key, item.stamp, item.delivery - 1, result)
    for body in following:
        args += body[:4]
    return _ending("finish_unseen", args, endings, durability)


def _ending(
    verb: str, args: Sequence[bytes | str | int], endings: Sequence[tuple[Item, bytes]], durability: Durability
) -> Command[list[str]]:
    def decode(reply: Reply) -> list[str]:
        return [endings[int(i)][0].id for i in reply[2]]

    return Command(_scripts.load(verb), args, decode, [item.key for item, _ in endings], durability)


def checkpoint(item: Item, progress: bytes, lease: float) -> Command[bool]:
    """Stores how far an item has come, and renews its lease. False where the lease was lost."""
    args = (item.proof, item.key, ms(lease), progress)
    return Command(_scripts.load("checkpoint"), args, lambda reply: bool(reply[2]), (item.key,))


def release(items: Iterable[Item]) -> Command[list[str]]:
    """Gives items back unstarted. Returns the ids that are not held any more."""
    return _by_receipt("release", (), items)


def renew(items: Iterable[Item], lease: float) -> Command[list[str]]:
    """Extends leases. Returns the ids that are not held any more."""
    return _by_receipt("renew", (ms(lease),), items)


def _by_receipt(verb: str, first: tuple[int, ...], items: Iterable[Item]) -> Command[list[str]]:
    flat, runs = in_runs(items)

    def decode(reply: Reply) -> list[str]:
        return [flat[i].id for i in reply[2]]

    return Command(_scripts.load(verb), (*first, *runs), decode, [item.key for item in flat])


@dataclass(frozen=True, slots=True)
class Failure:
    """How one item failed. `after`: None as the queue's settings say, else seconds until the next attempt.

    `dead`: no further attempt. `discard`: nor is it kept.
    """

    item: Item
    error: str
    after: float | None = None
    dead: bool = False
    discard: bool = False

    @property
    def word(self) -> str | int:
        """Where to, as lua/fail.lua has it."""
        if self.discard:
            return "discard"
        return "dead" if self.dead else "" if self.after is None else ms(self.after)


def fail(failures: Sequence[Failure]) -> Command[list[tuple[Item, Failed | None]]]:
    """Counts a failed attempt on items. Returns what became of each, None where the lease was lost.

    The jitter of the backoff is drawn here, because a script's random numbers are the same every time.
    """
    runs: dict[bytes, dict[bytes, Failure]] = {}
    for failure in failures:
        runs.setdefault(failure.item.proof, {}).setdefault(failure.item.key, failure)
    args: list[bytes | str | int] = []
    flat: list[Item] = []
    for proof, run in runs.items():
        args += (proof, len(run))
        for failure in run.values():
            flat.append(failure.item)
            args += (failure.item.key, failure.word, f"{random.random():.6f}", cut(failure.error))

    def decode(reply: Reply) -> list[tuple[Item, Failed | None]]:
        outcomes = {(item.proof, item.key): outcome for item, outcome in zip(flat, reply[2], strict=True)}
        items = [failure.item for failure in failures]
        return [(item, _failed(item.id, outcomes[item.proof, item.key])) for item in items]

    return Command(_scripts.load("fail"), args, decode, [item.key for item in flat])


def _failed(item_id: str, outcome: bytes) -> Failed | None:
    match outcome:
        case b"lost":
            return None
        case b"dead" | b"queued" | b"removed":
            return Failed(item_id, ItemState(outcome.decode()))
        case _:
            return Failed(item_id, ItemState.SCHEDULED, float(outcome) / 1000)


def cut(text: str) -> bytes:
    """An error's text as it is stored: at most 4 KiB."""
    return text.encode("utf-8", "backslashreplace")[:MAX_ERROR]
