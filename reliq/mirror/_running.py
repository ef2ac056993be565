"""What keeps a mirror true, run together: a thread for each of several queues, and one for each of several tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from reliq.errors import NotMirrored
from reliq.mirror._journal import Journal
from reliq.mirror.follower import Follower, Pace, adopt
from reliq.mirror.store import Store, query, translated
from reliq.queue import Queue


def follow_all(store: Store, queues: Sequence[Queue], pace: Pace, stop: threading.Event, *, once: bool) -> None:
    """Follows queues until all have ended, or one has with an error; that one ends the others and is raised."""
    followers = [Follower(store, queue, pace, stop) for queue in queues]
    together([partial(follower.run, once=once) for follower in followers], stop)


def together(tasks: Sequence[Callable[[], object]], stop: threading.Event) -> None:
    """Runs tasks that end when `stop` is set, until all have. The first error sets it, and is raised."""
    if len(tasks) == 1:
        tasks[0]()
        return
    raised: list[BaseException] = []

    def work(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            raised.append(error)
            stop.set()

    threads = [threading.Thread(target=work, args=(task,), name="reliq-mirror") for task in tasks]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if raised:
        raise raised[0]


def adopt_queue(store: Store, queue: Queue) -> None:
    """Gives the mirror the epoch that Redis has."""
    journal = Journal(queue)
    with translated(store.dsn), closing(store.connect()) as connection:
        if not query(connection, "read_queue", {"queue": queue.name}):
            raise NotMirrored(f"Postgres knows no queue {queue.name!r}")
        adopt(connection, journal, queue.name, journal.facts().epoch)
