"""Child processes that don't outlive the demo, however it ends.

Each has the reading end of a pipe as its standard input and leaves when that ends: the kernel closes the writing end
when the demo is gone. A child has a process group of its own, so that Ctrl-C reaches the demo alone.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_PATIENCE = 20.0  # seconds for a child to start, and to stop


class ChildFailed(Exception):
    """A child did not start, or ended by itself."""


class Child:
    """A Python module that runs as a child process.

    Args:
        name: for messages.
        module: what to run, which has to read its standard input.
        arguments: its command line.
        environment: added to ours.
    """

    def __init__(self, name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
            process_group=0,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def greeting(self) -> str:
        """Waits for the line that the child prints when it is ready.

        Raises:
            ChildFailed: it ended, or printed nothing in time.
        """
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        line = self._process.stdout.readline().decode().strip() if ready else ""
        if not line:
            raise ChildFailed(f"{self.name} did not start: {self._last_words()}")
        return line

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def failed(self) -> bool:
        """Whether the process ended with an error of its own, not in order and not by a signal."""
        return (self._process.poll() or 0) > 0

    def check(self) -> None:
        """Raises ChildFailed if the child has ended."""
        if self.has_ended():
            raise ChildFailed(self.obituary())

    def obituary(self) -> str:
        """How the child ended, and the last that it said on stderr."""
        return f"{self.name} (pid {self.pid}) ended with status {self._process.returncode}: {self._last_words()}."

    def freeze(self) -> None:
        """Stops the process where it is (SIGSTOP), until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continues a frozen process."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing of the process runs any more when this returns."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Asks the process to end in order (SIGTERM), and does not wait."""
        self._process.terminate()

    def close(self) -> None:
        """Ends the standard input of the process, which therefore leaves, and waits for that."""
        self.thaw()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self.await_end()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def await_end(self) -> None:
        """Waits until the process has ended; kills it when it takes too long."""
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        except BaseException:  # Ctrl-C for the second time
            self.kill()
            raise

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode(errors="replace").strip() or "it said nothing"


class Crew:
    """The workers: those that were ever started, and which of them should be alive. A context manager."""

    def __init__(self) -> None:
        self._all: list[Child] = []
        self.living: list[Child] = []

    def add(self, child: Child) -> None:
        """Takes charge of a child."""
        self._all.append(child)
        self.living.append(child)

    def next_name(self) -> str:
        """A name that no worker had."""
        return f"worker-{len(self._all) + 1}"

    def stop(self) -> None:
        """Asks all to end in order, and waits until they have."""
        for child in self.living:
            child.stop()
        while self.living:
            self.living.pop().await_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with ExitStack() as closing:  # each is closed, also where closing another is interrupted
            for child in self._all:
                closing.callback(child.close)


def leave_with_parent() -> None:
    """In a child: ends this process at once when its standard input ends.

    On Linux the kernel kills it as well, when the thread that started it is gone: a process that is frozen in that
    moment can't see the end of anything.
    """

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()
