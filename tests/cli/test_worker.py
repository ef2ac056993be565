"""reliq worker: its options, who works, and whether one is well."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from servers import wait_until

import reliq
from reliq import _codec, _commands

from .conftest import Call
from .test_programs import started

HANDLERS = """
import asyncio, os, time
from pathlib import Path

def where(item):
    return os.getpid()

async def later(item):
    await asyncio.sleep(0.01)
    return item.payload * 2

class Later:
    async def __call__(self, item):
        return item.payload * 2

instance = Later()

def slow(item):
    Path(item.payload + ".started").touch()
    while not Path(item.payload).exists():
        time.sleep(0.01)

def which(item):
    with Path("order").open("a") as file:
        print(item.queue, file=file)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


RUN = ("-o", "json", "worker", "run")


@pytest.mark.parametrize("handler", ["later", "instance"])
@pytest.mark.parametrize("options", [(), ("--async",), ("--processes", "2")])
def test_coroutine_functions(
    program: Call, emails: reliq.Queue, folder: Path, handler: str, options: tuple[str, ...]
) -> None:
    """They run as tasks without being asked for, and in processes each with an event loop."""
    added = emails.enqueue_many([1, 2, 3])
    args = ("--queue", "emails", "--concurrency", "2", "--results", "--return-when-empty")
    ran = program(*RUN, f"handlers:{handler}", *args, *options, cwd=folder)
    assert (ran.code, ran.data["finished"]) == (0, 3), ran.err
    assert [emails.get(entry.id).result for entry in added] == [2, 4, 6]


def test_a_plain_function_among_tasks(program: Call, emails: reliq.Queue, folder: Path) -> None:
    """With --async it is called in threads of one event loop."""
    emails.enqueue(1)
    ran = program(*RUN, "handlers:where", "--async", "--queue", "emails", "--return-when-empty", cwd=folder)
    assert (ran.code, ran.data["finished"]) == (0, 1), ran.err


def test_several_processes(program: Call, emails: reliq.Queue, folder: Path) -> None:
    """Handlers run in processes that are not the one that was started."""
    added = emails.enqueue_many(range(20))
    ran = program(
        *(*RUN, "handlers:where", "--queue", "emails", "--processes", "2", "--results", "--max-items", "20"), cwd=folder
    )
    assert (ran.code, ran.data["finished"]) == (0, 20), ran.err
    assert len({emails.get(entry.id).result for entry in added}) == 2


def test_several_queues_in_order(program: Call, emails: reliq.Queue, url: str, folder: Path) -> None:
    """Without weights items of an earlier queue come first."""
    emails.enqueue_many([1, 2])
    with reliq.Queue("urgent", url) as urgent:
        urgent.enqueue_many([1, 2])
        args = ("--queue", "urgent", "--queue", "emails", "--prefetch", "0", "--return-when-empty")
        ran = program(*RUN, "handlers:which", *args, cwd=folder)
    assert (ran.code, ran.data["finished"]) == (0, 4), ran.err
    assert (folder / "order").read_text().split() == ["urgent", "urgent", "emails", "emails"]


def test_several_queues_with_weights(program: Call, emails: reliq.Queue, url: str, folder: Path) -> None:
    """Each is taken from as often as it was said."""
    with reliq.Queue("urgent", url) as urgent:
        urgent.enqueue_many(range(40))
        emails.enqueue_many(range(40))
        args = ("--queue", "urgent", "--queue", "emails", "--weight", "urgent=3", "--weight", "emails=1")
        ran = program(*RUN, "handlers:which", *args, "--prefetch", "0", "--max-items", "40", cwd=folder)
    assert ran.code == 0, ran.err
    taken = (folder / "order").read_text().split()
    assert 25 <= taken.count("urgent") <= 35, taken


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--queue", "a", "--queue", "a"), "another one"),
        (("--queue", "a", "--weight", "b=1"), "--weight"),
        (("--queue", "a", "--weight", "a"), "--weight"),
        (("--queue", "a", "--weight", "a=0"), "--weight"),
        (("--queue", "a", "--queue", "b", "--weight", "a=1"), "'b' has none"),
        (("--queue", "a", "--async", "--processes", "2"), "--async"),
        ((), "--queue"),
    ],
)
def test_usage_errors(program: Call, folder: Path, args: tuple[str, ...], message: str) -> None:
    """What can't be is refused before anything is claimed."""
    ran = program("worker", "run", "handlers:where", *args, cwd=folder)
    assert ran.code == 2
    assert message in ran.err


def test_a_time_limit(program: Call, emails: reliq.Queue, folder: Path) -> None:
    """An attempt that takes longer has failed."""
    emails.enqueue(str(folder / "never"), id="a")
    args = ("--queue", "emails", "--time-limit", "200ms", "--max-items", "1")
    ran = program(*RUN, "handlers:slow", *args, cwd=folder)
    assert (ran.code, ran.data["failed"]) == (0, 1), ran.err
    assert "TimeLimit" in (emails.get("a").error or "")


def test_a_stop_that_does_not_wait_for_ever(url: str, emails: reliq.Queue, folder: Path) -> None:
    """What runs beyond --shutdown-timeout is left to its lease, and named in the report."""
    emails.enqueue(str(folder / "never"), id="a")
    args = ("handlers:slow", "--queue", "emails", "--shutdown-timeout", "100ms")
    with started(url, *RUN, *args, cwd=folder) as process:
        wait_until((folder / "never.started").exists, "it has begun")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert json.loads(out)["abandoned"] == ["a"]


@pytest.mark.parametrize("kind", [(), ("--async",), ("--processes", "2")])
def test_heartbeat_file_and_probes(
    url: str, emails: reliq.Queue, program: Call, folder: Path, kind: tuple[str, ...]
) -> None:
    """While it runs the file says that it is well, and /readyz too; when it has stopped the file is gone."""
    beat = folder / "beat"
    args = ("handlers:where", "--queue", "emails", "--heartbeat-file", str(beat), "--health-port", "0", *kind)
    with started(url, *RUN, *args, cwd=folder) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rpartition("port ")[2])
        wait_until(lambda: program("worker", "check", str(beat)).code == 0, "it is well", timeout=20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            assert json.load(answer)["ready"] is True
        process.terminate()
        assert process.wait(timeout=20) == 0
    ran = program("worker", "check", str(beat), RELIQ_URL="")
    assert ran.code == 1
    assert "no health file" in ran.err


def test_check_of_a_file_that_is_too_old(run: Call, tmp_path: Path) -> None:
    """A worker that was killed leaves a file behind."""
    beat = tmp_path / "beat"
    beat.write_text(json.dumps({"alive": True, "ready": True}))
    assert run("worker", "check", str(beat)).code == 0
    long_ago = time.time() - 60
    os.utime(beat, (long_ago, long_ago))
    ran = run("worker", "check", str(beat))
    assert (ran.code, "60 s ago" in ran.err) == (1, True)
    assert run("worker", "check", str(beat), "--max-age", "2m").code == 0


def test_ls(run: Call, emails: reliq.Queue) -> None:
    """Who was seen, those seen last first, with what they said of themselves; one of them sweeps."""
    facts = {"host": "mail1", "pid": 7, "since": time.time() - 90, "kind": "threads", "concurrency": 4}
    for name, more in (("first", {"finished": 12}), ("second", {"holding": 3, "busy": 2})):
        emails._driver.call(_commands.beat(name, _codec.pack_payload({**facts, **more}), 10.0))
    emails._driver.call(_commands.beat("second", _codec.pack_payload({**facts, "holding": 3, "busy": 2}), 10.0))
    listed = run("-o", "json", "worker", "ls", "emails").data
    assert {entry["host"] for entry in listed} == {"mail1"}
    assert sorted((entry["finished"], entry["holding"], entry["sweeps"]) for entry in listed) == [
        (0, 3, False),
        (12, 0, True),
    ]
    assert 89 < listed[0]["since"] < 120
    table = run("worker", "ls", "emails").out
    assert table.splitlines()[0].split()[:4] == ["HOST", "PID", "KIND", "SINCE"]
    assert "1m 3" in table


@pytest.mark.parametrize("kind", [(), ("--async",), ("--processes", "2")])
def test_ls_of_one_that_runs(run: Call, url: str, emails: reliq.Queue, folder: Path, kind: tuple[str, ...]) -> None:
    """While it runs it is on the list, one of its processes sweeps; when it has stopped it is gone."""

    def listed() -> list[dict[str, object]]:
        ran = run("-o", "json", "worker", "ls", "emails")
        return ran.data if ran.code == 0 else []

    args = ("handlers:where", "--queue", "emails", "--concurrency", "3", *kind)
    with started(url, *RUN, *args, cwd=folder) as process:
        wait_until(lambda: len(listed()) == (2 if "--processes" in kind else 1), "it is there", timeout=20)
        assert {entry["handlers"] for entry in listed()} == {3}
        assert [entry["sweeps"] for entry in listed()].count(True) == 1
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert listed() == []


def test_recurring_items_are_handled(url: str, emails: reliq.Queue, folder: Path) -> None:
    """Nothing but a worker is needed: it enqueues them and handles them."""
    emails.set_cron("often", "* * * * * *", "x")
    args = ("handlers:where", "--queue", "emails", "--max-items", "2")
    with started(url, *RUN, *args, cwd=folder) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["finished"]) == (0, 2), err


def test_ls_of_nobody(run: Call, emails: reliq.Queue) -> None:
    """A queue that nobody works on, and one that does not exist, are nothing found."""
    assert run("worker", "ls", "emails").code == 3
    assert run("worker", "ls", "emials").code == 3
