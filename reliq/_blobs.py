"""A store for large payloads in a directory: the one that `reliq.codecs` offers for `ClaimCheck`."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliq.errors import InvalidArgument

_KEY = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp-"


class FileStore:
    """Keeps each payload in a file named by the SHA-256 of its bytes, in folders by its first two digits.

    Files appear whole or not at all, and have reached the disk when `put` returns. All clients of the queue need the
    directory (a shared file system, or one machine); files are for their owner only, so all run as one user.

    Args:
        directory: made where it does not exist.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).absolute()

    def __repr__(self) -> str:
        return f"FileStore({str(self.directory)!r})"

    def put(self, key: str, data: bytes) -> None:
        """Writes a file. One that exists is written anew: that heals a damaged one and makes it young for `expire`.

        If the caller dies in here, the file is whole or absent; `expire` removes what is left over.
        """
        path = self._path(key)
        self._make(path.parent)
        with self._locked(fcntl.LOCK_SH):
            handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        _sync_directory(path.parent)

    def get(self, key: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError where there is none."""
        return self._path(key).read_bytes()

    def delete(self, key: str) -> None:
        """Removes a file; quiet where there is none. Items that share the payload can't be read any more."""
        self._path(key).unlink(missing_ok=True)

    def expire(self, older_than: float | dt.timedelta) -> int:
        """Removes files that were last put longer ago than this, and returns how many.

        Args:
            older_than: seconds, at least 60; longer than any item that is not finished can be old, dead ones included.
        """
        seconds = older_than.total_seconds() if isinstance(older_than, dt.timedelta) else older_than
        if not seconds >= 60:
            raise InvalidArgument(f"older_than is at least 60 seconds, not {older_than!r}")
        if not self.directory.is_dir():
            return 0
        with self._locked(fcntl.LOCK_EX):  # a file that is put again meanwhile must not be taken for the old one
            old = [path for path in self.directory.glob("??/*") if _age(path) > seconds]
            for path in old:
                path.unlink(missing_ok=True)
        return len(old)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidArgument(f"a key of this store is 64 digits of hex, not {key[:80]!r}")
        return self.directory / key[:2] / key

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _sync_directory(self.directory)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        handle = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # deleted meanwhile
        return 0.0


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
