"""The watch over a Sentinel topology: one thread for all queues of the process, sync and asyncio, that use it.

It asks all Sentinels in parallel, each at its own pace, and listens to their announcements. What it learns it tells
its listeners, who give up their connections to the old master: that one may call itself a master for ten seconds more,
and what it takes in that time is lost.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from reliq import _topology
from reliq._policy import Applied, Retry
from reliq._sentinel_link import ABORTED, PROMOTING, SentinelLink
from reliq._topology import Address, Answer, Known, Sentinel, shown

log = logging.getLogger("reliq.sentinel")

CALM = 1.0  # seconds between two questions to a Sentinel
HURRY = 0.1  # the same, while something is wrong
TROUBLED = 10.0  # seconds for which somebody's asking for the master, or an announcement, counts as something wrong
LONGEST_DOUBT = 5.0  # seconds to wait for the outcome of a promotion, before the known master is used again
STUCK = LONGEST_DOUBT + 5.0  # seconds after which an answer from our own thread is not waited for any more


class Listener(Protocol):
    """Who wants to hear of changes."""

    def changed(self, old: Address, new: Address | None) -> None:
        """The master is another one; or, with None, is about to be. Called in the watch's thread: be quick."""


@dataclass(eq=False, slots=True)
class _Question:
    """Somebody waits for the master, as the Sentinels see it from round `number` on."""

    number: int
    until: float
    answer: Future[Address] = field(default_factory=Future)


class Watch:
    """What the Sentinels of a topology say. Threads may share it. Use `join`, not this class."""

    def __init__(self, sentinel: Sentinel) -> None:
        self.known: Known | None = None
        self.listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self.ended = False
        self._sentinel = sentinel
        self._answers: dict[Address, tuple[Answer, int]] = {}
        self._links: dict[Address, SentinelLink] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._questions: list[_Question] = []
        self._round = 0
        self._troubled_until = 0.0
        self._doubt_until = 0.0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.thread = threading.Thread(target=self._run, name="reliq-sentinel", daemon=True)
        self.thread.start()

    # For other threads

    def resolve(self) -> Future[Address]:
        """Asks all Sentinels for the master.

        Returns:
            A future of its address. It comes when more than half of the Sentinels have answered, or each has answered
            or failed, or after `sentinel_timeout`; while a promotion is under way, when its outcome is known. The
            future fails with `Retry`, `AccessDenied` or `Unavailable` where no master was ever known.
        """
        question = _Question(0, 0.0)
        try:
            self._loop.call_soon_threadsafe(self._enlist, question)
        except RuntimeError:  # it has just ended, because nobody used it
            question.answer.set_exception(_closed())
        return question.answer

    def replicas(self) -> int:
        """How many replicas the master has, those that are away included, by who knows of the most."""
        return max((answer.replicas for answer, _ in list(self._answers.values())), default=0)

    def remarks(self) -> str:
        """What is wrong with the Sentinels, for a message; empty where most of them name a master."""
        answers = [answer for answer, _ in list(self._answers.values())]
        bad = [answer for answer in answers if not answer.master]
        return f" (Sentinels: {'; '.join(map(str, bad))})" if len(bad) * 2 > len(answers) else ""

    def end_if_unused(self) -> None:
        """Stops the thread where nobody listens any more."""
        with _lock:
            if self.listeners or self.ended:
                return
            self.ended = True
            _watches.pop(self._sentinel, None)
        self._loop.call_soon_threadsafe(self._stop.set)

    def forked(self) -> None:
        """In a forked child: the thread is not here, and its connections are the parent's."""
        self.ended = True
        for link in self._links.values():
            link.leave_to_parent()

    # In its own thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._watch())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    async def _watch(self) -> None:
        for address in self._sentinel.listed:
            self._add(address)
        await self._stop.wait()
        await asyncio.gather(*(link.close() for link in self._links.values()), *self._closing)
        for question in self._questions:
            question.answer.set_exception(_closed())

    def _add(self, address: Address) -> None:
        self._links[address] = SentinelLink(
            self._sentinel, address, pace=self._pace, report=self._reported, announced=self._announced
        )

    def _pace(self) -> float:
        hurry = time.monotonic() < self._troubled_until and self._troubling()
        return HURRY if hurry else CALM

    def _troubling(self) -> bool:
        """Whether any Sentinel sees something wrong with the master, or there is none."""
        flags = {flag for answer, _ in self._answers.values() for flag in answer.flags}
        return self.known is None or self._in_doubt() or bool(flags & _topology.TROUBLE)

    def _enlist(self, question: _Question) -> None:
        if self._stop.is_set():
            question.answer.set_exception(_closed())
            return
        self._hurry()
        question.number, question.until = self._round, time.monotonic() + self._sentinel.sentinel_timeout
        self._questions.append(question)
        self._loop.call_later(self._sentinel.sentinel_timeout, self._settle)

    def _hurry(self) -> None:
        self._troubled_until = time.monotonic() + TROUBLED
        self._round += 1
        for link in self._links.values():
            link.nudge(self._round)

    def _announced(self, channel: bytes) -> None:
        log.debug("%s announced for %s", channel.decode(), self._sentinel.name)
        if channel == PROMOTING:
            self._doubt()
        elif channel in ABORTED:
            self._doubt_until = 0.0
        self._hurry()

    def _doubt(self) -> None:
        """A replica is being promoted, and the master still lives: what it takes from now on may be lost."""
        if self.known is None or self._in_doubt():
            return
        self._doubt_until = time.monotonic() + LONGEST_DOUBT
        self._loop.call_later(LONGEST_DOUBT + 0.01, self._settle)
        log.info("a replica of %s is being promoted; waiting for the outcome", self._sentinel.name)
        self._tell(self.known.master, None)

    def _in_doubt(self) -> bool:
        return time.monotonic() < self._doubt_until

    def _reported(self, answer: Answer, number: int) -> None:
        if answer.sentinel in self._links:
            self._answers[answer.sentinel] = (answer, number)
            self._learn()
            self._decide()
            self._settle()
        if not self.listeners:
            self.end_if_unused()

    def _learn(self) -> None:
        """Asks also those Sentinels that were not listed, and no more those that nobody knows any more."""
        answers = [answer for answer, _ in self._answers.values()]
        wanted = {*self._sentinel.listed, *_topology.unlisted(self._sentinel, answers)}
        for address in wanted - set(self._links):
            self._add(address)
        for address in set(self._links) - wanted:
            if self._answers.get(address, (Answer(address), 0))[0].failure:
                self._answers.pop(address, None)
                task = asyncio.create_task(self._links.pop(address).close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _decide(self) -> None:
        before = self.known
        answers = [answer for answer, _ in self._answers.values()]
        self.known = after = _topology.judge(answers, before, time.monotonic())
        if before is None or after is None or (before.master, before.epoch) == (after.master, after.epoch):
            return
        self._doubt_until = 0.0
        if before.master != after.master:
            old, new = shown(before.master), shown(after.master)
            log.warning("the master of %s is now %s, was %s (epoch %d)", self._sentinel.name, new, old, after.epoch)
        self._tell(before.master, after.master)

    def _tell(self, old: Address, new: Address | None) -> None:
        for listener in list(self.listeners):
            try:
                listener.changed(old, new)
            except Exception:
                log.exception("a connection to the old master of %s was not given up", self._sentinel.name)

    def _settle(self) -> None:
        """Answers those questions for which enough is known."""
        if self._in_doubt():
            return
        open_questions, self._questions = self._questions, []
        for question in open_questions:
            if not self._enough(question):
                self._questions.append(question)
            elif question.answer.set_running_or_notify_cancel():
                self._answer(question.answer)

    def _enough(self, question: _Question) -> bool:
        fresh = [answer for answer, number in self._answers.values() if number >= question.number]
        agreed = sum(answer.master is not None for answer in fresh) * 2 > len(self._links)
        return agreed or len(fresh) >= len(self._links) or time.monotonic() >= question.until

    def _answer(self, answer: Future[Address]) -> None:
        if self.known:
            answer.set_result(self.known.master)
        else:
            answers = [answer for answer, _ in self._answers.values()]
            silent = [Answer(address, failure="no answer yet") for address in self._links.keys() - self._answers.keys()]
            answer.set_exception(_topology.no_master(self._sentinel.name, [*answers, *silent]))


def _closed() -> Retry:
    return Retry("the queue was closed meanwhile", Applied.NO)


_watches: dict[Sentinel, Watch] = {}
_lock = threading.RLock()  # a listener may be collected, and so leave, while its own thread joins
_inherited: list[Watch] = []  # in a forked child: never collected, because its loop's end would disturb the parent's


def join(sentinel: Sentinel, listener: Listener) -> Watch:
    """The process's watch over a topology; starts it where there is none. It ends when nobody listens any more.

    Args:
        sentinel: the topology.
        listener: held weakly; leaves by `leave`, or by being forgotten.
    """
    key = sentinel.watched()
    with _lock:
        watch = _watches.get(key)
        if watch is None:
            watch = _watches[key] = Watch(key)
        watch.listeners.add(listener)
        return watch


def leave(watch: Watch, listener: Listener) -> None:
    """Stops listening. In a forked child, or after the end, it does nothing."""
    watch.listeners.discard(listener)
    watch.end_if_unused()


def _forked() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it, and will not release this copy
    _lock = threading.RLock()
    for watch in _watches.values():
        watch.forked()
    _inherited.extend(_watches.values())
    _watches.clear()


def _stop_all() -> None:
    """At the end of the process: no thread of ours runs into the interpreter's own end."""
    for watch in list(_watches.values()):
        watch.listeners.clear()
        watch.end_if_unused()
        watch.thread.join(1.0)


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_forked)
