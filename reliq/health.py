"""Whether a worker is well, told to whoever asks: a health file, /livez and /readyz over HTTP, and systemd.

A worker that answers to PING may still have claimed nothing for an hour. So what counts here is what its loop does.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from reliq import _policy
from reliq._outlets import Endpoint, Facts, notify_systemd, write_facts
from reliq._policy import Seconds
from reliq.errors import InvalidArgument

__all__ = ["BEAT", "Facts", "Monitor", "Tells", "Vitals", "check_file", "notify_systemd"]

QUIET = 30.0
STUCK = 120.0  # above what a call may take while the server is away: a restart would not bring that back
BEAT = 1.0  # seconds between two beats


class Vitals:
    """What a worker's loop was last seen to do. Threads share it; it goes by a monotonic clock.

    Args:
        handlers: how many handlers the worker has.
        quiet: seconds without a claim that brought items or proved the queue empty, after which it is not ready
            unless all its handlers are busy.
        stuck: seconds without a turn of its loop after which it is not alive. Waiting for a server that is away is no
            reason to be restarted: keep it above the queue's `timeout`.

    Raises:
        InvalidArgument: an argument is out of its range (handlers 1 to 1,000,000, times 0.01 s to a day).
    """

    def __init__(self, handlers: int = 1, *, quiet: Seconds = QUIET, stuck: Seconds = STUCK) -> None:
        self.handlers = _policy.whole(handlers, "handlers", low=1, high=1_000_000)
        self.quiet = _policy.seconds(quiet, "quiet", low=0.01, high=86400)
        self.stuck = _policy.seconds(stuck, "stuck", low=0.01, high=86400)
        self._lock = threading.Lock()
        self._turned = self._began = time.monotonic()
        self._claimed: float | None = None
        self._renewed: float | None = None
        self._held = self._busy = 0

    def turned(self) -> None:
        """The loop went round."""
        self._turned = time.monotonic()

    def claimed(self) -> None:
        """A claim brought items, or proved that the queue has none."""
        self._claimed = time.monotonic()

    def renewed(self) -> None:
        """The leases of what is held were renewed."""
        self._renewed = time.monotonic()

    def holding(self, count: int, busy: int) -> None:
        """The worker holds so many items, and so many of its handlers run."""
        with self._lock:
            self._held, self._busy = count, busy

    def alive(self) -> bool:
        """Whether the loop went round within `stuck` seconds."""
        return self._ago(self._turned) <= self.stuck

    def ready(self) -> bool:
        """Whether it claimed, or proved the queue empty, within `quiet` seconds, or all handlers are busy.

        Busy handlers count as long as the leases of their items are renewed; where nobody tells that they are, they are
        believed.
        """
        if not self.alive():
            return False
        if self._claimed is not None and self._ago(self._claimed) <= self.quiet:
            return True
        return self._busy >= self.handlers and (self._renewed is None or self._ago(self._renewed) <= self.stuck)

    def facts(self) -> Facts:
        """All of it, for people and probes. Times are seconds ago; None for never."""
        with self._lock:
            held, busy = self._held, self._busy
        return {
            "alive": self.alive(),
            "ready": self.ready(),
            "pid": os.getpid(),
            "handlers": self.handlers,
            "held": held,
            "busy": busy,
            "up": _rounded(self._ago(self._began)),
            "turned": _rounded(self._ago(self._turned)),
            "claimed": None if self._claimed is None else _rounded(self._ago(self._claimed)),
            "renewed": None if self._renewed is None else _rounded(self._ago(self._renewed)),
        }

    def _ago(self, instant: float) -> float:
        return time.monotonic() - instant


class Tells(Protocol):
    """Whatever knows how well a worker is: `Vitals` of one, or of several processes together."""

    def facts(self) -> Facts:
        """At least `alive` and `ready`."""


class Monitor:
    """Tells how a worker is while the `with` block runs: by a file, by HTTP, and to systemd.

    Args:
        vitals: who is asked.
        file: path of a health file, written once a second; None for none. `check_file` reads it.
        http: port of /livez and /readyz, 0 for any that is free; None for none.
        host: the address that it listens on.

    Raises:
        InvalidArgument: the port is out of range; at the block's beginning: it is taken, or the file can't be written.

    If the process dies the file stays as it was, and is found too old.
    """

    def __init__(
        self, vitals: Tells, *, file: str | Path | None = None, http: int | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.vitals = vitals
        self.file = None if file is None else Path(file)
        self.port: int | None = None
        self._address = None if http is None else (host, _policy.whole(http, "http", low=0, high=65535))
        self._endpoint: Endpoint | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="reliq-health", daemon=True)

    def __enter__(self) -> Self:
        if self.file:
            try:
                write_facts(self.file, self.vitals.facts())
            except OSError as error:
                raise InvalidArgument(f"the health file can't be written: {error}") from error
        if self._address:
            self._endpoint = Endpoint(self.vitals.facts, *self._address)
            self.port = self._endpoint.port
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        notify_systemd("STOPPING=1")
        self._stopped.set()
        if self._endpoint:
            self._endpoint.stop()
        self._thread.join()
        if self.file:
            self.file.unlink(missing_ok=True)

    def _beat(self) -> None:
        ready = False
        while True:
            facts = self.vitals.facts()
            if self.file:
                with contextlib.suppress(OSError):  # a full disk: the file grows old, which the probe sees
                    write_facts(self.file, facts)
            if facts["ready"] and not ready:
                ready = notify_systemd("READY=1") or True
            if facts["alive"]:
                notify_systemd("WATCHDOG=1")
            if self._stopped.wait(BEAT):
                return


def check_file(path: str | Path, max_age: Seconds = QUIET) -> list[str]:
    """Looks at a health file, from any process of the machine.

    Args:
        path: the file that a `Monitor` writes.
        max_age: seconds (or a timedelta) since it was written, 0.1 to 86,400.

    Returns:
        What is wrong, in words; nothing where the worker is well.
    """
    oldest = _policy.seconds(max_age, "max_age", low=0.1, high=86400)
    try:
        age = time.time() - Path(path).stat().st_mtime
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        well = [(facts[name], name) for name in ("alive", "ready")]
    except FileNotFoundError:
        return [f"no health file {path}: the worker has not started, or has stopped"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"the health file {path} can't be read: {error}"]
    problems = [f"the health file was written {age:.0f} s ago"] if age > oldest else []
    return problems + [f"the worker is not {name}: {json.dumps(facts)}" for good, name in well if not good]


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
