"""Workers as processes that are told to stop, and that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from servers import wait_until
from worker import program_fleet
from worker.conftest import Start

from reliq import InvalidArgument, Item, Queue, Worker
from reliq._supervisor import Supervisor
from reliq.embedded import Server
from reliq.health import Vitals

ROOT = Path(__file__).parents[2]
LEASE = 0.6
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(server: Server) -> Iterator[Spawn]:
    """Starts worker processes; those that still run are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def spawn_one(*, lease: float = 30, prefetch: int = 0) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(Path(__file__).with_name("program.py")),
            server.socket_url,
            str(lease),
            str(prefetch),
        ]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        return started[-1]

    yield spawn_one
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_gives_back_what_was_not_started(number: signal.Signals, queue: Queue, spawn: Spawn) -> None:
    """The running handler ends and is finished; the others go back in order, unblamed; the process ends with 0."""
    queue.enqueue_many(range(10))
    process = spawn(prefetch=5)
    assert next_line(process) == "began 0 1"
    wait_until(lambda: queue.counts().in_progress == 6, "the worker holds items ahead")
    process.send_signal(number)
    wait_until(lambda: queue.counts().in_progress == 1, "they are given back while the handler runs")
    let_go_on(process)
    asked = time.monotonic()
    assert next_line(process) == "ended 1 5"
    assert process.wait(10) == 0
    assert time.monotonic() - asked < 3
    items = queue.claim(10)
    assert [item.payload for item in items] == list(range(1, 10))
    assert {item.attempt for item in items} == {1}
    assert queue.counts().finished == 1


def test_signal_to_an_idle_worker(queue: Queue, spawn: Spawn) -> None:
    """A worker that waits for items ends soon after SIGTERM."""
    queue.enqueue("payload")
    process = spawn()
    assert next_line(process) == "began payload 1"
    let_go_on(process)
    wait_until(lambda: queue.counts().finished, "it is idle")
    asked = time.monotonic()
    process.terminate()
    assert process.wait(10) == 0
    assert time.monotonic() - asked < 5


def test_killed_worker(queue: Queue, spawn: Spawn, start: Start) -> None:
    """What a killed process held is handled by another worker when the lease has ended, prefetched items too."""
    queue.enqueue_many(range(4))
    process = spawn(lease=LEASE, prefetch=3)
    assert next_line(process) == "began 0 1"
    wait_until(lambda: queue.counts().in_progress == 4, "it holds all items")
    process.kill()
    killed = time.monotonic()
    handled: list[tuple[int, int, int]] = []

    def handle(item: Item) -> None:
        handled.append((item.payload, item.delivery, item.attempt))

    report = start(Worker(queue, handle, max_items=4)).result(20)
    assert time.monotonic() - killed < LEASE + 2.5  # a waiting claim sweeps, and blocks until the first lease ends
    assert report.finished == 4
    assert handled == [(number, 2, 1) for number in range(4)]


def test_stopped_worker_wakes_up_too_late(queue: Queue, spawn: Spawn, start: Start) -> None:
    """A process that was suspended past its lease finds that somebody else has done its work, and goes on."""
    queue.enqueue("payload", id="one")
    process = spawn(lease=LEASE)
    assert next_line(process) == "began payload 1"
    process.send_signal(signal.SIGSTOP)
    report = start(Worker(queue, lambda _: None, max_items=1)).result(20)
    assert report.finished == 1
    process.send_signal(signal.SIGCONT)
    let_go_on(process)
    queue.enqueue("next")
    assert next_line(process) == "began next 1"
    let_go_on(process)
    wait_until(lambda: queue.counts().finished == 2, "the next item is finished")
    process.terminate()
    assert next_line(process) == "ended 1 0"


# Several processes under a supervisor


def command_of(process: psutil.Process) -> str:
    """Its command line; nothing for one that has ended, whether its parent has seen that or not."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a ZombieProcess is one
        return ""


class Fleet:
    """A supervisor process, and what its handlers have said so far."""

    def __init__(self, url: str, folder: Path, options: dict[str, Any], **environment: str) -> None:
        program = str(Path(__file__).with_name("program_fleet.py"))
        command = [sys.executable, program, url, str(folder), json.dumps({"processes": 2, **options})]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.folder, self.errors = folder, (folder / "errors").open("w+")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"PYTHONPATH": path, **environment},
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def began(self, word: str, delivery: int = 1) -> list[int]:
        """Pids of the processes that began items whose payload begins so."""
        found = [line.split() for line in list(self.lines) if line.startswith(f"began {word}")]
        return [int(pid) for _, _, claims, pid in found if int(claims) == delivery]

    def let_go_on(self) -> None:
        (self.folder / "go").touch()

    def last_words(self, timeout: float = 20) -> str:
        """What the supervisor said at its end."""
        self.process.wait(timeout)
        self._reading.join(10)
        return self.lines[-1] if self.lines else self.log()

    def log(self) -> str:
        return (self.folder / "errors").read_text()

    def workers(self) -> list[psutil.Process]:
        """The processes below it that run handlers."""
        below = psutil.Process(self.process.pid).children()
        return [child for child in below if "spawn_main" in command_of(child)]

    def end(self) -> None:
        family = [self.process.pid]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]
        for pid in [*family, *{pid for line in self.lines if (pid := pid_in(line))}]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reading.join(10)
        self.errors.close()
        assert self.process.stdout is not None
        self.process.stdout.close()


def pid_in(line: str) -> int | None:
    """The pid in a line of a handler, if its process is still one of ours."""
    words = line.split()
    if len(words) != 4 or words[0] != "began" or not psutil.pid_exists(int(words[3])):
        return None
    return int(words[3]) if "spawn_main" in " ".join(psutil.Process(int(words[3])).cmdline()) else None


@pytest.fixture
def fleet(server: Server, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Starts workers of two processes; what is left of them is killed at the end."""
    started: list[Fleet] = []

    def start_one(environment: Mapping[str, str] | None = None, **options: Any) -> Fleet:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Fleet(server.socket_url, folder, options, **(environment or {})))
        return started[-1]

    yield start_one
    for one in started:
        one.end()


Begin = Callable[..., Fleet]


def test_processes_share_the_work(queue: Queue, fleet: Begin) -> None:
    """All items are handled once, by both processes, and the report is of both together."""
    queue.enqueue_many([f"slow-{number}" for number in range(60)])
    running = fleet(return_when_empty=True, prefetch=0)
    assert running.last_words() == "ended 60 0 0 0"
    assert len(set(running.began("slow"))) == 2
    assert len(running.began("slow")) == 60


def test_a_limit_of_items_is_shared_out(queue: Queue, fleet: Begin) -> None:
    """Seven items of twenty are handled, not seven by each."""
    queue.enqueue_many([f"slow-{number}" for number in range(20)])
    running = fleet(max_items=7)
    assert running.last_words() == "ended 7 0 0 0"
    assert queue.counts().queued == 13


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_all_processes(number: signal.Signals, queue: Queue, fleet: Begin) -> None:
    """Running handlers end and are finished, what was not begun goes back unblamed, the exit code is 0."""
    queue.enqueue_many([f"hold-{number:02}" for number in range(12)])
    running = fleet(prefetch=3)
    wait_until(lambda: len(running.began("hold")) == 2, "both processes are at work", timeout=20)
    begun = {line.split()[1] for line in running.lines}
    wait_until(lambda: queue.counts().in_progress == 8, "both hold items ahead")
    running.process.send_signal(number)
    wait_until(lambda: queue.counts().in_progress == 2, "what was not begun is given back")
    running.let_go_on()
    assert running.last_words() == "ended 2 0 6 0"
    assert running.process.returncode == 0
    items = queue.claim(20)
    left = {item.payload for item in items}
    assert left == {f"hold-{number:02}" for number in range(12)} - begun
    assert {item.attempt for item in items} == {1}


def test_a_second_signal_kills(queue: Queue, fleet: Begin) -> None:
    """Handlers that do not end are not waited for; their items come back, and the log names the processes."""
    queue.enqueue("hold")
    running = fleet(lease=LEASE)
    wait_until(lambda: running.began("hold"), "a handler runs", timeout=20)
    running.process.terminate()
    wait_until(lambda: "stopping 2 worker processes" in running.log(), "the first signal is heeded")
    running.process.terminate()
    assert running.last_words().startswith("ended 0 0 0")
    assert f"killing worker process {running.began('hold')[0]}" in running.log()
    wait_until(lambda: queue.recover().requeued, "the item comes back")


def test_shutdown_timeout(queue: Queue, fleet: Begin) -> None:
    """A stop does not wait for handlers beyond it."""
    queue.enqueue("hold")
    running = fleet(lease=LEASE, shutdown_timeout=0.3)
    wait_until(lambda: running.began("hold"), "a handler runs", timeout=20)
    running.process.terminate()
    running.process.wait(15)
    wait_until(lambda: queue.recover().requeued, "the item comes back")


def test_a_killed_process_is_replaced(queue: Queue, fleet: Begin) -> None:
    """What it held is handled again, by others; nothing is lost, and there are two processes again."""
    queue.enqueue_many(["hold", *(f"slow-{number}" for number in range(30))])
    running = fleet(lease=LEASE, prefetch=2)
    wait_until(lambda: running.began("hold"), "the item is begun", timeout=20)
    (first,) = running.began("hold")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: running.began("hold", 2), "somebody else has it", timeout=20)
    running.let_go_on()
    wait_until(lambda: queue.counts().finished == 31, "all items are finished", timeout=20)
    wait_until(lambda: len(running.workers()) == 2, "there are two processes again", timeout=20)
    assert first not in [process.pid for process in running.workers()]
    assert "starting a worker process again: it ended with -9" in running.log()
    running.process.terminate()
    assert running.last_words().startswith("ended")


def test_one_process_is_recycled(queue: Queue, fleet: Begin) -> None:
    """SIGTERM to one of them: it ends in an orderly way, and another one takes its place."""
    queue.enqueue("hold")
    running = fleet()
    wait_until(lambda: running.began("hold"), "the item is begun", timeout=20)
    (first,) = running.began("hold")
    os.kill(first, signal.SIGTERM)
    running.let_go_on()
    wait_until(lambda: queue.counts().finished == 1, "its item is finished")
    wait_until(lambda: first not in [process.pid for process in running.workers()], "it has ended")
    wait_until(lambda: len(running.workers()) == 2, "there are two processes again", timeout=20)
    running.process.terminate()
    assert running.last_words() == "ended 1 0 0 0"


def test_each_process_is_listed(queue: Queue, fleet: Begin) -> None:
    """Every process says what it does; when all have ended none is listed any more."""
    queue.configure()
    running = fleet(concurrency=3)
    wait_until(lambda: len(queue.workers()) == 2, "both are listed", timeout=20)
    known = queue.workers()
    assert {worker.pid for worker in known} == {process.pid for process in running.workers()}
    assert [(worker.kind, worker.concurrency) for worker in known] == [("process", 3)] * 2
    assert sum(worker.sweeps for worker in known) == 1
    running.process.terminate()
    assert running.last_words().startswith("ended")
    assert queue.workers() == []


def test_the_supervisor_is_killed(queue: Queue, fleet: Begin) -> None:
    """Its processes see that, end what they do, give back the rest and are gone: nothing waits for a lease."""
    queue.enqueue_many(["hold-1", "hold-2", "hold-3", "hold-4"])
    running = fleet(prefetch=1)
    wait_until(lambda: len(running.began("hold")) == 2, "both processes are at work", timeout=20)
    wait_until(lambda: queue.counts().in_progress == 4, "and hold one item ahead")
    workers = running.workers()
    running.process.kill()
    wait_until(lambda: queue.counts().in_progress == 2, "what was not begun is given back")
    running.let_go_on()
    wait_until(lambda: queue.counts().finished == 2, "what was begun is finished")
    gone = psutil.wait_procs(workers, timeout=10)[1]
    assert gone == []


def test_a_handler_that_keeps_the_interpreter_to_itself(queue: Queue, fleet: Begin) -> None:
    """For several leases, and with renewals by a process it keeps its item."""
    queue.enqueue("blocks")
    running = fleet(lease=1, renewals="process", max_items=2)
    wait_until(lambda: running.began("blocks"), "it is begun", timeout=20)

    def finished() -> bool:
        assert queue.recover().requeued == 0
        return queue.counts().finished == 1

    wait_until(finished, "it is finished")
    running.process.terminate()
    assert running.last_words() == "ended 1 0 0 0"


def test_a_paused_process_finds_its_work_done_by_another(queue: Queue, fleet: Begin) -> None:
    """One that was stopped past its lease is told so when it goes on, and its finish is refused."""
    queue.enqueue("hold", id="one")
    running = fleet(lease=LEASE, renewals="process")
    wait_until(lambda: running.began("hold"), "the item is begun", timeout=20)
    (first,) = running.began("hold")
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: running.began("hold", 2), "the other process has it")
    assert running.began("hold", 2) != [first]
    running.let_go_on()
    wait_until(lambda: queue.counts().finished == 1, "the other one finished it")
    os.kill(first, signal.SIGCONT)
    wait_until(lambda: "lease lost on" in running.log(), "the first one is told")
    running.process.terminate()
    assert running.last_words() == "ended 1 0 0 1"


def test_a_queue_that_is_gone_ends_all(queue: Queue, redis_client: redis.Redis, fleet: Begin) -> None:
    """A process that met a server without its queue is not started again: the supervisor raises what it raised."""
    queue.enqueue_many(["slow", "hold"])
    running = fleet()
    wait_until(lambda: running.began("hold") and queue.counts().finished, "both have been at work", timeout=20)
    redis_client.flushall()
    running.let_go_on()
    assert running.last_words().startswith("raised StateLost")
    assert running.process.returncode == 1


def test_the_health_of_all_processes(queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do is known together, is told to the worker's own vitals, and `stop` stops all of them."""
    monkeypatch.setenv("FOLDER", str(tmp_path))
    vitals = Vitals(handlers=2)
    worker = Worker(queue, program_fleet.handle, processes=2, prefetch=0, health=vitals)
    supervisor = Supervisor(worker, 2)
    with ThreadPoolExecutor() as pool, ExitStack() as at_last:
        at_last.callback(worker.stop)
        at_last.callback((tmp_path / "go").touch)
        result = pool.submit(supervisor.run)
        wait_until(vitals.ready, "both are ready", timeout=20)
        queue.enqueue_many(["hold-1", "hold-2"])
        wait_until(lambda: supervisor.facts()["busy"] == 2, "both are at work")
        assert supervisor.facts()["ready"]
        assert len({facts["pid"] for facts in supervisor.facts()["processes"]}) == 2
        (tmp_path / "go").touch()
        wait_until(lambda: queue.counts().finished == 2, "both are through")
        worker.stop()
        assert result.result(20).finished == 2


def test_a_handler_that_cannot_be_handed_over(queue: Queue) -> None:
    """A lambda, an inner function: said before anything is started, with what to do."""
    with pytest.raises(InvalidArgument, match="defined at the top of a module"):
        Worker(queue, lambda _: None, processes=2).run()


def test_a_program_that_cannot_be_imported(queue: Queue, fleet: Begin) -> None:
    """Where every first start fails the supervisor gives up, with the reason."""
    queue.enqueue("payload")
    running = fleet({"BROKEN": "1"})
    words = running.last_words(40)
    assert words.startswith("raised InvalidArgument no worker process could be started: it ended with 1.")
    assert queue.counts().queued == 1
