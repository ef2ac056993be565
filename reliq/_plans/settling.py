"""Settling items, those too whose claim a failover lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from reliq import _commands
from reliq._commands import Body
from reliq._durability import MEMORY, Durability
from reliq._plans.effects import Plan
from reliq._plans.repeating import in_batches
from reliq.item import Claimed, Item
from reliq.outcomes import Failed

Ending = tuple[Item, bytes]  # an item and its result, b"" for none


def finish(items: Sequence[Item], durability: Durability = MEMORY) -> Plan[list[str]]:
    """Finishes items, in batches. Returns the ids that are lost."""
    lost = yield from in_batches(partial(_commands.finish, durability=durability), items)
    return (yield from finish_unseen(items, lost, durability)) if lost else lost


def finish_unseen(items: Sequence[Item], lost: Sequence[str], durability: Durability = MEMORY) -> Plan[list[str]]:
    """Of items that are not held any more, ends those whose claim a failover lost. Returns the ids of the others."""
    return (yield from _unseen([(item, b"") for item in items], lost, (), durability))


def finish_with(
    endings: Sequence[Ending], following: Sequence[Body] = (), durability: Durability = MEMORY
) -> Plan[list[str]]:
    """Finishes items, each with a result, in batches; or one, with what comes next. Returns the ids that are lost."""
    make = partial(_commands.finish_with, following=following, durability=durability)
    lost = yield from in_batches(make, endings)
    return (yield from _unseen(endings, lost, following, durability)) if lost else lost


def _unseen(
    endings: Sequence[Ending], lost: Sequence[str], following: Sequence[Body], durability: Durability
) -> Plan[list[str]]:
    gone = set(lost)
    unseen = [ending for ending in endings if ending[0].id in gone]
    make = partial(_commands.finish_unseen, following=following, durability=durability)
    return (yield from in_batches(make, unseen))


def finish_lost(items: Sequence[Item], claimed: Claimed) -> Plan[int]:
    """Of what `claimed.lost` names, ends those whose claim a failover lost: where they are queued, or in `claimed`.

    In there is what this very call has just taken again. Nobody had it in between where it is the same item still and
    this is no further delivery. Takes what it has ended out of both; returns how many of the items claimed that were.
    """
    if not claimed.lost:
        return 0
    lost, before = set(claimed.lost), {item.key: (item.stamp, item.delivery) for item in items}
    again = [item for item in claimed if item.id in lost and before.get(item.key) == (item.stamp, item.delivery)]
    refused = set((yield from in_batches(_commands.finish, again))) if again else set()
    ended = {item.id for item in again} - refused
    claimed[:] = [item for item in claimed if item.id not in ended]
    rest = [item_id for item_id in claimed.lost if item_id not in ended]
    claimed.lost = tuple((yield from finish_unseen(items, rest))) if rest else ()
    return len(ended)


def fail(failures: Sequence[_commands.Failure]) -> Plan[list[tuple[Item, Failed | None]]]:
    """Fails items, in batches."""
    return (yield from in_batches(_commands.fail, failures))
