"""Runs of the demo as a user starts it, their processes, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from servers import server_binary, wait_until

from reliq.demo.command import SAMPLE

LIMIT = 150.0  # seconds; alone it takes a tenth of that


@dataclass
class Finished:
    """A run that has ended."""

    status: int
    out: str
    err: str

    @property
    def figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = json.loads(self.out)
        return figures


@dataclass
class Run:
    """A run under way: `seen` collects its processes, all of them whenever `look` is called."""

    process: subprocess.Popen[str]
    errors: Path
    seen: set[psutil.Process] = field(default_factory=set)

    def look(self) -> set[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen.update(psutil.Process(self.process.pid).children(recursive=True))
        return self.alive()

    def alive(self) -> set[psutil.Process]:
        return {process for process in self.seen if is_alive(process)}

    def workers(self) -> list[psutil.Process]:
        return [process for process in self.look() if "reliq.demo.workers" in command_line(process)]

    def wait_for(self, text: str) -> None:
        def said() -> bool:
            self.look()
            assert self.process.poll() is None, self.errors.read_text()
            return text in self.errors.read_text()

        wait_until(said, f"the demo says {text!r}", LIMIT)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal does it: to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> Finished:
        def ended() -> bool:
            self.look()
            return self.process.poll() is not None

        wait_until(ended, "the demo ends", LIMIT)
        out = self.process.stdout.read() if self.process.stdout else ""
        return Finished(self.process.returncode, out, self.errors.read_text())


@dataclass
class Demo:
    """Starts runs, in a temporary folder of their own."""

    folder: Path
    runs: list[Run] = field(default_factory=list)

    def start(self, *arguments: str | Path) -> Run:
        errors = self.folder.with_name(f"{self.folder.name}-stderr-{len(self.runs)}")
        environment = {**os.environ, "RELIQ_SERVER_BIN": str(server_binary()), "TMPDIR": str(self.folder)}
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "reliq", "demo", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
                process_group=0,
            )
        self.runs.append(Run(process, errors))
        return self.runs[-1]

    def run(self, *arguments: str | Path) -> Finished:
        return self.start(*arguments).end()

    def leftovers(self) -> list[Path]:
        return list(self.folder.iterdir())

    def close(self) -> None:
        for run in self.runs:
            run.look()
            for process in run.alive():
                process.kill()
            run.process.kill()
            run.process.wait()
            if run.process.stdout:
                run.process.stdout.close()
            run.errors.unlink()


def is_alive(process: psutil.Process) -> bool:
    """Not gone, and not merely waiting to be collected by whoever adopted it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def first_lines(count: int, path: Path) -> Path:
    """The first `count` data lines of the sample, as a file."""
    path.write_bytes(b"".join(SAMPLE.read_bytes().splitlines(keepends=True)[: count + 1]))
    return path
