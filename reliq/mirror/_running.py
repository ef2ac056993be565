"""Several queues followed in one process: a thread for each."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing

from reliq.errors import NotMirrored
from reliq.mirror._journal import Journal
from reliq.mirror.follower import Follower, Pace, adopt
from reliq.mirror.store import Store, query, translated
from reliq.queue import Queue


def follow_all(store: Store, queues: Sequence[Queue], pace: Pace, stop: threading.Event, *, once: bool) -> None:
    """Follows queues until all have ended, or one has with an error; that one ends the others and is raised."""
    followers = [Follower(store, queue, pace, stop) for queue in queues]
    if len(followers) == 1:
        followers[0].run(once=once)
        return
    raised: list[BaseException] = []

    def work(follower: Follower) -> None:
        try:
            follower.run(once=once)
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            raised.append(error)
            stop.set()

    threads = [threading.Thread(target=work, args=(follower,), name="reliq-mirror") for follower in followers]
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
