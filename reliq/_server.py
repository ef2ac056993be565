"""One server process, for `reliq.embedded`. POSIX only."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from reliq import _lifeline, _server_files
from reliq.errors import ServerError

_mine: set[Server] = set()  # running, to be stopped at exit


class Occupied(ServerError):
    """Another server runs in this directory, or is being started or ended there."""


class Server:
    """One server process. It ends with this process at the latest, however that ends.

    `socket` is its unix socket, `port` its TCP port if it has one, `directory` where its log and data are. Not for use
    by two threads at once. A forked child may use the URLs, and can't stop the server.

    Args:
        directory: for log and data, made if missing and kept; None: a temporary one, removed by `close`.
        binary: what to run; None: `find_server()`.
        port: loopback TCP port, beside the unix socket; 0: a free one; None: no TCP.
        config: lines of its configuration, name to value as the file has them; they win over reliq's own.
        append_only: keep an append-only file, so that data survive `kill` and `restart`.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        binary: Path | None = None,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        append_only: bool = False,
    ) -> None:
        self._temporary = directory is None
        self.directory = (directory or _server_files.short_folder() / f"reliq-{secrets.token_hex(6)}").absolute()
        self.socket = _server_files.socket_folder(self.directory) / "socket"
        self.port = port
        self._any_port = port == 0
        self._binary = binary
        self._config = dict(config or {})
        self._append_only = append_only
        self._process: subprocess.Popen[bytes] | None = None
        self._launched_by: int | None = None
        self._lifeline = _lifeline.Lifeline(self.socket.with_name("lifeline"))

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:port/0` where the server has a port, else `socket_url`."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else self.socket_url

    @property
    def socket_url(self) -> str:
        """`unix:///...`"""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Process id. Raises ServerError where this object runs no server."""
        return self._running().pid

    def start(self, timeout: float = 30.0) -> Self:
        """Starts the server and waits until it answers PING; that includes reading its data.

        Args:
            timeout: seconds.

        Raises:
            ServerNotFound: no binary.
            ServerError: it ended or did not answer in time (the end of its log is in the message), or another server
                runs in this directory.
        """
        for attempt in (1, 2, 3):  # a port that was free when we looked may be taken when the server binds
            self._launch()
            if self._answers_within(timeout):
                break
            tail = self.log_tail()
            self.kill()
            if attempt == 3 or not (self._any_port and "in use" in tail):
                raise ServerError(f"the server in {self.directory} does not answer; its log ends:\n{tail}")
            self.port = 0
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """Ends the server (SIGTERM: it writes its data) and waits; after `timeout` seconds SIGKILL."""
        if self._process is not None:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it gets SIGKILL
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Ends the server and its background savers by SIGKILL, as a crash would, and waits."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._await_unlocked()
            self._process = None
            self._lifeline.untie()
            _mine.discard(self)

    def pause(self) -> None:
        """Stops the process (SIGSTOP): connections stay open and nothing answers, until `resume`."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continues a paused process."""
        self._running().send_signal(signal.SIGCONT)

    def restart(self, *, wipe: bool = False) -> None:
        """Stops and starts it at the same addresses. With `wipe`, or without `append_only`, it comes back empty."""
        self.stop()
        if wipe:
            shutil.rmtree(self.directory / "data")
        self.start()

    def close(self) -> None:
        """Stops the server, and removes its directory where that is a temporary one."""
        if self._temporary:
            self.kill()  # nobody reads its data again: spares the 0.1 s of an orderly end
        self.stop()
        if self._temporary and self._launched_by == os.getpid() and self.directory.exists():
            shutil.rmtree(self.directory)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log, '' where there is none."""
        path = self.directory / "server.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def answers(self, timeout: float = 1.0) -> bool:
        """Whether a server answers PING at the socket within `timeout` seconds, and is not loading its data."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            try:
                connection.connect(os.fspath(self.socket))
                connection.sendall(b"PING\r\n")
                reply = connection.recv(64)
            except OSError:  # nobody listens, or not any more: that is the answer
                return False
        return bool(reply) and not reply.startswith(b"-LOADING")

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("this server is not running, or another process started it")
        return self._process

    def _launch(self) -> None:
        binary = (self._binary or _server_files.find_server()).absolute()
        for folder in (self.directory, self.directory / "data", self.socket.parent):
            _server_files.make_private(folder)
        if (lock := _lifeline.lock(self.directory)) is None:
            raise Occupied(f"another server runs in {self.directory}")
        try:
            self._write_settings()
            process = self._spawn(binary, lock)
            self._tie(process)
        finally:
            os.close(lock)
        self._process = process
        self._launched_by = os.getpid()
        _mine.add(self)

    def _tie(self, process: subprocess.Popen[bytes]) -> None:
        how = signal.SIGKILL if self._temporary else signal.SIGTERM
        try:
            self._lifeline.tie(process.pid, how=how, remove=self.directory if self._temporary else None)
        except OSError as error:
            process.kill()
            process.wait()
            self._lifeline.untie()
            raise ServerError(f"can't watch over the server in {self.directory}: {error}") from error

    def _write_settings(self) -> None:
        if self._any_port and not self.port:
            self.port = _server_files.free_port()
        text = _server_files.configuration(
            self.socket,
            port=self.port or 0,
            data=self.directory / "data",
            append_only=self._append_only,
            extra=self._config,
        )
        (self.directory / "server.conf").write_text(text)

    def _spawn(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        with (self.directory / "server.log").open("ab") as log:
            try:
                return subprocess.Popen(
                    [binary, self.directory / "server.conf"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_server_files.environment(),
                    pass_fds=(lock,),
                    start_new_session=True,  # Ctrl-C is for the program, which may still need its server
                )
            except OSError as error:
                raise ServerError(f"can't run {binary}: {error}") from error

    def _answers_within(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self._running().poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _await_unlocked(self) -> None:
        """Waits for the last of the server's processes: a background saver holds its lock too."""
        deadline = time.monotonic() + 10.0
        while _lifeline.is_locked(self.directory) and time.monotonic() < deadline:
            time.sleep(0.002)

    def join(self) -> bool:
        """Becomes a user of the server that another process started in our directory. False: there is none (yet)."""
        if self._lifeline.hold():
            if self.answers() and self._lifeline.is_watched():
                return True
            self._lifeline.release()
        return False

    def disown(self) -> None:
        """Forgets the process, which goes on for its other users. What we hold of its lifeline stays held."""
        _lifeline.forget(self._process)
        self._process = None
        self._lifeline.leave_watch()
        _mine.discard(self)

    def let_go(self) -> None:
        """Stops being a user of the server. The last one's going ends it."""
        self._lifeline.release()


def _stop_all() -> None:
    for server in list(_mine):
        server.close()


def _forked() -> None:
    """In a forked child: what runs is the parent's, and goes with the parent even if this child lives on."""
    for server in list(_mine):
        server.disown()
        server.let_go()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_forked)
