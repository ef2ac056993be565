"""`reliq check`."""

from __future__ import annotations

import re

import pytest
import redis

import reliq
from reliq.cli.check import Metric
from reliq.embedded import Server

from .conftest import Call, kill

PERFDATA = re.compile(r"(\w+)=([\d.]+|U)(s|%|);([\d.]*);([\d.]*);0(;100)?")


def perfdata(out: str) -> dict[str, tuple[str, str, str]]:
    """Value, warning and critical threshold by name; fails where the line is not what monitors read."""
    assert out.count("\n") == 1
    text, _, data = out.strip().partition(" | ")
    assert text
    found = [PERFDATA.fullmatch(part) for part in data.split(" ")]
    assert all(found), data
    return {match[1]: (match[2], match[4], match[5]) for match in found if match}


def test_a_healthy_queue_is_ok(run: Call, emails: reliq.Queue) -> None:
    """One line, with performance data for every metric, and 0."""
    emails.enqueue_many([1, 2])
    ran = run("check", "emails", "--warn-length", "10", "--crit-length", "20")
    assert ran.code == 0
    assert ran.out.startswith("RELIQ OK - emails: length 2,")
    data = perfdata(ran.out)
    assert list(data) == ["length", "age", "dead", "orphaned", "memory"]
    assert data["length"] == ("2", "10", "20")


@pytest.mark.parametrize(
    ("limits", "code", "word"),
    [
        (["--warn-length", "2"], 0, "OK"),
        (["--warn-length", "1"], 1, "WARNING"),
        (["--warn-length", "1", "--crit-length", "1"], 2, "CRITICAL"),
        (["--warn-length", "1", "--crit-dead", "0"], 2, "CRITICAL"),
        (["--warn-age", "0", "--crit-age", "1h"], 1, "WARNING"),
        (["--crit-age", "1h", "--crit-dead", "1", "--warn-orphaned", "0"], 0, "OK"),
    ],
)
def test_thresholds_alarm_above(run: Call, emails: reliq.Queue, limits: list[str], code: int, word: str) -> None:
    """A value above its threshold alarms, and the worst of all metrics counts."""
    kill(emails, 1)
    emails.enqueue_many([2, 3])
    while not emails.oldest_age():
        pass
    ran = run("check", "emails", *limits)
    assert ran.code == code
    assert ran.out.startswith(f"RELIQ {word} - ")


def test_large_numbers_have_no_exponent() -> None:
    """A backlog of millions is a number that monitors read."""
    assert Metric("length", 12_345_678, 10_000_000, None).perfdata() == "length=12345678;10000000;;0"
    assert Metric("age", 0.0004, 90, 600.5).perfdata() == "age=0s;90;600.5;0"


def test_memory_without_a_maximum_is_not_full(run: Call, emails: reliq.Queue) -> None:
    """A server without maxmemory is 0 % full, and says so."""
    ran = run("check", "emails", "--crit-memory", "80")
    assert ran.code == 0
    assert "no maxmemory" in ran.out
    assert perfdata(ran.out)["memory"] == ("0", "", "80")


def test_memory_in_percent_of_the_maximum(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """The share of maxmemory that is used alarms like the others."""
    used = redis_client.info("memory")["used_memory"]
    redis_client.config_set("maxmemory", used * 2)
    try:
        ran = run("check", "emails", "--warn-memory", "30", "--crit-memory", "90")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert ran.code == 1
    assert 40 < float(perfdata(ran.out)["memory"][0]) < 75


def test_without_the_right_to_info(run: Call, url: str, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """Memory is unknown: no matter without a threshold, a reason for 3 with one."""
    redis_client.acl_setuser("monitor", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-info"])
    try:
        allowed = url.replace("unix://", "unix://monitor:pw@")
        ran = run("check", "emails", "-u", allowed)
        assert (ran.code, perfdata(ran.out)["memory"][0]) == (0, "U")
        ran = run("check", "emails", "-u", allowed, "--crit-memory", "90")
        assert ran.code == 3
        assert ran.out.startswith("RELIQ UNKNOWN - ")
    finally:
        redis_client.acl_deluser("monitor")


def test_a_paused_queue_says_so(run: Call, emails: reliq.Queue) -> None:
    """Whoever is alarmed sees that somebody paused it."""
    emails.pause()
    assert "no claims" in run("check", "emails").out


def test_a_queue_that_does_not_exist_is_unknown(run: Call) -> None:
    """A mistyped name must not be OK for years."""
    ran = run("check", "emials")
    assert ran.code == 3
    assert ran.out.startswith("RELIQ UNKNOWN - emials: ")


def test_an_unreachable_server_is_unknown(program: Call, fresh_server: Server) -> None:
    """It gives up in time for its monitor, with one line on stdout and 3."""
    fresh_server.kill()
    ran = program("--timeout", "0.3s", "check", "emails", RELIQ_URL=fresh_server.url)
    assert ran.code == 3
    assert ran.out.startswith("RELIQ UNKNOWN - emails: ")
    assert ran.out.count("\n") == 1


@pytest.mark.parametrize("args", [("--crit-age", "soon"), ("--crit-length", "many"), ("--colour", "red")])
def test_usage_errors_are_unknown(run: Call, emails: reliq.Queue, args: tuple[str, ...]) -> None:
    """2 would be critical to a monitor."""
    assert run("check", "emails", *args).code == 3


def test_no_server_given_is_unknown(program: Call) -> None:
    """So is a missing URL."""
    ran = program("check", "emails", RELIQ_URL="")
    assert ran.code == 3
    assert "--url" in ran.out
