"""The run itself: a server, a queue, an SMTP server, worker processes, one of which is killed."""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from reliq.demo import report, smtplog
from reliq.demo.crash import Crash, kill_between
from reliq.demo.loss import Insurance, Loss
from reliq.demo.processes import Child, Crew
from reliq.demo.progress import Display
from reliq.demo.recipients import Recipients
from reliq.demo.report import Report
from reliq.demo.smtplog import Accepted
from reliq.demo.workers import CAPACITY
from reliq.embedded import Server, shared_server
from reliq.errors import ReliqError
from reliq.info import Counts
from reliq.item import New
from reliq.queue import Queue

VICTIM = "worker-1"
_TICK = 0.005  # seconds between looks at the log
_SHORT = 3.0  # seconds for a server to answer where a user waits for the demo to begin or to end
_COUNTS_EVERY = 0.1  # seconds between looks at the queue's counts
_REPLACEMENTS = 10  # workers that may end by themselves before that is an error
_PATIENCE = 60.0  # seconds beyond a lease without anything happening


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: a server's URL (None: a server of its own), workers, seconds of lease, where to keep SMTP's log, and
    whether that server is to be lost on the way.
    """

    url: str | None = None
    workers: int = 3
    lease: float = 3.0
    smtp_log: Path | None = None
    lose_redis: bool = False


class Scenario:
    """One run. A context manager: whatever it started is gone after it, unless the server is not its own.

    If the process dies in here its children notice and end by themselves.
    """

    def __init__(self, found: Recipients, plan: Plan, display: Display) -> None:
        self.found = found
        self.plan = plan
        self.display = display
        self.total = len(found.recipients)
        self.crash: Crash | None = None
        self.loss: Loss | None = None
        self._stack = ExitStack()
        self._replaced = 0
        self._accepted = 0  # mails in the SMTP log so far
        self._sent_by_victim: deque[Accepted] = deque(maxlen=4 * CAPACITY)

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._start(started)
            self._stack = started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, tb)

    def _start(self, stack: ExitStack) -> None:
        server = None if self.plan.url else stack.enter_context(Server())
        self.url = server.socket_url if server else _address(self.plan.url or "")
        name = f"demo-{secrets.token_hex(4)}"
        with Queue(name, self.url, timeout=_SHORT) as first_contact:
            first_contact.pause(claim=True)  # all workers begin at the same time
        self.queue = stack.enter_context(Queue(name, self.url))
        if self.plan.url:
            stack.callback(self._leave_nothing)
        if server and self.plan.lose_redis:
            self._insurance = stack.enter_context(Insurance(server, name))
        arguments = [str(self.plan.smtp_log)] if self.plan.smtp_log else []
        self._smtp = stack.enter_context(Child("the SMTP server", "reliq.demo.smtp", *arguments))
        greeting = json.loads(self._smtp.greeting())
        self._port, self._log = greeting["port"], Path(greeting["log"])
        self._tail = smtplog.Tail(self._log)
        self._workers = stack.enter_context(Crew())

    def _leave_nothing(self) -> None:
        """Empties the queue on a server that is not ours. What a killed worker held is purged when its lease ends."""
        try:
            with Queue(self.queue.name, self.url, timeout=_SHORT) as queue:
                deadline = time.monotonic() + self.plan.lease + _SHORT
                while queue.counts().in_progress and time.monotonic() < deadline:
                    queue.recover()
                    time.sleep(_TICK)
                queue.purge()
                queue.purge("finished")
        except ReliqError as error:
            self.display.say(f"queue {self.queue.name} may be left on the server: {error}")

    def run(self, reported: int) -> Report:
        """Delivers everything, kills a worker on the way, and returns the account.

        Args:
            reported: malformed lines that were shown to the user.

        Raises:
            ChildFailed: a process ended that should not.
            ReliqError: the server can't be used.
        """
        self._enqueue()
        self._add_crew()
        self.display.begin(self.total)
        started = time.monotonic()
        self.queue.resume()
        self._watch()
        seconds = time.monotonic() - started
        self._workers.stop()
        return self._account(reported, seconds)

    def _enqueue(self) -> None:
        """Twice, as after a lost reply: the second time nothing must be new."""
        first, second = (self.queue.enqueue_many(self._items()) for _ in range(2))
        created, again = (sum(one.created for one in outcome) for outcome in (first, second))
        self.display.say(f"enqueued {created} items; enqueued again: {again} new, {len(second) - again} known already")

        if self.plan.lose_redis:
            self._insurance.await_rows(self.total)
            self.display.say(f"Postgres has a row for each of the {self.total} items")

    def _add_crew(self) -> None:
        for worker in [self._add_worker() for _ in range(self.plan.workers)]:
            worker.greeting()

    def _items(self) -> Iterator[New]:
        return (New(recipient.payload, id=recipient.item_id) for recipient in self.found.recipients)

    def _add_worker(self) -> Child:
        arguments = (self.queue.name, str(self._port), str(self.plan.lease), name := self._workers.next_name())
        child = Child(name, "reliq.demo.workers", *arguments, environment={"RELIQ_URL": self.url})
        self._workers.add(child)
        return child

    def _watch(self) -> None:
        """Until nothing waits for a worker any more, or nothing has happened for long."""
        last: object = None
        changed_at = look_at = time.monotonic()
        while time.monotonic() - changed_at < self.plan.lease + _PATIENCE:
            self._read_log()
            self._maybe_kill()
            self._maybe_lose()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _COUNTS_EVERY
                counts = self._look()
                if not counts.waiting:
                    return
                if (counts, self._accepted) != last:
                    last, changed_at = (counts, self._accepted), time.monotonic()
            time.sleep(_TICK)

    def _look(self) -> Counts:
        self._smtp.check()
        for worker in [child for child in self._workers.living if child.has_ended()]:
            self._replace(worker)
        counts = self.queue.counts()
        self.display.update(counts, self._accepted)
        return counts

    def _replace(self, worker: Child) -> None:
        """For a worker that somebody else has ended: its items come back too. One that failed by itself is a bug."""
        self._replaced += 1
        if worker.failed() or self._replaced > _REPLACEMENTS:
            worker.check()
        self._workers.living.remove(worker)
        self.display.say(f"{worker.obituary()} It was not the demo that did it; {self._add_worker().name} replaces it")

    def _read_log(self) -> None:
        for mail in self._tail.fresh():
            self._accepted += 1
            if mail.worker == VICTIM:
                self._sent_by_victim.append(mail)

    def _sent(self) -> Iterable[Accepted]:
        self._read_log()
        return self._sent_by_victim

    def _maybe_kill(self) -> None:
        """Kills a worker once a tenth is delivered; from half on whatever it holds."""
        victim = next((worker for worker in self._workers.living if worker.name == VICTIM), None)
        if victim is None or not self._sent_by_victim or self._accepted < self.total / 10:
            return
        self.crash = kill_between(victim, self._sent, self.queue, insist=self._accepted > self.total / 2)
        if self.crash is not None:
            self._workers.living.remove(victim)
            self._add_worker()
            self.display.say(self._told(self.crash))

    def _maybe_lose(self) -> None:
        """Once a quarter is delivered Redis goes, with what it had. Workers that meet the empty one stop."""
        if not self.plan.lose_redis or self.loss is not None or self._accepted < self.total / 4:
            return
        killed_at = self._insurance.lose()
        self.display.say("killed Redis (SIGKILL), removed its data, started an empty one: workers refuse to go on")
        self._workers.stop()
        self.loss = self._insurance.bring_back(killed_at)
        self.display.say(
            f"rebuilt from Postgres in {self.loss.seconds:.1f} s: {self.loss.rebuilt} items came back in order, "
            f"{self.loss.remembered} ids are remembered; {'verified' if self.loss.verified else 'NOT VERIFIED'}"
        )
        self.queue.close()  # of connections to the old server
        self.queue.adopt()
        self.queue.resume()  # closed until all had begun: Postgres may not have heard that this was over
        self._add_crew()

    def _told(self, crash: Crash) -> str:
        return (
            f"killed {crash.worker} (pid {crash.pid}, SIGKILL). {len(crash.unfinished)} of its items were accepted by "
            f"SMTP and not finished; what it held comes back when its lease of {self.plan.lease:g} s ends"
        )

    def _account(self, reported: int, seconds: float) -> Report:
        """From the log as the SMTP server wrote it, read again from its start."""
        mails = smtplog.read(self._log)
        return report.reconcile(self.found, reported, mails, self.crash, self.queue.counts(), seconds, self.loss)


def _address(url: str) -> str:
    """A URL under which worker processes find the same server as we do."""
    return shared_server(url) if url.startswith("embedded:") else url
