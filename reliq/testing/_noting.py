"""What the commands of a worker settle and bring, for histories: a worker sends them past the methods of its queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from reliq._commands import ClaimReply
from reliq._plans import Block, Effect, Plan
from reliq._session import Command
from reliq.item import Item
from reliq.outcomes import Failed
from reliq.testing.history import History, dead_of

T = TypeVar("T")
Pair = tuple[bytes, bytes]  # receipt and id

REMEMBERED = 10_000  # settled items that a process knows, to note what it tries with their receipts after that

# Of each script that settles: the verb that it is on record as, and how many arguments an item has in a run.
_RUNS = {"finish": ("finish", 1), "finish_and_claim": ("finish", 1), "release": ("release", 1), "fail": ("fail", 4)}
_FLAT = {"finish_with": ("finish", 1, 3), "finish_unseen": ("finish", 1, 5)}  # verb, where the items begin, arguments


class Noting:
    """Knows the items that a process has claimed, by receipt and id, and notes what becomes of them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._items: dict[Pair, Item] = {}
        self._settled: deque[Pair] = deque()

    def seen(self, plan: Plan[T]) -> Plan[T]:
        """The same plan, with each command noted when it is yielded and when its answer comes back."""
        try:
            effect = next(plan)
            while True:
                try:
                    result = yield from self._effect(effect)
                except Exception as error:  # noqa: BLE001  whatever it is, what becomes of it is for the plan to say
                    effect = plan.throw(error)
                else:
                    effect = plan.send(result)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
        finally:
            plan.close()

    def _effect(self, effect: Effect) -> Plan[Any]:
        command = effect.then if isinstance(effect, Block) else effect
        if not isinstance(command, Command):
            return (yield effect)
        with self.noted(command) as outcome:
            outcome.append((yield effect))
        return outcome[0]

    @contextmanager
    def noted(self, command: Command[Any]) -> Iterator[list[Any]]:
        """Around one attempt at a command; its result is put into the list that this gives."""
        verb, held = self._settled_by(command)
        outcome: list[Any] = []
        if verb is None or not held:
            yield outcome
        else:
            with self._history.settling(verb, held) as answer:
                yield outcome
                answer.update(_answer(command, outcome[0]))
            self._settle(held)
        if outcome and isinstance(outcome[0], ClaimReply):
            self._claimed(outcome[0])

    def _settled_by(self, command: Command[Any]) -> tuple[str | None, list[Item]]:
        name = command.script.name
        if name in _RUNS:
            verb, width = _RUNS[name]
            pairs = _runs(list(command.args), len(command.script.args) - 2, width)
        elif name in _FLAT:
            verb, start, step = _FLAT[name]
            end = start + int(command.args[0]) * step if start else len(command.args)
            pairs = [(command.args[i], command.args[i + 1]) for i in range(start, end, step)]
        else:
            return None, []
        return verb, [self._items[pair] for pair in pairs if pair in self._items]

    def _settle(self, items: list[Item]) -> None:
        self._settled.extend((item.proof, item.key) for item in items)
        while len(self._settled) > REMEMBERED:
            self._items.pop(self._settled.popleft(), None)

    def _claimed(self, reply: ClaimReply) -> None:
        items = [*reply.items, *(item for item, _ in reply.broken)]
        for item in items:
            self._items[item.proof, item.key] = item
        self._history.claimed(items)


def _runs(args: list[Any], start: int, width: int) -> list[tuple[Any, Any]]:
    """Receipt and id of each item: runs of receipt, number of items, items."""
    pairs = []
    while start < len(args):
        receipt, size = args[start], int(args[start + 1])
        pairs += [(receipt, args[start + 2 + k * width]) for k in range(size)]
        start += 2 + size * width
    return pairs


def _answer(command: Command[Any], result: Any) -> dict[str, Any]:
    if isinstance(result, ClaimReply):
        return {"lost": list(result.items.lost)}
    if command.script.name != "fail":
        return {"lost": list(result)}
    outcomes: list[tuple[Item, Failed | None]] = result
    lost = [item.id for item, failed in outcomes if failed is None]
    return {"lost": lost, "dead": dead_of(failed for _, failed in outcomes if failed is not None)}
