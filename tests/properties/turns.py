"""Groups and batches as the model has them: who has the turn, who waits for it, and what follows whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Turns:
    """Groups: `limit` items of each at a time, and those that wait for their turn."""

    limit: int
    group: dict[str, str] = field(default_factory=dict)  # by id
    holders: dict[str, list[str]] = field(default_factory=dict)  # by group
    parked: dict[str, int] = field(default_factory=dict)  # when it was enqueued, by number, by id

    def may_go(self, item_id: str) -> bool:
        """Whether an item has the turn; takes it where it is free."""
        if item_id not in self.group:
            return True
        holders = self.holders.setdefault(self.group[item_id], [])
        if item_id not in holders and len(holders) < self.limit:
            holders.append(item_id)
        return item_id in holders

    def pass_on(self, ids: Iterable[str], *, gone: bool) -> list[str]:
        """Takes ids off the holders. Returns those that have the turn now; `gone` ones are of no group any more."""
        freed: list[str] = []
        ended = [item_id for item_id in ids if item_id in self.group]
        for item_id in ended if gone else ():
            self.parked.pop(item_id, None)
        for item_id in ended:
            group = self.group[item_id]
            if item_id in self.holders.get(group, []):
                self.holders[group].remove(item_id)
                freed += self._next(group)
            if gone:
                del self.group[item_id]
        return freed

    def _next(self, group: str) -> list[str]:
        waiting = [item_id for item_id in self.in_order() if self.group[item_id] == group]
        freed = waiting[: max(0, self.limit - len(self.holders[group]))]
        for item_id in freed:
            del self.parked[item_id]
        self.holders[group] += freed
        return freed

    def in_order(self) -> list[str]:
        """Those that wait, as the server sorts them: by the length of the group's name, the name, and when."""
        return sorted(self.parked, key=lambda i: (len(self.group[i]), self.group[i], self.parked[i]))


@dataclass
class Batch:
    """Members that are awaited, and the item that follows them."""

    when: str
    then: str
    awaited: set[str]

    def settle(self, ids: Iterable[str], *, died: bool) -> bool:
        """Counts members off. True where the item follows by it."""
        mine = self.awaited & set(ids)
        if not mine or (died and self.when == "finished"):
            return False
        self.awaited -= mine
        return not self.awaited
