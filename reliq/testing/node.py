"""One server or Sentinel process of a topology. POSIX only."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from reliq import _server_files
from reliq._lifeline import Lifeline
from reliq.errors import ServerError
from reliq.testing.control import Control, Reply, fields
from reliq.testing.network import Seat

_NO_PID = 2**22 + 1  # beyond the highest that Linux gives out


class Node:
    """A process with a configuration file, which it may rewrite, and its data. It ends when this process ends.

    `host` and `port` are where everybody reaches it, `address` both. `call` goes through a unix socket, so it reaches
    the process also where the network is cut.

    Args:
        name: unique in its topology: `server-1`, `sentinel-2`.
        binary: the server program; a Sentinel is the same one with `--sentinel`.
        seat: its place in the network.
        lines: of its configuration, in order.
        sentinel: whether it is a Sentinel.
        password: that it asks for; '' for none.
    """

    def __init__(
        self,
        name: str,
        binary: Path,
        seat: Seat,
        lines: Sequence[str],
        *,
        sentinel: bool = False,
        password: str = "",
    ) -> None:
        self.name, self.is_sentinel, self.password = name, sentinel, password
        self.host, self.port = self.address = (seat.host, seat.port)
        self.directory = _server_files.short_folder() / f"reliq-{secrets.token_hex(6)}"
        self._seat, self._lines = seat, tuple(lines)
        self._socket = self.directory / "socket"
        self._command = (*seat.enter, str(binary), str(self.directory / "node.conf"), *(["--sentinel"] * sentinel))
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = Lifeline(self.directory / "lifeline")
        self.paused = False

    def __repr__(self) -> str:
        return f"<{self.name} {self.host}:{self.port}{'' if self.running else ' (down)'}>"

    @property
    def url(self) -> str:
        """`redis://...` of this node itself, with its password where it has one: mask it before you print it."""
        return f"redis://{f':{self.password}@' if self.password else ''}{self.host}:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether its process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id. Raises ServerError where it is not running."""
        return self._alive().pid

    def start(self, timeout: float = 30.0) -> None:
        """Starts it with the configuration and data that it left, or afresh, and waits until it answers.

        Args:
            timeout: seconds; loading data is part of it.

        Raises:
            ServerError: it ended, or did not answer in time; the end of its log is in the message.
        """
        if not self.directory.exists():
            self._make()
        self._socket.unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_server_files.environment(),
                start_new_session=True,  # Ctrl-C is for the tests, which stop it in order
            )
        self._lifeline.untie()
        self._lifeline.tie(self._process.pid, how=signal.SIGKILL, remove=self.directory)
        deadline = time.monotonic() + timeout
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                tail = self.log_tail()
                self.kill()
                raise ServerError(f"{self.name} does not answer; its log ends:\n{tail}")
            time.sleep(0.002)

    def kill(self) -> None:
        """Ends it and what it forked by SIGKILL, and waits. What it had not written is lost."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it had ended before
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process, self.paused = None, False
            self._lifeline.untie()
            self._lifeline.tie(_NO_PID, how=signal.SIGKILL, remove=self.directory)  # its data go with us all the same

    def stop(self, timeout: float = 10.0) -> None:
        """Ends it in order (SIGTERM); by SIGKILL after `timeout` seconds."""
        if self._process is not None:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it gets SIGKILL
                self._process.wait(timeout)
        self.kill()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nothing answers. Returns when the process has stopped."""
        self._signal(signal.SIGSTOP, os.WSTOPPED)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: it goes on, and takes what was sent meanwhile. Returns when it has continued."""
        self._signal(signal.SIGCONT, os.WCONTINUED)
        self.paused = False

    def restart(self, *, wipe: bool = False) -> None:
        """Kills and starts it at the same address, with its data or, by `wipe`, without. Its configuration stays."""
        self.kill()
        if wipe:
            shutil.rmtree(self.directory / "data", ignore_errors=True)
            (self.directory / "data").mkdir()
        self.start()

    def close(self) -> None:
        """Kills it and removes its directory."""
        self.kill()
        self._lifeline.untie()
        shutil.rmtree(self.directory, ignore_errors=True)

    def call(self, *words: str | int, timeout: float = 5.0) -> Reply:
        """Sends a command past the network and returns the reply.

        Raises:
            ServerError: it is down or paused, or refused.
        """
        try:
            with Control(str(self._socket), password=self.password, timeout=timeout) as control:
                return control.call(*words)
        except OSError as error:
            raise ServerError(f"{self.name} does not answer: {error}") from error

    def info(self, section: str = "replication") -> dict[str, str]:
        """A section of INFO."""
        return fields(self.call("INFO", section))

    def answers(self, timeout: float = 1.0) -> bool:
        """Whether it answers PING within `timeout` seconds and is not loading."""
        try:
            return self.call("PING", timeout=timeout) == "PONG"
        except ServerError as error:  # a replica without its master answers too
            return str(error).startswith("MASTERDOWN")

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        path = self.directory / "log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def _make(self) -> None:
        _server_files.make_private(self.directory)
        (self.directory / "data").mkdir()
        host, port = self._seat.bind
        lines = [
            f"bind {host}",
            f"port {port}",
            f"unixsocket {self._socket}",
            "unixsocketperm 700",
            f"dir {self.directory / 'data'}",
            "protected-mode no",
            *self._lines,
        ]
        (self.directory / "node.conf").write_text("\n".join(lines) + "\n")

    def _signal(self, number: signal.Signals, state: int) -> None:
        process = self._alive()
        if (number == signal.SIGSTOP) == self.paused:
            return
        process.send_signal(number)
        os.waitid(os.P_PID, process.pid, state)

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} is not running")
        return self._process
