"""The commands that run for long, as programs of their own: worker, server; and what is the same for all commands."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from servers import server_binary, wait_until

import reliq
from reliq.embedded import Server

from .conftest import Call, environment

HANDLERS = """
import time
from pathlib import Path

def save(item):
    Path(item.payload).write_text("done")

def fail(item):
    raise ValueError("no such address")

def wait(item):
    Path(item.payload + ".started").touch()
    while not Path(item.payload).exists():
        time.sleep(0.01)

class Mailer:
    def send(self, item):
        pass

mailer = Mailer()
number = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of handlers, and one that can't be imported."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    (tmp_path / "angry.py").write_text("raise OSError('no disk')")
    return tmp_path


@contextmanager
def started(url: str, *args: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "reliq", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(RELIQ_URL=url), cwd=cwd, text=True, **pipes) as process:  # type: ignore[call-overload]  # pipes
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_handles_items_until_the_queue_is_empty(program: Call, emails: reliq.Queue, folder: Path) -> None:
    """Each item goes to the function, from a module in the current directory, and the report counts them."""
    emails.enqueue_many([str(folder / "a"), str(folder / "b")])
    ran = program(
        "worker", "run", "handlers:save", "--queue", "emails", "--return-when-empty", "-o", "json", cwd=folder
    )
    assert (ran.code, ran.data["finished"]) == (0, 2), ran.err
    assert (folder / "a").exists()
    assert emails.counts().finished == 2


def test_a_worker_counts_failures(program: Call, emails: reliq.Queue, folder: Path) -> None:
    """What the function raises is a failed attempt, kept with the item."""
    emails.enqueue(1, id="a")
    ran = program("worker", "run", "handlers:fail", "--queue", "emails", "--max-items", "1", "-o", "json", cwd=folder)
    assert (ran.code, ran.data["failed"]) == (0, 1), ran.err
    assert emails.get("a").error == "ValueError: no such address"


def test_a_method_is_a_function_too(program: Call, emails: reliq.Queue, folder: Path) -> None:
    """What can be called may stand anywhere in the module."""
    emails.enqueue(1)
    args = ("worker", "run", "handlers:mailer.send", "--queue", "emails", "--return-when-empty", "-o", "json")
    assert program(*args, cwd=folder).data["finished"] == 1


def test_a_worker_stops_cleanly_on_sigterm(url: str, emails: reliq.Queue, folder: Path) -> None:
    """The running function ends, what was claimed ahead goes back, and the exit code is 0."""
    waits = [str(folder / name) for name in ("first", "second", "third")]
    emails.enqueue_many(waits)
    args = ("-o", "json", "worker", "run", "handlers:wait", "--queue", "emails", "--prefetch", "2")
    with started(url, *args, cwd=folder) as process:
        wait_until(lambda: Path(waits[0] + ".started").exists() and emails.counts().in_progress == 3, "it has begun")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: emails.counts().queued == 2, "what was not started is back")
        Path(waits[0]).touch()
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert {name: count for name, count in report.items() if count} == {"finished": 1, "released": 2}


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("handlers", "not MODULE:FUNCTION"),
        ("handlers:", "not MODULE:FUNCTION"),
        ("nowhere:send", "no module 'nowhere'"),
        ("handlers.inner:send", "no module 'handlers.inner'|can't be imported"),
        ("handlers:nothing", "has no 'nothing'"),
        ("handlers:number", "no function"),
        ("handlers:Mailer", "no function"),
        ("broken:send", "nothing_of_this_name"),
        ("angry:send", "OSError: no disk"),
    ],
)
def test_a_handler_that_can_not_be_used(program: Call, folder: Path, handler: str, message: str) -> None:
    """It is a usage error that says what is wrong, without a traceback."""
    ran = program("worker", "run", handler, "--queue", "emails", cwd=folder)
    assert ran.code == 2
    assert any(part in ran.err for part in message.split("|"))
    assert "Traceback" not in ran.err


def test_a_worker_does_not_take_an_unreachable_server_for_an_empty_queue(
    url: str, emails: reliq.Queue, folder: Path, fresh_server: Server
) -> None:
    """With --return-when-empty it goes on trying until there is an answer."""
    address, port = fresh_server.url, fresh_server.port
    fresh_server.kill()
    args = ("--timeout", "0.2s", "worker", "run", "handlers:save", "--queue", "emails", "--return-when-empty")
    with started(address, *args, cwd=folder) as process:
        assert process.stderr is not None
        claims = (line for line in process.stderr if "no answer" in line)
        assert all(next(claims, None) for _ in range(2)), "it ended after its first claim"
        with Server(binary=server_binary(), port=port):
            assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_runs_until_it_is_told_to_stop(url: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints a URL that works, and its server ends with it."""
    monkeypatch.setenv("RELIQ_SERVER_BIN", str(server_binary()))
    with started("", "server", "--port", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with reliq.Queue("emails", address) as queue:
            assert queue.enqueue(1).created
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
    with redis.Redis.from_url(address) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_the_server_keeps_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --dir what was acknowledged is there after a stop, and other programs may use it by its directory."""
    monkeypatch.setenv("RELIQ_SERVER_BIN", str(server_binary()))
    for created in (True, False):
        with started("", "server", "--dir", str(tmp_path / "data")) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("unix:///")
            with reliq.Queue("emails", address) as queue:
                assert queue.enqueue(1, id="a").created is created
            process.terminate()
            assert process.wait(timeout=20) == 0


def test_a_server_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command does not outlive its server."""
    monkeypatch.setenv("RELIQ_SERVER_BIN", str(server_binary()))
    with started("", "server", "--port", "0") as process:
        assert process.stdout is not None
        with redis.Redis.from_url(process.stdout.readline().strip()) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the server has ended" in err


def test_no_url(program: Call) -> None:
    """Without a server the message says what to pass."""
    ran = program("queue", "ls", RELIQ_URL="")
    assert (ran.code, ran.out) == (2, "")
    assert "--url" in ran.err
    assert "RELIQ_URL" in ran.err


def test_an_unreachable_server(program: Call, fresh_server: Server) -> None:
    """It ends with 4 and one message for the time that it was given, without a traceback."""
    fresh_server.kill()
    for args in (("queue", "ls"), ("queue", "stats", "emails"), ("enqueue", "emails", "1")):
        ran = program("-q", "--timeout", "0.2s", *args, RELIQ_URL=fresh_server.url)
        assert (ran.code, ran.out) == (4, "")
        assert ran.err.startswith("reliq: ")
        assert ran.err.count("\n") == 1


def test_verbose_shows_the_traceback(program: Call, fresh_server: Server) -> None:
    """With -v, wherever it stands, the cause is there for whoever debugs it."""
    fresh_server.kill()
    ran = program("--timeout", "0.1s", "queue", "ls", "-v", RELIQ_URL=fresh_server.url)
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("reliq: ")


def test_a_password_is_never_shown(program: Call, server: Server) -> None:
    """Neither help nor errors have the password of the URL, and a wrong one is a refusal."""
    wrong = server.url.replace("redis://", "redis://ann:hunter2@")
    for args, code in ((("--help",), 0), (("-vv", "queue", "ls"), 5), (("-vv", "queue", "stats", "emails"), 5)):
        ran = program(*args, RELIQ_URL=wrong)
        assert ran.code == code, ran.err
        assert "hunter2" not in ran.out + ran.err
    ran = program("-vv", "queue", "ls", RELIQ_URL="redis://ann:hunter2@host:port/0")
    assert ran.code == 2
    assert "hunter2" not in ran.out + ran.err


def test_the_option_wins_over_the_environment(program: Call, url: str, emails: reliq.Queue) -> None:
    """A URL may be given before or after the command."""
    for args in (("-u", url, "queue", "ls"), ("queue", "ls", "--url", url)):
        assert program(*args, RELIQ_URL="redis://127.0.0.1:1/0").code == 0


def test_a_reader_that_goes_away(url: str, emails: reliq.Queue) -> None:
    """`reliq ... | head` ends without a traceback."""
    emails.enqueue_many(["x" * 100] * 2000)
    command = f"{sys.executable} -m reliq -o jsonl item ls emails --limit 2000 | head -n 1"
    ran = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment(RELIQ_URL=url), check=True
    )
    assert json.loads(ran.stdout)["state"] == "queued"
    assert "Traceback" not in ran.stderr


@pytest.fixture
def terminal(url: str) -> Callable[..., str]:
    """Runs a command on a terminal 60 columns wide, and returns what that shows."""

    def call(*args: str, **env: str) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "reliq", *args]
        variables = environment(RELIQ_URL=url, TERM="xterm-256color", COLUMNS="60", **env)
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
        os.close(theirs)
        shown = b"".join(_read(ours))
        assert process.wait(timeout=20) == 0
        os.close(ours)
        return shown.decode()

    return call


def _read(descriptor: int) -> Iterator[bytes]:
    while select.select([descriptor], [], [], 20)[0]:
        try:
            yield os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return


def test_tables_on_a_terminal(terminal: Callable[..., str], emails: reliq.Queue) -> None:
    """They are coloured unless NO_COLOR is set, and what looks like markup stays text."""
    assert "\x1b[1m" in terminal("queue", "ls")
    emails.enqueue("[red]alert[/red]", id="a")
    plain = terminal("item", "show", "emails", "a", NO_COLOR="1")
    assert '"[red]alert[/red]"' in plain
    assert "\x1b[" not in plain


def test_progress_on_a_terminal(terminal: Callable[..., str], emails: reliq.Queue, tmp_path: Path) -> None:
    """A long file has a progress bar there; elsewhere stderr stays empty."""
    file = tmp_path / "lines"
    file.write_text("1\n" * 12_000)
    shown = terminal("enqueue", "emails", "--file", str(file))
    assert "100%" in shown
    assert "12000 created" in shown


def test_a_long_file_is_silent_elsewhere(program: Call, emails: reliq.Queue, tmp_path: Path) -> None:
    """Without a terminal nothing but the counts is written."""
    file = tmp_path / "lines"
    file.write_text("1\n" * 12_000)
    ran = program("enqueue", "emails", "--file", str(file))
    assert (ran.code, ran.out, ran.err) == (0, "12000 created, 0 already there\n", "")


def test_tables_without_rich(program: Call, emails: reliq.Queue, tmp_path: Path) -> None:
    """rich is an extra: without it tables are plain columns."""
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    ran = program("queue", "ls", PYTHONPATH=os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]]))
    assert ran.code == 0
    assert ran.out.startswith("QUEUE ")
