"""Calls that were gathered to go together: what fits in one, how one is made of them, and what comes of each. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from reliq import _commands, _ids, _policy
from reliq._commands import Body
from reliq._durability import MEMORY, Durability
from reliq._plans import Plan
from reliq._session import Command
from reliq.errors import DurabilityNotReached, QueueFull, ReliqError, Unavailable
from reliq.item import Item
from reliq.outcomes import Enqueued

V = TypeVar("V")
R = TypeVar("R")
V_contra = TypeVar("V_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

PATIENCE = 0.25  # seconds that callers wait for the call before theirs. One that hangs holds nobody up for longer


class Verb(Protocol[V_contra, R_co]):
    """A verb that many callers can use in one call of a script.

    Attributes:
        once: a call can't have two values with the same key.
    """

    once: bool

    def command(self, values: Sequence[V_contra]) -> Command[Any]:
        """One call for all values."""

    def results(self, values: Sequence[V_contra], reply: Any) -> Sequence[R_co]:
        """What that call brought for each value, in order."""

    def size(self, value: V_contra) -> int:
        """Bytes that a value takes in a call."""

    def key(self, value: V_contra) -> bytes:
        """The id that a value is about, as the server has it."""

    def surely_new(self, value: V_contra) -> bool:
        """Whether a queue that is full refuses it, whatever the queue holds."""


class Enqueues:
    """Single enqueues. Of two with one id in a call the first creates the item."""

    once = False

    def __init__(self, durability: Durability = MEMORY) -> None:
        self.durability = durability

    def command(self, values: Sequence[Body]) -> Command[list[Enqueued]]:
        return _commands.enqueue(values, self.durability)

    def results(self, values: Sequence[Body], reply: list[Enqueued]) -> list[Enqueued]:  # noqa: ARG002  Verb's words
        return reply

    def size(self, value: Body) -> int:
        return len(value.body)

    def key(self, value: Body) -> bytes:
        return value.key

    def surely_new(self, value: Body) -> bool:
        return value.made_up


class Finishes:
    """Finishes of single items. The result is the ids that are not held any more: none, or that of the item.

    The reply says which ids these are, but of two items with one id one may be held and the other one not.
    """

    once = True

    def __init__(self, durability: Durability = MEMORY) -> None:
        self.durability = durability

    def command(self, values: Sequence[Item]) -> Command[list[str]]:
        return _commands.finish(values, self.durability)

    def results(self, values: Sequence[Item], reply: list[str]) -> list[list[str]]:
        lost = set(reply)
        return [[item.id] if item.id in lost else [] for item in values]

    def size(self, value: Item) -> int:
        return len(value.key) + len(value.proof)

    def key(self, value: Item) -> bytes:
        return value.key

    def surely_new(self, value: Item) -> bool:  # noqa: ARG002  Verb's words
        return False


class Entry(Generic[V, R]):
    """One caller's part of a call: what it asks for, and in the end what came of it."""

    result: R
    error: Exception | None = None
    settled = False

    def __init__(self, value: V) -> None:
        self.value = value

    def answer(self) -> R:
        """Returns or raises what came of it."""
        if self.error is not None:
            raise self.error
        return self.result

    def done(self, result: R) -> None:
        self.result = result
        self.settled = True

    def failed(self, error: Exception) -> None:
        self.error = error
        self.settled = True


K = TypeVar("K")
E = TypeVar("E", bound="Entry[Any, Any]")


class Gathering(Generic[E]):
    """Callers that will go together, in the order in which they came: 1,000 items and 4 MiB at most."""

    def __init__(self, verb: Verb[Any, Any]) -> None:
        self.entries: list[E] = []
        self._verb = verb
        self._bytes = 0
        self._keys: set[bytes] = set()

    def add(self, entry: E) -> bool:
        """Takes an entry in, or returns False: it can't go with these. The first one always can."""
        size = self._bytes + self._verb.size(entry.value)
        if self.entries and (len(self.entries) >= _policy.MAX_BATCH or size > _policy.MAX_BATCH_BYTES):
            return False
        if self._verb.once and self._is_second(self._verb.key(entry.value)):
            return False
        self._bytes = size
        self.entries.append(entry)
        return True

    def _is_second(self, key: bytes) -> bool:
        second = key in self._keys
        self._keys.add(key)
        return second

    def remove(self, entry: E) -> None:
        self.entries.remove(entry)
        self._bytes -= self._verb.size(entry.value)
        self._keys.discard(self._verb.key(entry.value))

    def unsettled(self) -> list[E]:
        return [entry for entry in self.entries if not entry.settled]


def settle(verb: Verb[V, R], entries: Sequence[Entry[V, R]]) -> Plan[None]:
    """Sends entries together and notes on each what came of it, an error too. Broken off, it can be begun again.

    A full queue refuses a call as a whole. Then the entries go in parts, in their order, so that each gets what it
    would have got alone.
    """
    parts = deque([entries])
    while parts:
        part = parts.popleft()
        values = [entry.value for entry in part]
        try:
            reply = yield verb.command(values)
        except QueueFull as error:
            parts.extendleft(reversed(_apart(verb, part, error)))
        except Unavailable as error:  # the time of all is up: those after this part are not tried for as long again
            _refuse(verb, chain(part, *parts), error)
            parts.clear()
        except ReliqError as error:
            _refuse(verb, part, error)
        else:
            for entry, result in zip(part, verb.results(values, reply), strict=True):
                entry.done(result)


def _apart(verb: Verb[V, R], part: Sequence[Entry[V, R]], error: QueueFull) -> list[Sequence[Entry[V, R]]]:
    """The parts to try after a refusal, in order. Those that the refusal is true for alone as well have got it."""
    room = error.max_length - error.length
    if len(part) == 1:
        _refuse(verb, part, error)
        return []
    if error.max_length and room <= 0:
        _refuse(verb, [entry for entry in part if verb.surely_new(entry.value)], error)
        return [[entry] for entry in part if not entry.settled]
    split = room if 0 < room < len(part) else len(part) // 2
    return [part[:split], part[split:]]


def _refuse(verb: Verb[V, R], entries: Iterable[Entry[V, R]], error: Exception) -> None:
    for entry in entries:
        entry.failed(own(error, verb.key(entry.value)))


def broken(verb: Verb[V, R], entries: Iterable[Entry[V, R]], error: Exception) -> None:
    """Notes an error that nobody foresaw on those who have no answer yet."""
    _refuse(verb, [entry for entry in entries if not entry.settled], error)


def own(error: Exception, key: bytes) -> Exception:
    """An error as one of its callers gets it: an object of its own, that names the id of that caller only."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    if isinstance(twin, Unavailable | DurabilityNotReached):
        twin.ids = (_ids.unpack(key),)
    twin.__cause__ = error.__cause__
    return twin


class Levels(dict[Durability, K]):
    """What gathers calls, for each level of durability: those of one level are confirmed together."""

    def __init__(self, make: Callable[[Durability], K]) -> None:
        self._make = make

    def __missing__(self, level: Durability) -> K:
        made = self[level] = self._make(level)
        return made
