"""What a plan can ask of its driver besides a call."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from reliq._session import Command

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Block:
    """Wait until somebody pushes a token to the wake-up key, this many seconds at most.

    Its result is the key that had a token, None where none had. With `then`, it is the result of that command.

    Attributes:
        keys: wake-up keys to wait on, where they are not the one of this session's queue: the first that has a token.
        breakable: is called with a function that breaks the wait off from another thread. (A task is cancelled.)
        exact: end on time: the server's own clock for this has steps of 0.1 s. Costs a connection where it ends so.
        then: a command that is sent along with the wait. The server runs it when the wait is over, either way: whoever
            is woken has its answer at once, and need not ask. Tried once, as the wait is: errors are thrown in.
    """

    seconds: float
    keys: tuple[bytes, ...] = ()
    breakable: Callable[[Callable[[], object]], object] | None = None
    exact: bool = False
    then: Command[Any] | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen on a channel, ask, and ask again at each message and every few seconds, until there is an answer.

    Attributes:
        ask: makes the command from the seconds until it is sent again; an answer is what is not None.
        seconds: how long. Its result is the answer, or None when the time is up.
    """

    channel: bytes
    ask: Callable[[float], Command[Any]]
    seconds: float


Effect = Command[Any] | Sleep | Block | Listen
Plan = Generator[Effect, Any, T]
Clock = Callable[[], float]
