"""Child processes that don't outlive the demo, however it ends.

Each has the reading end of a pipe as its standard input and leaves when that ends: the kernel closes the writing end
when the demo is gone. A child has a process group of its own, so that Ctrl-C reaches the demo alone, and not a session
of its own, so that the kernel continues a child that was stopped when the demo died.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Self

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

    def check(self) -> None:
        """Raises ChildFailed if the child has ended."""
        status = self._process.poll()
        if status is not None:
            raise ChildFailed(f"{self.name} ended with status {status}: {self._last_words()}")

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
        """Waits until the process has ended: after `stop`, or because its standard input ends with this call."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._await_end()
        self._errors.close()

    def await_stop(self) -> None:
        """Waits for the end that `stop` asked for; kills a process that does not come to it."""
        self._await_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _await_end(self) -> None:
        try:
            self._process.wait(_PATIENCE)
        except BaseException:  # not in time, or Ctrl-C for the second time
            self.kill()
            raise

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode(errors="replace").strip() or "it said nothing"


def leave_with_parent() -> None:
    """In a child: ends this process at once when its standard input ends."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()
