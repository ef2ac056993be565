"""Processes that work on one queue and record what they do; and who stops, kills and replaces them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from reliq.testing import History, Report, check_history, read

ROOT = Path(__file__).parents[2]


@dataclass
class Program:
    """A process of the fleet."""

    name: str
    process: subprocess.Popen[bytes]
    begun: bool = False  # it was seen at work

    @property
    def who(self) -> str:
        """As its own history calls it."""
        return f"{self.name}:{self.process.pid}"


@dataclass
class Fleet:
    """Processes of one program; `arguments` follow the address, the folder of histories and the name.

    What is done to them is written into `history`, so that the checker knows whom to blame.
    """

    script: str
    url: str
    histories: Path
    history: History
    arguments: tuple[str, ...]
    running: list[Program] = field(default_factory=list)
    started: list[Program] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def start(self) -> Program:
        name = f"worker-{next(self._numbers)}"
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(Path(__file__).with_name(self.script)), self.url, str(self.histories), name]
        with (self.histories / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([*command, *self.arguments], stderr=log, env=os.environ | {"PYTHONPATH": path})
        program = Program(name, process)
        self.running.append(program)
        self.started.append(program)
        return program

    def kill(self, program: Program) -> None:
        self.history.process("killed", program.who)
        program.process.kill()
        program.process.wait()
        self.running.remove(program)

    def stop(self, program: Program) -> None:
        self.history.process("stopped", program.who)
        program.process.send_signal(signal.SIGSTOP)

    def go_on(self, program: Program) -> None:
        program.process.send_signal(signal.SIGCONT)
        self.history.process("continued", program.who)

    def terminate(self, program: Program, timeout: float = 30) -> float:
        """Asks a process to end, and waits for it. Returns how many seconds that took."""
        self.history.process("terminated", program.who)
        asked = time.monotonic()
        program.process.terminate()
        code = program.process.wait(timeout)
        early = code == -signal.SIGTERM and not self.is_at_work(program)  # it had not got as far as to listen to it
        assert code == 0 or early, f"{program.who} ended with {code}: {self.log(program)}"
        self.running.remove(program)
        return time.monotonic() - asked

    def is_at_work(self, program: Program) -> bool:
        """Whether it has begun to handle items."""
        found = self.histories / f"{program.name}-{program.process.pid}.jsonl"
        program.begun = program.begun or (found.exists() and b'"began"' in found.read_bytes())
        return program.begun

    def log(self, program: Program) -> str:
        return (self.histories / f"{program.name}.log").read_text()[-2000:]

    def end(self) -> None:
        """Nobody is left, however the test went."""
        for program in self.started:
            if program.process.poll() is None:
                program.process.kill()
            program.process.wait()

    def report(self) -> Report:
        """What the checker says about everything that was recorded."""
        return check_history(read(self.histories))
