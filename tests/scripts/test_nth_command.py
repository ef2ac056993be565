"""Every script is broken off at every command that it may call: by a key of a wrong type, and by a right that is gone.

A script never rolls back. So each checks before it writes, and where it can't, it writes the destination before it
removes the source: after any failure every item has one place, every counter counts right, and the same call works.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis
from scripts.prepared import ACTIONS, NAME, Prepared, prepare

from reliq import AccessDenied, CorruptState, Queue, ReliqError, _scripts
from reliq._keys import Keys
from reliq.embedded import Server

SEVERAL_STEPS = ("claim", "recover", "beat")  # each step is refused whole, those before it count
USER, PASSWORD = "limited", "throwaway"
READS = set("HGET HMGET HLEN LRANGE LINDEX LLEN ZRANGE ZCARD ZCOUNT ZSCORE ZMSCORE ZRANK EXISTS TYPE TIME".split())


@pytest.fixture(scope="module")
def prepared(server: Server) -> Iterator[Prepared]:
    with redis.Redis.from_url(server.socket_url) as admin:
        admin.flushall()
        made = prepare(admin, server.socket_url)
        yield made
        made.queue.close()


@pytest.fixture
def limited(server: Server, prepared: Prepared) -> Iterator[Queue]:
    """A client of the prepared queue whose user's rights the test takes away."""
    prepared.admin.acl_setuser(
        USER, enabled=True, reset=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], commands=["+@all"]
    )
    client = redis.Redis(unix_socket_path=str(server.socket), username=USER, password=PASSWORD)
    with Queue(NAME, client=client, timeout=2) as queue:
        prepared.clock.follow(queue)
        yield queue
    prepared.admin.acl_deluser(USER)
    client.close()


def commands_of(script: str) -> list[str]:
    return sorted(set(re.findall(r"\bcall\('(\w+)'", _scripts.load(script).source)))


def attempt(action: str, queue: Queue, prepared: Prepared) -> ReliqError | None:
    """The error of ours that a call raised; any other exception is a failure of the test."""
    try:
        ACTIONS[action][1](queue, prepared)
    except ReliqError as error:
        return error
    return None


def works_afterwards(action: str, queue: Queue, prepared: Prepared) -> None:
    """The same call succeeds, and then everything that is left is delivered, each item once."""
    prepared.check()
    assert attempt(action, queue, prepared) is None
    prepared.check()
    now = prepared.clock.now
    delivered = prepared.drain()
    prepared.clock.advance(now - prepared.clock.now)
    assert not [i for i, times in Counter(delivered).items() if times > 1]
    prepared.check()
    counts = prepared.queue.counts()
    assert counts.enqueued == counts.finished + counts.removed, counts


def break_off(
    action: str,
    prepared: Prepared,
    queue: Queue,
    spoil: Callable[[], None],
    mend: Callable[[], None],
    kind: type[ReliqError],
) -> bool:
    """One call under a fault. Returns whether it met the fault."""
    prepared.restore(queue)
    spoil()
    before = prepared.contents()
    error = attempt(action, queue, prepared)
    after = prepared.contents()
    mend()
    if error is not None:
        assert isinstance(error, kind), repr(error)
        if not any(verb in action for verb in SEVERAL_STEPS):
            assert after == before  # one step: refused whole
        works_afterwards(action, queue, prepared)
    return error is not None


@pytest.mark.parametrize("action", ACTIONS)
def test_wrong_type_in_each_key(action: str, prepared: Prepared, limited: Queue) -> None:
    """Whichever key holds something else, the call says so, loses nothing, and works when the key is right again."""
    script = _scripts.load(ACTIONS[action][0])
    met = []
    for name in script.keys:
        key, saved = Keys(NAME)[name], b"saved"

        def spoil(key: bytes = key, saved: bytes = saved) -> None:
            if prepared.admin.exists(key):
                prepared.admin.rename(key, saved)
            prepared.admin.set(key, "something else")

        def mend(key: bytes = key, saved: bytes = saved) -> None:
            prepared.admin.delete(key)
            if prepared.admin.exists(saved):
                prepared.admin.rename(saved, key)

        if break_off(action, prepared, limited, spoil, mend, CorruptState):
            met.append(name)
    assert "meta" in met


@pytest.mark.parametrize("action", ACTIONS)
def test_right_to_each_command_revoked(action: str, prepared: Prepared, limited: Queue) -> None:
    """Whichever command the user may not call, the call says so, loses nothing, and works when the right is back."""
    met = []
    for command in commands_of(ACTIONS[action][0]):

        def spoil(command: str = command) -> None:
            prepared.admin.acl_setuser(USER, enabled=True, commands=["+@all", f"-{command}"])

        def mend() -> None:
            prepared.admin.acl_setuser(USER, enabled=True, commands=["+@all"])

        if break_off(action, prepared, limited, spoil, mend, AccessDenied):
            met.append(command)
    assert "HMGET" in met
    assert set(met) - READS, "no write was ever refused: the fault is not met"
