from __future__ import annotations

import datetime as dt

import pytest

from reliq import _policy, _scripts, errors
from reliq._policy import Applied, Retry, ScriptMissing, check_server, server_facts, verdict

LOAD = _scripts.load("claim")


def judged(message: str) -> Exception:
    return verdict(message, queue="emails", script=LOAD, epoch=b"7", endpoint="host:6379")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("NOSCRIPT No matching script. Please use EVAL.", ScriptMissing),
        ("NOAUTH Authentication required.", errors.AccessDenied),
        ("NOPERM this user has no permissions to run the 'evalsha' command", errors.AccessDenied),
        ("WRONGPASS invalid username-password pair or user is disabled.", errors.AccessDenied),
        ("NO_RIGHT HSET on reliq:{emails}:meta", errors.AccessDenied),
        ("ERR ACL failure in script: User can't access a key", errors.AccessDenied),
        ("OOM command not allowed when used memory > 'maxmemory'.", errors.MemoryFull),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", errors.CorruptState),
        ("WRONG_TYPE reliq:{emails}:queued holds a hash where reliq keeps a list", errors.CorruptState),
        ("STATE_LOST 7", errors.StateLost),
        ("STALE_EPOCH 9", errors.StaleEpoch),
        ("QUEUE_FULL 10 10 5000 0", errors.QueueFull),
        ("PAUSED enqueue", errors.QueuePaused),
        ("REBUILDING 7", errors.Rebuilding),
        ("UNKNOWN_LAYOUT 2", errors.UnknownLayout),
        ("ERR user_script:5: attempt to index a nil value", errors.ScriptFailed),
        ("ERR unknown command", errors.ScriptFailed),
        ("", errors.ScriptFailed),
    ],
)
def test_what_an_error_reply_means(message: str, kind: type[Exception]) -> None:
    """Each first word of an error reply has one exception."""
    assert type(judged(message)) is kind


@pytest.mark.parametrize(
    "message",
    [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "LOADING Redis is loading the dataset in memory",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "BUSY Redis is busy running a script.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
    ],
)
def test_what_may_pass_is_tried_again(message: str) -> None:
    """These mean 'not now': nothing was written, and another attempt may succeed."""
    found = judged(message)
    assert isinstance(found, Retry)
    assert found.applied is Applied.NO
    assert "host:6379" in str(found)


def test_what_the_refusals_say() -> None:
    """Refusals carry what the server said in numbers."""
    stale, full, lost = judged("STALE_EPOCH 9"), judged("QUEUE_FULL 10 12 900 1000"), judged("STATE_LOST 7")
    assert isinstance(stale, errors.StaleEpoch)
    assert isinstance(full, errors.QueueFull)
    assert isinstance(lost, errors.StateLost)
    assert (stale.known, stale.found) == (7, 9)
    assert (full.length, full.max_length) == (10, 12)
    assert (lost.queue, lost.epoch) == ("emails", 7)


def test_a_line_of_a_script_is_named_by_its_file() -> None:
    """A script that broke off says in which file and line."""
    assert "lua/claim.lua:1" in str(judged("ERR user_script:1: oops script: abc, on @user_script:1."))


def test_pauses_between_attempts() -> None:
    """Each pause is random, grows with the attempts, and is at most a second."""
    for attempt in (1, 2, 5, 20, 10**6):
        pauses = [_policy.pause_before(attempt) for _ in range(200)]
        bound = min(_policy.MAX_PAUSE, _policy.MIN_PAUSE * 2 ** min(attempt, 10))
        assert all(_policy.MIN_PAUSE / 2 <= pause <= bound for pause in pauses)
        assert len(set(pauses)) > 100


REDIS = "# Server\r\nredis_version:{0}\r\nrole:master\r\nmaxmemory_policy:{1}\r\n"
VALKEY = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{0}\r\nmaxmemory_policy:{1}\r\nrole:slave\r\n"


def test_a_server_by_its_own_name() -> None:
    """Valkey says that it is Redis 7.2.4; its own fields count."""
    facts = server_facts(VALKEY.format("9.1.0", "noeviction"))
    assert (facts.name, facts.version, facts.policy, facts.role) == ("Valkey", "9.1.0", "noeviction", "slave")
    facts = server_facts(REDIS.format("7.0.15", "volatile-lru"))
    assert (facts.name, facts.version, facts.policy, facts.role) == ("Redis", "7.0.15", "volatile-lru", "master")


@pytest.mark.parametrize("info", [REDIS.format("7.0.0", "noeviction"), VALKEY.format("7.2.0", "volatile-ttl"), ""])
def test_servers_that_will_do(info: str) -> None:
    """Redis from 7.0, Valkey from 7.2, and one that does not tell."""
    check_server(server_facts(info))


@pytest.mark.parametrize("info", [REDIS.format("6.2.14", ""), REDIS.format("5.0", ""), VALKEY.format("7.1.9", "")])
def test_servers_that_are_too_old(info: str) -> None:
    """Older ones are refused by name and version."""
    with pytest.raises(errors.ServerTooOld):
        check_server(server_facts(info))


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "allkeys-lrm"])
def test_servers_that_delete_items(policy: str) -> None:
    """A policy that may evict any key is refused."""
    with pytest.raises(errors.UnsafeServer, match=policy):
        check_server(server_facts(REDIS.format("8.2.0", policy)))


def test_durations() -> None:
    """Numbers and timedeltas within bounds."""
    assert _policy.seconds(1, "x", low=0, high=2) == 1.0
    assert _policy.seconds(dt.timedelta(milliseconds=1500), "x", low=0, high=2) == 1.5
    for wrong in (-1, 2.1, float("nan"), float("-inf"), True, "1", None, dt.timedelta(seconds=3)):
        with pytest.raises(errors.InvalidArgument, match="x is 0 to 2 seconds"):
            _policy.seconds(wrong, "x", low=0, high=2)


def test_whole_numbers() -> None:
    """No bools, no floats, within bounds."""
    assert _policy.whole(5, "x", low=5, high=5) == 5
    for wrong in (4, 6, 5.0, True, "5", None):
        with pytest.raises(errors.InvalidArgument, match="x is a whole number"):
            _policy.whole(wrong, "x", low=5, high=5)


def test_settings_by_their_names_on_the_server() -> None:
    """Durations become milliseconds, None the default, and an unknown name is refused with the known ones."""
    assert _policy.settings({"backoff_base": 1.5, "retry": "tail", "max_attempts": 3, "finished_age": None}) == {
        "backoff_base_ms": "1500",
        "retry": "tail",
        "max_attempts": "3",
        "finished_age_ms": "",
    }
    with pytest.raises(errors.InvalidArgument, match="max_attempts"):
        _policy.settings({"retries": 3})
