"""A real server without installing one: what `embedded://` URLs mean. POSIX only.

`embedded://` is a temporary server of this process, gone with it. `embedded:///some/directory` keeps its data there
in an append-only file; all processes that name this directory use one server, which ends when the last of them does.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reliq import _lifeline
from reliq._server import Occupied, Server
from reliq._server_files import bundled_server, find_server
from reliq.errors import InvalidURL

__all__ = ["Server", "bundled_server", "find_server", "shared_server"]

_PATIENCE = 30.0  # seconds for another process to start or end the server of a directory

_shared: dict[Path | None, Server] = {}  # by directory; None: the temporary one
_lock = threading.Lock()


def shared_server(url: str) -> str:
    """Finds or starts the server of an `embedded:` URL and returns its `unix:///...` URL.

    Call it again after a connection was lost: it answers the same while the server lives, and starts it anew if not. A
    forked child gets its parent's temporary server for as long as that lives.

    Args:
        url: `embedded://`, or `embedded:///absolute/directory` (percent-encoded).

    Raises:
        InvalidURL: anything else.
        ServerNotFound: no binary.
        ServerError: the server does not start.
    """
    directory = _directory_of(url)
    with _lock:
        known = _shared.get(directory)
        if known is None or not _lifeline.is_locked(known.directory):
            if known is not None:
                known.close()
                known.let_go()
            known = _shared[directory] = Server().start() if directory is None else _server_of(directory)
        return known.socket_url


def _directory_of(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "embedded" or parts.netloc or parts.query or parts.fragment:
        raise InvalidURL(f"{url!r} is neither embedded:// nor embedded:///absolute/directory (three slashes)")
    return Path(unquote(parts.path)).resolve() if parts.path.strip("/") else None


def _server_of(directory: Path) -> Server:
    """Joins the server of `directory`, or starts it where we are the first. Others may be about to do either."""
    server = Server(directory, append_only=True)
    deadline = time.monotonic() + _PATIENCE
    while not server.join():
        try:
            server.start()
        except Occupied:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            server.disown()  # it is as much the others' as ours: nobody stops it, the last user's going does
            break
    return server


def _forked() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it, and will not release this copy
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)
