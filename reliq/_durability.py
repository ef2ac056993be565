"""How safe an acknowledged write is: what may be asked for, how the server is asked to confirm it, what it confirmed.

A confirmation is a command of its own, sent behind the write on the same connection, in the same round trip: WAIT for
replicas, WAITAOF for the disk. It says what was reached, and never takes the write back. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reliq.errors import InvalidArgument

Words = tuple[str | int, ...]
WORDS = "memory, replicated:<1 to 100>, replicated:all, fsynced, checkpointed"
_FORM = re.compile(r"memory|fsynced|checkpointed|replicated:(all|[1-9]\d?|100)")


@dataclass(frozen=True, slots=True)
class Durability:
    """A level. `replicas`: how many have to have the write; None for all of them, where the level is `replicated`.

    memory: the master has it. replicated: so many replicas have it in memory, too. fsynced: it is on the master's disk.
    checkpointed: Postgres has it, and had it before Redis.
    """

    text: str
    level: str
    replicas: int | None = None

    @property
    def confirms(self) -> bool:
        """Whether the server is asked for a confirmation behind the write."""
        return self.level in ("replicated", "fsynced")


MEMORY = Durability("memory", "memory")


def parse(value: object) -> Durability:
    """A level from its text.

    Raises:
        InvalidArgument: there is no such level.
    """
    if isinstance(value, Durability):
        return value
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    if not match or not isinstance(value, str):
        raise InvalidArgument(f"durability is one of {WORDS}, not {value!r}")
    count = match[1]
    return Durability(value, value.partition(":")[0], int(count) if count and count != "all" else None)


def question(wanted: Durability, known_replicas: int, timeout: float) -> Words:
    """The command that asks for a confirmation, for `timeout` seconds at most.

    Args:
        wanted: a level that is confirmed.
        known_replicas: replicas that the master is known to have, those that are away included.
        timeout: seconds.
    """
    milliseconds = max(1, round(timeout * 1000))
    if wanted.level == "fsynced":
        return ("WAITAOF", 1, 0, milliseconds)
    return ("WAIT", _needed(wanted, known_replicas), milliseconds)


def _needed(wanted: Durability, known_replicas: int) -> int:
    """Of `all`, one at least: a master without replicas has nobody who could have it, and must not say that all do."""
    return wanted.replicas if wanted.replicas is not None else max(1, known_replicas)


def judge(wanted: Durability, reply: object, known_replicas: int) -> tuple[str, bool]:
    """What a confirmation reached, in words, and whether that is what was wanted.

    Args:
        wanted: the level that was asked for.
        known_replicas: as for `question`.
        reply: of WAIT, the number of replicas; of WAITAOF, the number of masters and of replicas that have synced.
    """
    if wanted.level == "fsynced":
        synced = isinstance(reply, list) and bool(reply) and int(reply[0]) >= 1
        return ("fsynced" if synced else "memory"), synced
    count = reply if isinstance(reply, int) else 0
    reached = count >= _needed(wanted, known_replicas)
    if reached:
        return wanted.text, True
    return (f"replicated:{count}" if count else "memory"), False
