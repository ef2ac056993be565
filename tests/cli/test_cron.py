"""reliq cron: recurring items from the command line."""

from __future__ import annotations

import pytest

import reliq

from .conftest import Call


def names(queue: reliq.Queue) -> list[str]:
    return [entry.name for entry in queue.crons()]


def test_add_shows_what_was_set(run: Call, emails: reliq.Queue) -> None:
    """Everything that was said is kept, and the next tick is shown."""
    ran = run(
        *("-o", "json", "cron", "add", "emails", "report", "30 4 * * 1-5", '{"to": "ann"}'),
        *("--time-zone", "Europe/Berlin", "--header", "by=ops", "--group", "ann", "--missed", "skip"),
    )
    assert ran.code == 0, ran.err
    (kept,) = emails.crons()
    assert (kept.payload, kept.headers, kept.group) == ({"to": "ann"}, {"by": "ops"}, "ann")
    assert (kept.expression, kept.time_zone, kept.missed) == ("30 4 * * 1-5", "Europe/Berlin", "skip")
    assert ran.data["name"] == "report"
    assert ran.data["next"].endswith(":30:00.000Z")


def test_add_changes_what_is_there(run: Call, emails: reliq.Queue) -> None:
    """The same name is the same recurring item; one that is paused stays so, and the message says it."""
    run("cron", "add", "emails", "report", "* * * * *", "1")
    run("cron", "pause", "emails", "report")
    ran = run("cron", "add", "emails", "report", "0 * * * *", "--text", "hello")
    assert (ran.code, "is paused" in ran.err) == (0, True)
    assert [(entry.expression, entry.payload, entry.paused) for entry in emails.crons()] == [
        ("0 * * * *", "hello", True)
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("report", "* * * *", "1"), "cron expression"),
        (("report", "* * * * *", "word"), "not JSON"),
        (("report", "* * * * *", "--time-zone", "Mars/Base"), "time zone"),
        (("x" * 101, "* * * * *"), "100 bytes"),
        (("report", "* * * * *", "--header", "plain"), "NAME=VALUE"),
        (("report",), "EXPRESSION"),
    ],
)
def test_add_refuses(run: Call, emails: reliq.Queue, args: tuple[str, ...], message: str) -> None:
    """What is wrong is a usage error, or a payload that can't be sent, and nothing is kept."""
    ran = run("cron", "add", "emails", *args)
    assert ran.code in (1, 2)
    assert message in ran.err
    assert names(emails) == []


def test_ls(run: Call, emails: reliq.Queue) -> None:
    """Those whose tick comes first ahead; paused ones have none."""
    for name, expression in (("yearly", "0 0 1 1 *"), ("often", "* * * * *"), ("paused", "* * * * *")):
        emails.set_cron(name, expression, {"n": 1})
    emails.pause_cron("paused")
    listed = run("-o", "json", "cron", "ls", "emails").data
    assert [entry["name"] for entry in listed] == ["often", "yearly", "paused"]
    assert [entry["paused"] for entry in listed] == [False, False, True]
    assert (listed[2]["next"], listed[0]["payload"]) == (None, {"n": 1})
    table = run("cron", "ls", "emails").out
    assert table.splitlines()[0].split()[:3] == ["NAME", "EXPRESSION", "TIME_ZONE"]


def test_ls_of_nothing(run: Call, emails: reliq.Queue) -> None:
    """A queue without recurring items, and one that does not exist, are nothing found."""
    assert run("cron", "ls", "emails").code == 3
    assert run("cron", "ls", "emials").code == 3


def test_pause_and_resume(run: Call, emails: reliq.Queue) -> None:
    """Several at once."""
    for name in ("one", "two", "three"):
        emails.set_cron(name, "* * * * *", None)
    assert run("-o", "json", "cron", "pause", "emails", "one", "two").data == {"paused": 2}
    assert {entry.name for entry in emails.crons() if entry.paused} == {"one", "two"}
    assert run("-o", "json", "cron", "resume", "emails", "one").data == {"resumed": 1}
    assert {entry.name for entry in emails.crons() if entry.paused} == {"two"}


def test_rm_asks(run: Call, emails: reliq.Queue) -> None:
    """No answer is no; --yes is the answer in scripts."""
    emails.set_cron("report", "* * * * *", None)
    assert run("cron", "rm", "emails", "report").code == 5
    assert names(emails) == ["report"]
    assert run("cron", "rm", "emails", "report", stdin="y\n").code == 0
    assert names(emails) == []


@pytest.mark.parametrize("verb", [("pause",), ("resume",), ("rm", "--yes")])
def test_those_that_do_not_exist(run: Call, emails: reliq.Queue, verb: tuple[str, ...]) -> None:
    """Some of them is partly done, none of them nothing found; each is named."""
    emails.set_cron("there", "* * * * *", None)
    ran = run("cron", *verb, "emails", "nobody")
    assert ran.code == 3
    assert "'nobody'" in ran.err
    assert run("cron", *verb, "emails", "there", "nobody").code == 6
