"""Rights for Redis users, one role each, worked out from what the scripts call.

A user may call exactly the scripts of its roles, addressed by their content, on the keys of the queues that it is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reliq import _scripts
from reliq._keys import REGISTRY, Keys, check_name
from reliq._policy import one_of

_CALLED = re.compile(r"\b(?:call|permitted|redis\.acl_check_cmd)\('([A-Z]+)'")
_ANY_QUEUE = "*"
_READING = ("batch_progress", "crons", "get", "inspect", "oldest", "scan", "workers")


@dataclass(frozen=True, slots=True)
class Role:
    """What somebody does with a queue.

    Attributes:
        verbs: scripts that it calls.
        blocks_on: lists that it waits on for a token.
        listens: whether it waits for the end of items.
        registers: whether it adds the queue to the listing of queues; `lists`: whether it reads that.
        direct: further commands that it sends for keys of the queue.
    """

    verbs: tuple[str, ...]
    blocks_on: tuple[str, ...] = ()
    listens: bool = False
    registers: bool = False
    lists: bool = False
    direct: tuple[str, ...] = field(default=())


ROLES: dict[str, Role] = {
    "producer": Role(("enqueue", "batch", "batch_progress", "await_room"), blocks_on=("room",), registers=True),
    "waiter": Role(("get", "watch"), listens=True),
    "worker": Role(
        (
            *("beat", "checkpoint", "claim", "cron_tick", "crons", "fail", "finish", "finish_and_claim"),
            *("finish_unseen", "finish_with", "recover", "release", "renew"),
        ),
        blocks_on=("wake", "alarm"),
        registers=True,
    ),
    "operator": Role(
        (
            *_READING,
            *("cancel", "configure", "cron_set", "discard", "pause", "purge", "recover", "redrive", "requeue"),
            *("resolve", "resume"),
        ),
        registers=True,
        lists=True,
    ),
    "monitor": Role(_READING, lists=True),
    "mirror": Role(
        (
            *(*_READING, "await_room", "batch", "end_again", "enqueue", "mirror", "put_back", "put_back_batch"),
            *("rebuild", "restore", "restore_batch"),
        ),
        blocks_on=("room",),
        registers=True,
        lists=True,
        direct=("HSCAN", "XRANGE", "XREAD", "XTRIM"),
    ),
}


def commands(verbs: Iterable[str]) -> list[str]:
    """The commands that scripts call, or ask the right for, sorted. A user that calls a script needs all of them."""
    return sorted({name for verb in verbs for name in _CALLED.findall(_scripts.load(verb).source)})


def verbs_of(roles: Iterable[str]) -> list[str]:
    """The scripts of some roles, sorted.

    Raises:
        InvalidArgument: there is no such role.
    """
    return sorted({verb for role in roles for verb in ROLES[one_of(role, "a role", ROLES)].verbs})


def rules(
    roles: Sequence[str],
    *,
    queue: str | None = None,
    pinned: bool = True,
    load: bool = True,
    info: bool = True,
    waitaof: bool = False,
) -> tuple[str, ...]:
    """The rules of ACL SETUSER for a user with these roles. They begin with taking away what it had.

    Args:
        roles: of `ROLES`, one or more.
        queue: name of the queue; None: all queues.
        pinned: only the scripts of these roles, by their digests; they change with reliq's version. False: any script
            that an administrator has loaded, as far as the commands in it are allowed.
        load: may load scripts, which a server forgets when it restarts or becomes the master. Only with `pinned`: else
            whoever may load a script may run any.
        info: may read the server's settings and figures; without it clients can't see that a server would lose items.
        waitaof: may wait for the disk (`durability="fsynced"`); Redis 7.0 has no such command, and refuses the rule.

    Returns:
        Words of ACL SETUSER, one rule each, without a password.

    Raises:
        InvalidArgument: there is no such role, or no such queue name.
    """
    verbs = verbs_of(roles)
    chosen = [ROLES[role] for role in roles]
    keys = Keys(_pattern(queue))
    allowed = ["on", "resetkeys", "resetchannels", "clearselectors", "-@all", f"~{keys[''].decode()}*"]
    allowed += _scripts_allowed(verbs, pinned=pinned, load=load)
    direct = {name for role in chosen for name in role.direct}
    allowed += [f"+{name.lower()}" for name in sorted({*commands(verbs), *direct})]
    allowed += ["+ping", "+wait", "+select", "+client|setname"]
    allowed += ["+info"] * info + ["+waitaof"] * waitaof
    return (*allowed, *_channels(verbs, chosen, keys), *_selectors(chosen, keys))


def line(user: str, roles: Sequence[str], **options: object) -> str:
    """A line for an ACL file, or for `user` in a server's configuration; arguments as for `rules`.

    The user has no password yet, so that nobody can log in as it.

    Raises:
        InvalidArgument: as `rules`.
    """
    return " ".join(("user", check_name(user), "reset", *rules(roles, **options)))  # type: ignore[arg-type]


def _pattern(queue: str | None) -> str:
    """The part of a key pattern that stands for a queue's name. What means something in a pattern is escaped."""
    return _ANY_QUEUE if queue is None else re.sub(r"([*?\[\]\\^])", r"\\\1", check_name(queue))


def _scripts_allowed(verbs: Sequence[str], *, pinned: bool, load: bool) -> list[str]:
    if not pinned:
        return ["+evalsha"]
    return [f"+evalsha|{_scripts.load(verb).sha}" for verb in verbs] + ["+script|load"] * load


def _channels(verbs: Sequence[str], roles: Sequence[Role], keys: Keys) -> list[str]:
    """Where ends of items are told. Whoever may publish there may wake a listener, which then asks."""
    listens = any(role.listens for role in roles)
    if not listens and "PUBLISH" not in commands(verbs):
        return []
    return [f"&{keys['ended'].decode()}"] + ["+subscribe"] * listens


def _selectors(roles: Sequence[Role], keys: Keys) -> list[str]:
    """Commands that are not for all keys: taking a token, and the listing of queues."""
    lists = sorted({name for role in roles for name in role.blocks_on})
    found = [f"(+blpop {' '.join(f'~{keys[name].decode()}' for name in lists)})"] * bool(lists)
    registry = REGISTRY.decode()
    found += [f"(+sadd ~{registry})"] * any(role.registers for role in roles)
    return found + [f"(+smembers %R~{registry})"] * any(role.lists for role in roles)
