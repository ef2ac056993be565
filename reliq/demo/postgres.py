"""A Postgres of the demo's own, from the system's programs: `python -m reliq.demo.postgres`.

It prints its DSN when it answers, and is stopped and removed when standard input ends: when the demo closes it, or is
gone. Postgres does not run as root, so where we are root it runs as the user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")
_USER = "postgres"
_PATIENCE = 30.0  # seconds to start
_OLDEST = 15  # the version that the mirror's schema needs


def programs() -> Path | None:
    """The folder of the newest Postgres's programs; None where there is none that could be run."""
    found = [folder for place in _PLACES for folder in Path("/").glob(place) if (folder / "initdb").exists()]
    if path := shutil.which("initdb"):
        found.append(Path(path).resolve().parent)
    found = [folder for folder in found if _version(folder) >= _OLDEST]
    return max(found, key=_version, default=None) if _runner() is not None else None


def _version(folder: Path) -> int:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


def _runner() -> dict[str, Any] | None:
    """As whom Postgres runs, for `subprocess`; None where nobody is there who may."""
    if os.geteuid() != 0:
        return {}
    try:
        return {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []}
    except KeyError:
        return None


@contextmanager
def running(folder: Path, home: Path) -> Iterator[str]:
    """Runs a new Postgres in an empty directory, and gives its DSN. No TCP: its socket lies in there too."""
    who, data = _runner() or {}, folder / "data"
    if who:
        shutil.chown(folder, _USER, who["group"])
    initdb: list[str | Path] = [home / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **who)
    settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", f"unix_socket_directories={folder}"]
    with (folder / "log").open("wb") as log, _popen([home / "postgres", "-D", data, *settings], log, who) as process:
        try:
            _await(process, home, folder, who)
            yield f"host={folder} user={_USER} dbname=postgres"
        finally:
            process.send_signal(signal.SIGINT)  # rolls back what is open, and ends


def _popen(command: list[Any], log: Any, who: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **who)


def _await(process: subprocess.Popen[bytes], home: Path, folder: Path, who: dict[str, Any]) -> None:
    until = time.monotonic() + _PATIENCE
    ready: list[str | Path] = [home / "pg_isready", "-q", "-h", folder]
    while subprocess.run(ready, check=False, cwd="/", **who).returncode:
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"Postgres does not start: {(folder / 'log').read_text(errors='replace')[-1000:]}")
        time.sleep(0.05)


def main() -> None:
    """Runs until standard input ends."""
    home = programs()
    if home is None:
        raise SystemExit("no Postgres found")
    place = "/tmp" if os.geteuid() == 0 else None  # noqa: S108  $TMPDIR may be closed to the user who runs it
    with tempfile.TemporaryDirectory(prefix="reliq-demo-pg-", dir=place) as folder:
        try:
            with running(Path(folder), home) as dsn:
                print(dsn, flush=True)
                sys.stdin.buffer.read()
        finally:
            if os.geteuid() == 0:
                shutil.chown(folder, "root")


if __name__ == "__main__":
    main()
