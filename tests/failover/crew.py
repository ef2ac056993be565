"""Worker programs of every kind on one queue: what they handled, and whether they are still who they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from servers import wait_until

from reliq.testing import read

ROOT = Path(__file__).parents[2]
KINDS = ("threads", "tasks", "processes")


@dataclass(frozen=True)
class Vitals:
    """Process ids of all workers, and what they have open."""

    pids: frozenset[int]
    threads: int
    connections: int


class Crew:
    """One program of each kind. Ended by `stop`, or by `kill` where the test has failed."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self._programs = {kind: self._started(url, kind) for kind in KINDS}

    def _started(self, url: str, kind: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(Path(__file__).with_name("worker_program.py")), url, str(self.folder), kind]
        with (self.folder / f"{kind}.log").open("wb") as log:
            return subprocess.Popen(command, stderr=log, env=os.environ | {"PYTHONPATH": path})

    def wait_at_work(self) -> None:
        """Returns when each of the four processes that handle items has begun to."""
        wait_until(lambda: len(self.handled_by_process()) == len(KINDS) + 1, "all workers to handle items", 30)

    def handled_by_process(self) -> Counter[str]:
        return Counter(event.process for event in read(self.folder) if event.kind == "began")

    def handled(self) -> Counter[str]:
        """How often a handler came to its end with an item, by id."""
        events = read(self.folder)
        return Counter(e.data["id"] for e in events if e.kind == "ended" and e.data["how"] == "returned")

    def vitals(self) -> Vitals:
        found = [psutil.Process(program.pid) for program in self._programs.values()]
        found += [child for process in found for child in process.children() if _is_worker(child)]
        connections = sum(len(process.net_connections("tcp")) for process in found)
        return Vitals(frozenset(p.pid for p in found), sum(p.num_threads() for p in found), connections)

    def stop(self) -> None:
        """Asks all to end; each does so in good order."""
        for program in self._programs.values():
            program.send_signal(signal.SIGTERM)
        for kind, program in self._programs.items():
            assert program.wait(60) == 0, (kind, self.log(kind))

    def kill(self) -> None:
        for program in self._programs.values():
            if program.poll() is None:
                for child in psutil.Process(program.pid).children():
                    child.kill()
                program.kill()
            program.wait()

    def log(self, kind: str) -> str:
        return (self.folder / f"{kind}.log").read_text()[-2000:]


def _is_worker(process: psutil.Process) -> bool:
    return "spawn_main" in " ".join(process.cmdline())
