"""Ends a process when its last user is gone, however the users ended. POSIX only, for `reliq.embedded`.

PR_SET_PDEATHSIG can't promise that here: it fires when the *thread* that forked ends, and setting it needs a
`preexec_fn`, which is unsafe in a threaded program. So every user holds the writing end of a FIFO, and a small shell at
its reading end ends the process at end-of-file: the kernel closes that FIFO however a user dies.

Who may start a process in a directory is decided by a lock that the started process itself holds for as long as it
lives (it inherits the descriptor), so nobody has to trust the pid of a process that may be long gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
from pathlib import Path

# $1 the process, $2 the signal that ends it, $3 a temporary directory that goes with it or ''. The time of its birth
# tells it from a later process with its pid; without /proc both are empty and so equal. Closing the FIFO before the
# signal tells a newcomer that it came too late. A stopped process takes the signal when it continues.
_WATCH = """
birth() { read -r line <"/proc/$1/stat" && set -- ${line##*) } && echo "${20}"; } 2>/dev/null
born=$(birth "$1")
while read -r _; do :; done
exec <&-
if [ "$(birth "$1")" = "$born" ]; then kill -"$2" "$1"; kill -CONT "$1"; fi
if [ -n "$3" ]; then rm -rf "$3"; fi
"""


class Lifeline:
    """The FIFO at `path`, our hold on it, and the shell that watches it if we are the one who started that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hold: int | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    def tie(self, pid: int, *, how: signal.Signals, remove: Path | None) -> None:
        """Holds a new FIFO and has the child process `pid` ended by the signal `how` when nobody holds it any more.

        `remove` is a directory to delete with it.
        """
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path, 0o600)
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.set_blocking(reader, True)
            self._hold = os.open(self.path, os.O_WRONLY)
            self._watch = subprocess.Popen(
                ["/bin/sh", "-c", _WATCH, "reliq-lifeline", str(pid), how.name[3:], os.fspath(remove or "")],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the program, which may still need its server
            )
        finally:
            os.close(reader)

    def hold(self) -> bool:
        """Takes hold of a FIFO that another process made. False: nobody watches it."""
        try:
            self._hold = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            return False
        return True

    def is_watched(self) -> bool:
        """Whether the FIFO that we hold is still read; False: its last user left just before we came."""
        try:
            return self._hold is not None and os.write(self._hold, b"\n") == 1
        except BrokenPipeError:
            return False

    def release(self) -> None:
        """Lets go. Where we were the last, that ends the process."""
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def untie(self) -> None:
        """Ends the watch without effect, for one who ended the process by itself."""
        if self._watch is not None:
            self._watch.kill()
            self._watch.wait()
            self._watch = None
        self.release()

    def leave_watch(self) -> None:
        """Forgets the shell, which then is not ours to end or to wait for; keeps the hold."""
        forget(self._watch)
        self._watch = None


def forget(process: subprocess.Popen[bytes] | None) -> None:
    """Keeps a Popen that goes out of use from complaining that its process, which lives on, was not waited for."""
    if process is not None:
        process.returncode = 0


def lock(directory: Path) -> int | None:
    """Locks `directory` and returns the descriptor, to be inherited by the process that runs there and then closed.

    None: it is locked already, so a process is running there, or being started.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(directory: Path) -> bool:
    """Whether a process is running in `directory`, or being started."""
    if not (directory / "lock").exists():
        return False
    descriptor = lock(directory)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
