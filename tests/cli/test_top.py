"""reliq top: what is seen of queues, on a screen and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from servers import wait_until

import reliq
from reliq.embedded import Server

from .conftest import Call, environment, kill, orphan

ONCE = ("-o", "json", "top", "--once", "--interval", "100ms")


def test_one_frame_in_a_pipe(run: Call, emails: reliq.Queue) -> None:
    """Items by state, the age of the next one, groups that wait, and the queues in their order."""
    kill(emails, 1)
    orphan(emails, 2)
    emails.enqueue_many([reliq.New(n, group="g") for n in range(3)])
    emails.claim(3)
    emails.enqueue(4)
    emails.enqueue(5, delay=60)
    (row,) = run(*ONCE).data
    found = {name: row[name] for name in ("queue", "queued", "scheduled", "in_progress", "orphaned", "dead", "blocked")}
    assert found == {
        "queue": "emails",
        "queued": 3,
        "scheduled": 1,
        "in_progress": 1,
        "orphaned": 1,
        "dead": 1,
        "blocked": 2,
    }
    assert 0 <= row["oldest"] < 10
    assert (row["in/s"], row["out/s"], row["notes"]) == (0.0, 0.0, None)


def test_items_a_second(run: Call, emails: reliq.Queue) -> None:
    """What comes and goes between the two looks, by the counters."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            emails.enqueue_many(range(10))
            emails.finish(emails.claim(5))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        (row,) = run("-o", "json", "top", "emails", "--once", "--interval", "300ms").data
    finally:
        stop.set()
        thread.join()
    assert row["in/s"] > row["out/s"] > 0
    assert row["in/s"] == pytest.approx(2 * row["out/s"], rel=0.3)


@pytest.mark.parametrize(
    ("limit", "note"),
    [
        ({"max_length": 2}, "max_length reached"),
        ({"max_bytes": 10}, "max_bytes reached"),
        ({"max_in_progress": 1}, "max_in_progress reached"),
        ({"max_length": 9, "max_in_progress": 9, "max_bytes": 1000}, None),
    ],
)
def test_limits_that_are_reached(run: Call, emails: reliq.Queue, limit: dict[str, int], note: str | None) -> None:
    """The notes name what holds something up; stats says it too."""
    emails.enqueue_many([1, 2, 3])
    emails.claim(1)
    emails.configure(**limit)
    (row,) = run(*ONCE).data
    assert row["notes"] == note
    reached = run("-o", "json", "queue", "stats", "emails").data["limits_reached"]
    assert reached == (None if note is None else note.split()[0])


def test_notes(run: Call, url: str, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """A closed queue, one that does not exist, and a damaged one say so, and hide no other."""
    emails.pause(claim=True)
    with reliq.Queue("broken", url) as broken:
        broken.enqueue(1)
    redis_client.hset("reliq:{broken}:meta", "layout", "9")
    rows = run("-o", "json", "top", "emails", "nothing", "broken", "--once", "--interval", "100ms").data
    assert rows[0]["notes"] == "no claims"
    assert "no such queue" in rows[1]["notes"]
    assert "layout" in rows[2]["notes"]


def test_an_empty_server(run: Call) -> None:
    """Nothing to show is nothing found."""
    assert run(*ONCE).code == 3


def test_a_table(run: Call, emails: reliq.Queue) -> None:
    """Without -o it is a table."""
    out = run("top", "--once", "--interval", "100ms").out
    assert out.splitlines()[0].split()[:3] == ["QUEUE", "QUEUED", "SCHEDULED"]
    assert out.splitlines()[1].split()[0] == "emails"


def test_an_interval_out_of_range(run: Call, emails: reliq.Queue) -> None:
    """A screen that is drawn all the time is refused."""
    assert run("top", "--once", "--interval", "1ms").code == 2


def test_an_unreachable_server(program: Call, fresh_server: Server) -> None:
    """It ends with 4, as every command."""
    fresh_server.kill()
    assert program("--timeout", "0.2s", "top", "--once", RELIQ_URL=fresh_server.url).code == 4


class Live:
    """`reliq top` on a terminal of its own."""

    def __init__(self, url: str, *args: str) -> None:
        self.master, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 80))
        command = [sys.executable, "-m", "reliq", "--timeout", "0.3s", "top", *args]
        env = environment(RELIQ_URL=url, TERM="xterm-256color", COLUMNS="80", LINES="24")
        self.before = termios.tcgetattr(terminal)
        self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env)
        self.terminal = terminal
        self.text = ""

    def shows(self, pattern: str) -> bool:
        """Whether what was drawn has this anywhere."""
        while select.select([self.master], [], [], 0.01)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")
        return re.search(pattern, self.text) is not None

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        """Reads on until it has ended: a terminal that nobody reads holds its writers up."""
        wait_until(lambda: self.shows("^never$") or self.process.poll() is not None, "it has ended")
        return self.process.wait()


@pytest.fixture
def live(url: str) -> Iterator[Callable[..., Live]]:
    shown: list[Live] = []

    def start(*args: str, at: str = url) -> Live:
        shown.append(Live(at, *args))
        return shown[-1]

    yield start
    for one in shown:
        one.process.kill()
        one.process.wait()
        os.close(one.terminal)
        os.close(one.master)


def test_the_screen_follows_the_queue_until_q(live: Callable[..., Live], emails: reliq.Queue) -> None:
    """What is enqueued appears in the next frame; q ends it at once, and the terminal is as it was."""
    screen = live("--interval", "200ms")
    wait_until(lambda: screen.shows(r"emails\s+0 "), "it shows the queue")
    emails.enqueue_many(range(123))
    wait_until(lambda: screen.shows(r"emails\s+123 "), "it shows the items")
    screen.press(b"x")
    screen.press(b"q")
    assert screen.end() == 0
    assert "\x1b[?1049l" in screen.text  # back from the other screen
    assert termios.tcgetattr(screen.terminal) == screen.before


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "ctrl-d"])
def test_other_ways_to_end_it(live: Callable[..., Live], emails: reliq.Queue, how: str) -> None:
    """All of them leave the terminal as it was."""
    screen = live("--interval", "1h")
    wait_until(lambda: screen.shows("emails"), "it shows the queue")
    if how == "ctrl-d":
        screen.press(b"\x04")
    else:
        screen.process.send_signal(getattr(signal, how))
    assert screen.end() == 0
    assert termios.tcgetattr(screen.terminal) == screen.before


def test_a_server_that_goes_away_and_comes_back(
    live: Callable[..., Live], fresh_server: Server, tmp_path: Path
) -> None:
    """The screen says so and goes on; new queues appear."""
    with reliq.Queue("first", fresh_server.url) as queue:
        queue.enqueue(1)
    screen = live("--interval", "100ms", at=fresh_server.url)
    wait_until(lambda: screen.shows("first"), "it shows the queue")
    os.kill(fresh_server.pid, signal.SIGSTOP)
    wait_until(lambda: screen.shows("no answer"), "it says that the server is away", timeout=20)
    os.kill(fresh_server.pid, signal.SIGCONT)
    with reliq.Queue("second", fresh_server.url) as queue:
        queue.enqueue(1)
    wait_until(lambda: screen.shows(r"second\s+1 "), "the new queue is there", timeout=20)
    screen.press(b"q")
    assert screen.end() == 0


def test_without_rich(url: str, emails: reliq.Queue, tmp_path: Path) -> None:
    """The screen needs it and says so; one frame does not."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('no rich')")
    env = environment(RELIQ_URL=url)
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    command = [sys.executable, "-m", "reliq", "top", "--once", "--interval", "100ms"]
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0
