"""A Postgres for tests: started from the system's binaries in a temporary folder, killed, started again."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from servers import missing, wait_until

_HOMES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
}
_numbers = itertools.count(1)


def binaries() -> Path:
    """The folder of Postgres's programs, the newest that is there. Skips the test where there is none."""
    found = [folder for pattern in _HOMES for folder in Path("/").glob(pattern[1:]) if (folder / "postgres").exists()]
    if not found and (program := shutil.which("postgres")):
        found = [Path(program).parent]
    if not found:
        missing("Postgres is not installed: apt-get install postgresql")
    return max(found)


class Postgres:
    """A cluster of its own on a unix socket and a free loopback port. `durable`: it really writes to the disk.

    Postgres refuses to run as root; then it runs as the user `postgres`.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.programs = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="reliq-pg-"))
        self.port = _free_port()
        self._settings = {**_SETTINGS, "fsync": "on" if durable else "off", "full_page_writes": str(durable)}
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            _give_to(self.folder, self._user)
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8")

    def start(self) -> Self:
        """Starts it and waits until it answers."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*command, "-k", str(self.folder), *options], stdout=log, stderr=log, cwd="/", **self._as_user()
        )
        log.close()
        wait_until(self._answers, f"Postgres answers; see {self.folder}/log", timeout=30)
        return self

    def stop(self) -> None:
        """An orderly stop that does not wait for clients; their transactions are rolled back."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """All of its processes at once, as a machine that dies."""
        if self._process is not None:
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):  # it ends by itself when its parent does
                    child.kill()
            self._process.wait()
            psutil.wait_procs(family, timeout=10)

    def pause(self) -> None:
        """It stays there and does not answer."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):  # a background process that has just ended
                process.suspend()

    def resume(self) -> None:
        """Ends `pause`."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """Stops it and removes its folder."""
        self._signal(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database: str = "postgres", *, port: int | None = None, user: str = "postgres") -> str:
        """A DSN for the loopback port, or for that of a proxy in front of it."""
        options = "sslmode=disable&gssencmode=disable&connect_timeout=5"
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}?{options}"

    def new_database(self) -> str:
        """Makes an empty database and returns its name."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return name

    def execute(self, statement: str, database: str = "postgres", *, user: str = "postgres") -> list[Any]:
        """Runs a statement by itself and returns its rows."""
        with psycopg.connect(self.dsn(database, user=user), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:  # it is still starting
            return False
        return True

    def _family(self) -> Iterator[psutil.Process]:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        yield from [parent, *parent.children(recursive=True)]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.send_signal(number)
            self._process.wait(timeout=30)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._as_user())

    def _as_user(self) -> dict[str, Any]:
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []} if self._user else {}


def _give_to(folder: Path, user: str) -> None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        missing("there is no user `postgres`, and Postgres does not run as root: apt-get install postgresql")
    os.chown(folder, entry.pw_uid, entry.pw_gid)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
