"""Decisions without I/O: which error means what, how long to wait, what an argument may be."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from reliq._keys import Keys
from reliq._scripts import Script
from reliq.errors import (
    AccessDenied,
    CorruptState,
    InvalidArgument,
    MemoryFull,
    QueueFull,
    QueuePaused,
    Rebuilding,
    ReliqError,
    ScriptFailed,
    ServerTooOld,
    StaleEpoch,
    StateLost,
    UnknownLayout,
    UnsafeServer,
)

MAX_BATCH = 1000  # items in one call of a script; more would hold up everybody else for too long
MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_LEASE = 24 * 3600.0  # seconds; a lost worker's items come back no sooner than their lease ends
MAX_DELAY = 10 * 365 * 86400.0
BLOCK = 4.0  # seconds; what an idle worker waits in one go: a dead link is noticed after this and the socket timeout
MARGIN = 1.0  # seconds beyond the end of a wait on the server after which silence means that the link is gone
MIN_PAUSE, MAX_PAUSE = 0.01, 1.0  # seconds between attempts

Seconds = float | int | dt.timedelta


class Applied(Enum):
    """Whether a request that failed took effect."""

    NO = "no"
    MAYBE = "maybe"


class Retry(Exception):
    """An attempt failed in a way that may pass. Every verb is safe to repeat, so the retry loop repeats it."""

    def __init__(self, reason: str, applied: Applied) -> None:
        super().__init__(reason)
        self.applied = applied


class ScriptMissing(Exception):
    """The server does not have the script (any more)."""


# Words that begin an error reply and mean "not now": nothing was written, another attempt may succeed.
# MISCONF: the disk is full or failing. UNBLOCKED: a wait on a master that was demoted. BUSY: somebody's slow script.
_TRANSIENT = frozenset("READONLY MASTERDOWN LOADING NOREPLICAS MISCONF BUSY UNBLOCKED TRYAGAIN CLUSTERDOWN".split())
_DENIED = frozenset("NOAUTH NOPERM WRONGPASS NO_RIGHT".split())
_DENIED_IN_SCRIPT = ("ACL failure", "The user executing the script can't")  # the second is Redis 7.0's


def verdict(message: str, *, queue: str, script: Script, epoch: bytes, endpoint: str) -> Exception:
    """The exception for an error reply: one of ours, `Retry`, or `ScriptMissing`. Told by its first word.

    Source of the table: what servers and redis-py really send, measured; see docs/explanation/errors.md.
    """
    word, _, rest = message.partition(" ")
    if word == "NOSCRIPT" or "No matching script" in message:
        return ScriptMissing()
    if word in _TRANSIENT:
        return Retry(f"{endpoint}: {message}", Applied.NO)
    if word in _DENIED or any(text in message for text in _DENIED_IN_SCRIPT):
        return AccessDenied(f"{endpoint} refuses {script.name}: {script.locate(message)}")
    if refusal := _refusal(word, rest.split(), queue, epoch):
        return refusal
    if word == "OOM":
        return MemoryFull(f"{endpoint} has no memory left: {script.name} was refused, nothing has changed")
    if word in ("WRONGTYPE", "WRONG_TYPE"):
        key = script.key_at(message) if word == "WRONGTYPE" else None  # our own WRONG_TYPE names it
        where = f" ({Keys(queue)[key].decode()})" if key else ""
        return CorruptState(f"queue {queue!r}{where}: {script.locate(message)}", queue=queue)
    return ScriptFailed(f"{endpoint}: {script.name} failed: {script.locate(message)}")


def _refusal(word: str, rest: list[str], queue: str, epoch: bytes) -> ReliqError | None:
    """The errors that our scripts raise."""
    match word, rest:
        case "STATE_LOST", _:
            return StateLost(queue, epoch=int(epoch))
        case "STALE_EPOCH", [found, *_]:
            return StaleEpoch(queue, known=int(epoch or 0), found=int(found))
        case "QUEUE_FULL", [length, limit, size, max_size, *_]:
            return QueueFull(queue, length=int(length), max_length=int(limit), size=int(size), max_bytes=int(max_size))
        case "PAUSED", _:
            return QueuePaused(f"queue {queue!r} is closed for new items; resume() opens it", queue=queue)
        case "REBUILDING", _:
            return Rebuilding(f"queue {queue!r} is being rebuilt and opens when that is verified", queue=queue)
        case "UNKNOWN_LAYOUT", [layout, *_]:
            return UnknownLayout(queue, layout=layout)
    return None


def pause_before(attempt: int) -> float:
    """Seconds before the attempt with this number (1 is the second try): random up to a bound that doubles to 1 s."""
    bound = min(MAX_PAUSE, MIN_PAUSE * 2.0 ** min(attempt, 10))
    return random.uniform(MIN_PAUSE / 2, bound)


PREFETCH_SECONDS = (
    0.1  # of work that a worker holds beyond what its handlers run: what a slow day makes others wait for
)
MAX_PREFETCH = 600  # items: a third is handled while two thirds are on their way; with 400 a fifth of the speed is lost


def prefetch(concurrency: int, rate: float) -> int:
    """Items to hold beyond those that handlers run: what they get through in a tenth of a second.

    Args:
        concurrency: handlers; the least that is held ahead, so that none waits for a round trip.
        rate: items a second that they have got through lately.
    """
    return max(concurrency, min(MAX_PREFETCH, int(rate * PREFETCH_SECONDS)))


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What INFO says of a server, as far as it matters here."""

    name: str
    version: str
    policy: str
    role: str
    replicas: int = 0


def server_facts(info: str) -> ServerFacts:
    """Reads the reply of INFO. Valkey calls itself Redis 7.2.4 in redis_version, so its own fields come first."""
    found = dict(re.findall(r"^(\w+):(.*?)\r?$", info, re.MULTILINE))
    if version := found.get("valkey_version"):
        name = "Valkey"
    else:
        name, version = "Redis", found.get("redis_version", "")
    replicas = found.get("connected_slaves", "")
    policy, role = found.get("maxmemory_policy", ""), found.get("role", "")
    return ServerFacts(name, version, policy, role, int(replicas) if replicas.isdigit() else 0)


def check_server(facts: ServerFacts) -> None:
    """Refuses a server that is too old or that would delete items. An unknown policy (managed services hide it) passes.

    Raises:
        ServerTooOld, UnsafeServer.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", facts.version)[:2])
    floor = (7, 2) if facts.name == "Valkey" else (7, 0)
    if numbers and numbers < floor:
        raise ServerTooOld(server=facts.name, version=facts.version)
    if facts.policy.startswith("allkeys"):
        raise UnsafeServer(policy=facts.policy)


def seconds(value: object, name: str, *, low: float, high: float) -> float:
    """A duration from a number of seconds or a timedelta.

    Raises:
        InvalidArgument: not a number, or outside of [low, high].
    """
    number = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        raise InvalidArgument(f"{name} is {low:g} to {high:g} seconds, not {value!r}")
    return float(number)


def whole(value: object, name: str, *, low: int, high: int) -> int:
    """A whole number within bounds.

    Raises:
        InvalidArgument: not a whole number, or outside of [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidArgument(f"{name} is a whole number from {low} to {high}, not {value!r}")
    return value


def number(value: object, name: str, *, low: float, high: float) -> float:
    """A number within bounds.

    Raises:
        InvalidArgument: not a number, or outside of [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidArgument(f"{name} is a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def one_of(value: object, name: str, allowed: Iterable[str]) -> str:
    """One of a few words.

    Raises:
        InvalidArgument: another one.
    """
    words = list(allowed)
    if not isinstance(value, str) or value not in words:
        raise InvalidArgument(f"{name} is one of {', '.join(words)}, not {value!r}")
    return value


# Settings of a queue: name, name on the server, kind of value, bounds or words.
_FOREVER = 10 * 365 * 86400.0
SETTINGS: dict[str, tuple[str, str, tuple[float, float] | tuple[str, ...]]] = {
    "max_length": ("max_length", "whole", (0, 2**53)),
    "max_bytes": ("max_bytes", "whole", (0, 2**53)),
    "max_in_progress": ("max_in_progress", "whole", (0, 2**53)),
    "rate": ("rate", "number", (0.0, 1e9)),
    "rate_burst": ("rate_burst", "whole", (0, 1_000_000)),
    "group_limit": ("group_limit", "whole", (1, 1000)),
    "max_attempts": ("max_attempts", "whole", (1, 1_000_000)),
    "max_deliveries": ("max_deliveries", "whole", (1, 1_000_000)),
    "expiry": ("expiry", "word", ("requeue", "hold", "dead")),
    "retry": ("retry", "word", ("later", "tail", "head")),
    "backoff_base": ("backoff_base_ms", "seconds", (0.0, 86400.0)),
    "backoff_cap": ("backoff_cap_ms", "seconds", (0.0, _FOREVER)),
    "finished_age": ("finished_age_ms", "seconds", (0.0, _FOREVER)),
    "finished_count": ("finished_count", "whole", (0, 2**53)),
}


def settings(changes: dict[str, object]) -> dict[str, str]:
    """Settings by their names and values on the server. None means the default.

    Raises:
        InvalidArgument: an unknown name, or a value out of range.
    """
    return {SETTINGS[_known(name)][0]: _setting(name, value) for name, value in changes.items()}


def _known(name: str) -> str:
    return one_of(name, "a setting", SETTINGS)


def _setting(name: str, value: object) -> str:
    _, kind, bounds = SETTINGS[name]
    if value is None:
        return ""
    if kind == "word":
        return one_of(value, name, [str(word) for word in bounds])
    low, high = float(bounds[0]), float(bounds[1])
    if kind == "whole":
        return str(whole(value, name, low=int(low), high=int(high)))
    if kind == "number":
        return f"{number(value, name, low=low, high=high):.6f}"
    return str(round(seconds(value, name, low=low, high=high) * 1000))
