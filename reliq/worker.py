"""A worker: claims, runs a handler in threads, renews leases beside it, retries, and stops without losing anything.

The main thread claims and settles; handler threads only run the handler; one thread renews. A handler that blocks for
long does not keep leases from being renewed.
"""

from __future__ import annotations

import logging
import queue as queues
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from reliq import _arguments, _policy
from reliq._policy import Seconds
from reliq.errors import InvalidArgument, LeaseLost, ReliqError, Unavailable
from reliq.item import Item
from reliq.queue import Queue

log = logging.getLogger("reliq.worker")

Handler = Callable[[Item], object]

IDLE_WAIT = 2.0  # seconds of one waiting claim; bounds how long a stop can take on an idle queue
PACE_SECONDS = 0.05  # over which the rate of handling is taken: short, so that a start is not slow for long
STANDSTILL = 1.0  # seconds without an item handled after which the surplus goes back
RENEWALS_PER_LEASE = 3  # two renewals may fail before a lease ends


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did: items finished, failed, given back unstarted, and lost to others."""

    finished: int = 0
    failed: int = 0
    released: int = 0
    lost: int = 0


class _Pace:
    """How many items a second were handled of late."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._count, self._since = 0, time.monotonic()
        self._moved = self._since

    def standstill(self) -> float:
        """Seconds since an item was handled."""
        return time.monotonic() - self._moved

    def add(self, count: int) -> None:
        self._count += count
        if count:
            self._moved = time.monotonic()
        elapsed = time.monotonic() - self._since
        if elapsed >= PACE_SECONDS:
            self.rate = self._count / elapsed
            self._count, self._since = 0, time.monotonic()


class Worker:
    """Runs a handler for each item of a queue until it is stopped.

    A handler that returns finishes its item. One that raises fails it: it is tried again as the queue's settings say.
    Items whose lease was lost are not settled by this worker, whatever their handler did.

    Args:
        queue: where items come from.
        handler: called with each `Item`, in one of `concurrency` threads.
        lease: seconds after which the items of a worker that died are claimed by others. Renewed while handlers run.
        concurrency: handler threads, 1 to 1,000.
        prefetch: items claimed beyond those that are handled; they are given back, unblamed, when the worker stops.
            None: what the handlers get through in a tenth of a second, up to 100; when they stand still for a second,
            one for each of them.
        max_items: stop after this many items have been settled; None for no end.
        return_when_empty: stop when the queue has nothing to claim.

    Raises:
        InvalidArgument.
    """

    def __init__(
        self,
        queue: Queue,
        handler: Handler,
        *,
        lease: Seconds = _arguments.DEFAULT_LEASE,
        concurrency: int = 1,
        prefetch: int | None = None,
        max_items: int | None = None,
        return_when_empty: bool = False,
    ) -> None:
        if not callable(handler):
            raise InvalidArgument(f"a handler is called with each item; {handler!r} can't be called")
        self.queue = queue
        self.handler = handler
        self.lease = _arguments.lease_length(lease)
        self.concurrency = _policy.whole(concurrency, "concurrency", low=1, high=1000)
        self.prefetch = None if prefetch is None else _policy.whole(prefetch, "prefetch", low=0, high=1000)
        self.max_items = max_items
        self.return_when_empty = return_when_empty
        self._stop = threading.Event()
        self._held: dict[bytes, Item] = {}  # claimed and not settled; the renewing thread reads it
        self._lock = threading.Lock()
        self._handed_out: dict[bytes, Future[None]] = {}  # by the key of the item; the main thread's
        self._done: queues.SimpleQueue[tuple[Item, BaseException | None, bool]] = queues.SimpleQueue()
        self._counts = {"finished": 0, "failed": 0, "released": 0, "lost": 0}
        self._pace = _Pace()

    def stop(self) -> None:
        """Asks the worker to stop: no further claim, running handlers end, the rest goes back. From any thread."""
        self._stop.set()

    def run(self, *, signals: bool = True) -> WorkerReport:
        """Works until it is stopped: by `stop`, SIGTERM, SIGINT, or its limits.

        Args:
            signals: stop on SIGTERM and SIGINT. Only in the main thread; elsewhere nothing is installed.

        Returns:
            What it did.

        Raises:
            ReliqError: the queue can't be used: its state was lost, the server refuses. An unreachable server is no
                reason to end: the worker goes on trying.

        If the process dies in here, what it held is claimed by others when the lease ends.
        """
        restore = self._catch_signals() if signals and threading.current_thread() is threading.main_thread() else {}
        renewing = threading.Thread(target=self._renew_until_stopped, name="reliq-renew", daemon=True)
        self._renewed_last = threading.Event()
        renewing.start()
        try:
            with ThreadPoolExecutor(self.concurrency, thread_name_prefix="reliq-handler") as threads:
                try:
                    self._work(threads)
                finally:
                    self._stop.set()
                    self._give_back(threads)
                    self._settle_rest()
        finally:
            self._renewed_last.set()
            renewing.join()
            for number, before in restore.items():
                signal.signal(number, before)
        return WorkerReport(**self._counts)

    # The main thread: claim, hand out, settle

    def _work(self, threads: ThreadPoolExecutor) -> None:
        while not self._stop.is_set() and not self._enough():
            room = self._room()
            idle = not self._held
            claimed = self._claim(room, IDLE_WAIT if idle and not self.return_when_empty else 0.0) if room else []
            for item in claimed or ():
                with self._lock:
                    self._held[item.key] = item
                self._handed_out[item.key] = threads.submit(self._handle, item)
            if idle and claimed == [] and self.return_when_empty:
                return
            self._settle(wait=bool(self._held) and not claimed)
            self._give_back_surplus()

    def _give_back_surplus(self) -> None:
        """What was claimed while handlers were fast does not wait behind those that have come to stand still."""
        if self.prefetch is not None or self._pace.standstill() < STANDSTILL:
            return
        waiting = [key for key, future in self._handed_out.items() if not future.running() and not future.done()]
        for key in waiting[self.concurrency :]:
            if self._handed_out[key].cancel():
                self._done.put((self._held[key], None, False))

    def _room(self) -> int:
        """Items to claim now: none while half of what may be held is there and every handler has an item."""
        ahead = _policy.prefetch(self.concurrency, self._pace.rate) if self.prefetch is None else self.prefetch
        capacity, held = min(_policy.MAX_BATCH, self.concurrency + ahead), len(self._held)
        if held >= self.concurrency and held > capacity // 2:
            return 0
        if self.max_items is not None:
            capacity = min(capacity, self.max_items - self._settled())
        return max(0, capacity - held)

    def _settled(self) -> int:
        return self._counts["finished"] + self._counts["failed"] + self._counts["lost"]

    def _enough(self) -> bool:
        return self.max_items is not None and self._settled() >= self.max_items

    def _claim(self, room: int, wait: float) -> list[Item] | None:
        """Items; None where the server did not say whether there are any."""
        try:
            return self.queue.claim(room, lease=self.lease, wait=wait)
        except Unavailable as error:
            log.warning("queue %s: %s", self.queue.name, error)
            return None

    def _settle(self, *, wait: bool) -> None:
        """Finishes and fails what handlers are through with: all of it in one call each."""
        done = self._take_done(wait)
        self._pace.add(len(done))
        finished = [item for item, error, started in done if started and error is None]
        failed = [(item, error) for item, error, started in done if started and error is not None]
        unstarted = [item for item, _, started in done if not started]
        if finished:
            self._counts["finished"] += self._settle_by(self.queue.finish, finished)
        for item, error in failed:
            self._counts["failed"] += self._settle_by(partial(self.queue.fail, error=error), [item])
        if unstarted:
            self._counts["released"] += self._settle_by(self.queue.release, unstarted)

    def _take_done(self, wait: bool) -> list[tuple[Item, BaseException | None, bool]]:
        done = []
        try:
            if wait:
                done.append(self._done.get(timeout=0.1))
            while True:
                done.append(self._done.get_nowait())
        except queues.Empty:
            return done

    def _settle_by(self, verb: Callable[[list[Item]], Any], items: list[Item]) -> int:
        """Settles items. What can't be settled now comes back when its lease ends. Returns how many were."""
        lost = 0
        try:
            verb(items)
        except LeaseLost as error:
            lost = len(error.ids)
            log.warning("%s", error)
        except Unavailable as error:
            lost = len(items)
            log.warning("queue %s: %d items are handled again: %s", self.queue.name, lost, error)
        finally:
            with self._lock:
                for item in items:
                    self._held.pop(item.key, None)
                    self._handed_out.pop(item.key, None)
        self._counts["lost"] += lost
        return len(items) - lost

    # Handler threads

    def _handle(self, item: Item) -> None:
        if self._stop.is_set():
            self._done.put((item, None, False))
            return
        try:
            self.handler(item)
        except Exception as error:  # the handler is the user's: whatever it raises is a failed attempt
            log.info("queue %s: item %s failed at attempt %d", self.queue.name, item.id, item.attempt, exc_info=True)
            self._done.put((item, error, True))
        except BaseException as error:
            self._done.put((item, error, True))
            self._stop.set()
            raise
        else:
            self._done.put((item, None, True))

    # Stopping

    def _give_back(self, threads: ThreadPoolExecutor) -> None:
        """Releases at once what no handler has begun, so that nobody waits for handlers that run."""
        threads.shutdown(wait=False, cancel_futures=True)
        for key, future in self._handed_out.items():
            if future.cancelled():
                self._done.put((self._held[key], None, False))
        self._settle(wait=False)

    def _settle_rest(self) -> None:
        while self._held:
            self._settle(wait=True)

    def _catch_signals(self) -> dict[int, Any]:
        def stop(number: int, _: FrameType | None) -> None:
            log.info("signal %d: stopping", number)
            self.stop()

        return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}

    # The renewing thread

    def _renew_until_stopped(self) -> None:
        while not self._renewed_last.wait(self.lease / RENEWALS_PER_LEASE):
            with self._lock:
                held = list(self._held.values())
            if held:
                self._renew(held)

    def _renew(self, held: list[Item]) -> None:
        started = time.monotonic()
        try:
            self.queue.renew(held, self.lease)
        except LeaseLost as error:
            log.warning("%s", error)
        except ReliqError as error:
            log.warning("queue %s: not renewed for %.1f s: %s", self.queue.name, time.monotonic() - started, error)
