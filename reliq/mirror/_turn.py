"""The time in which a follower is the active one: it reads the journal and keeps the rows as the items are."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from reliq import errors
from reliq.errors import MirrorConflict, Rebuilding, StaleEpoch
from reliq.mirror._copying import Target, copy_batches, copy_settings
from reliq.mirror._journal import NONE_ENDED, Facts, Journal, Page, order
from reliq.mirror._pending import Pending
from reliq.mirror._plan import too_old
from reliq.mirror._resync import Resync
from reliq.mirror.store import Connection, query

if TYPE_CHECKING:
    from reliq.mirror.follower import Follower

log = logging.getLogger("reliq.mirror")

GATHER = 0.1  # seconds between two looks at a busy journal
SETTLE = 0.2  # seconds that an entry waits: most items have ended by then, and leave no trace in Postgres
HEARTBEAT = 2.0  # seconds after which a follower with nothing to write says that it is there
IDS_AT_ONCE = 10_000  # ids in a transaction, about
FORGETTING = 3600.0  # seconds between two rounds of forgetting ended ids


@dataclass(frozen=True, slots=True)
class Pace:
    """How a follower goes about it.

    Attributes:
        settle: seconds that a journal entry waits before it is looked at.
        journal_max: entries that the journal may have; None leaves it as it is.
        remember: seconds for which ended ids of mirrored items are kept.
        pending_age: seconds after which a checkpointed item that Redis does not know is enqueued.
    """

    settle: float = SETTLE
    journal_max: int | None = None
    remember: float = 86400.0
    pending_age: float = 3.0


class Turn:
    """From taking the lock until something goes wrong."""

    def __init__(self, follower: Follower, connection: Connection) -> None:
        self._follower = follower
        self._connection = connection
        self._queue = follower._queue.name
        self._journal = follower._journal
        self._copier = follower._copier
        self._pace = follower._pace
        self._stop = follower._stop
        self._epoch = self._generation = 0
        self._position = self._server = ""
        self._has_pending = True
        self._mean = 1.0  # ids that an entry names
        self._facts: Facts
        self._asked_at = self._said_at = self._forgot_at = 0.0
        self._pending = Pending(self._journal, connection, self._queue, self._pace.pending_age, self._copy_met)

    def run(self, once: bool) -> bool:
        self._prepare()
        until = "+" if once else None
        target = self._last_entry() if once else ""
        while not self._stop.is_set():
            page = self._journal.page(self._position, until or self._settled(), self._entries_at_once())
            if page.trimmed:
                self._overflowed()
            elif page.entries or self._silent():
                self._apply(page)
            self._upkeep(page, once)
            if once and self._has_passed(target):
                return True
            if not once and not page.full and not page.trimmed:
                self._rest(page)
        return True

    # Where it stands

    def _prepare(self) -> None:
        """Finds out where the mirror is and whether Redis holds the same queue; resynchronises where it has to."""
        has_rows, state = self._read_queue()
        if state == "rebuilding":
            raise Rebuilding(f"queue {self._queue!r} is being rebuilt", queue=self._queue)
        try:
            self._journal.begin(self._pace.journal_max)
        except StaleEpoch as error:
            if has_rows or error.found < self._epoch:
                raise
            adopt(self._connection, self._journal, self._queue, error.found)
            has_rows, state = self._read_queue()
        facts = self._note(self._journal.facts())
        if too_old(query(self._connection, "guard_facts", {"queue": self._queue})[0][3], facts.stamp):
            raise errors.StateLost(self._queue, epoch=self._epoch, older=True)  # its state would replace the later one
        query(self._connection, "go_on_following", {"queue": self._queue, "follower": self._follower.name})
        if state == "resyncing" or not self._position or facts.server != self._server:
            self._resync(keep_unknown=self._server not in ("", facts.server))
        else:
            self._journal.trim(self._position)

    def _read_queue(self) -> tuple[bool, str]:
        """Reads the queue's row, which is made where there is none, and tells the client the epoch of the mirror."""
        found = query(self._connection, "read_queue", {"queue": self._queue})
        if not found:
            self._journal.begin(self._pace.journal_max)
            query(self._connection, "add_queue", {"queue": self._queue, "epoch": self._journal.epoch})
            found = query(self._connection, "read_queue", {"queue": self._queue})
        self._epoch, state, self._position, self._generation, self._server, has_rows = found[0]
        self._journal.epoch = self._epoch
        return has_rows, state

    def _overflowed(self) -> None:
        text = "queue %s: its journal was cut behind %s, changes are missing: full resynchronisation"
        log.error(text, self._queue, self._position)
        self._resync(keep_unknown=False)

    def _resync(self, *, keep_unknown: bool) -> None:
        if keep_unknown:
            log.warning("queue %s: the server was restarted or replaced: full resynchronisation", self._queue)
        server, last = self._facts.server, self._journal.begin(None).last
        values = {"queue": self._queue, "epoch": self._epoch, "generation": self._generation}
        started = query(self._connection, "begin_resync", {**values, "position": last, "follower": self._follower.name})
        if not started:
            raise MirrorConflict(f"queue {self._queue!r}: somebody else follows it, or it is being rebuilt")
        self._generation, self._server, self._position = started[0][0], server, last
        target = Target(self._connection, self._queue, self._generation, keep_unknown=keep_unknown)
        figures = partial(self._figures, Page(last))
        copied = Resync(self._journal, self._copier, target, self._checked, figures, self._stop.is_set).run()
        if copied is None:
            return
        query(self._connection, "end_resync", {**values, "generation": self._generation, "server": server})
        log.info("queue %s: resynchronised, %d items", self._queue, copied.live)
        if keep_unknown and copied.unknown:
            text = "queue %s: the server does not know %d items that the mirror has; reconcile puts them back"
            log.error(text, self._queue, copied.unknown)
        self._journal.trim(self._position)

    def _note(self, facts: Facts) -> Facts:
        self._journal.check(facts)
        self._facts, self._asked_at = facts, time.monotonic()
        self._follower.watch(facts)
        return facts

    def _checked(self) -> Facts:
        """Asked after reading: what was read is of the server and the epoch that this turn is about."""
        facts = self._journal.facts()
        if facts.server != self._server or not facts.master:
            raise MirrorConflict(f"queue {self._queue!r}: another server answers now")
        return self._note(facts)

    # A round

    def _apply(self, page: Page) -> None:
        values = {"queue": self._queue, "epoch": self._epoch, "generation": self._generation, "before": self._position}
        values |= {"position": page.last, "follower": self._follower.name, "top_stamp": self._facts.stamp}
        with self._connection.transaction():
            moved = query(self._connection, "advance", {**values, **self._figures(page)})
            if not moved:
                raise MirrorConflict(f"queue {self._queue!r}: somebody else follows it, or it is being rebuilt")
            self._has_pending = moved[0][1]
            self._copy(page, Target(self._connection, self._queue, self._generation, *moved[0]))
            self._checked()
        self._passed(page)

    def _copy(self, page: Page, target: Target) -> None:
        ended = self._journal.ended_since(order(page.first)[0]) if page.first else NONE_ENDED
        self._copier.copy(target, page.ids, ended)
        if page.batches:
            copy_batches(target, self._journal, page.batches)
        if page.settings:
            copy_settings(target, self._journal)

    def _copy_met(self, ids: Sequence[bytes]) -> None:
        """Items that no journal entry names: a round that goes nowhere."""
        self._apply(Page(self._position, ids=tuple(ids)))

    def _passed(self, page: Page) -> None:
        self._position, self._said_at = page.last, time.monotonic()
        if page.entries:
            self._mean += (page.named / page.entries - self._mean) / 4
            self._journal.trim(self._position)
        self._follower.recovered()

    def _figures(self, page: Page) -> dict[str, float]:
        """How far the mirror will be behind when a page is through, and how full the journal is."""
        unread = max(0, self._facts.entries - 1 - page.entries)  # the one at the position stays in the journal
        oldest = self._journal.oldest_unread(page.last) if unread else None
        return {
            "lag_items": 0 if oldest is None else round(unread * max(1.0, self._mean)),
            "lag_seconds": 0.0 if oldest is None else max(0.0, self._now() - oldest),
            "journal_entries": self._facts.entries,
            "journal_max": self._facts.most,
        }

    def _upkeep(self, page: Page, once: bool) -> None:
        """What is done beside following: checkpointed items that Redis never got, and ids that are old enough."""
        if self._has_pending and not page.full and not page.trimmed:
            self._pending.look(at_once=once)
        if time.monotonic() - self._forgot_at > FORGETTING or not self._forgot_at:
            self._forgot_at = time.monotonic()
            query(self._connection, "keep_ended", {"seconds": self._pace.remember})

    # Its pace

    def _rest(self, page: Page) -> None:
        """Gathers while there is something, else waits for something."""
        if page.entries or self._journal.wait(self._position, min(1.0, HEARTBEAT)):
            self._stop.wait(GATHER)

    def _settled(self) -> str:
        """Up to which entry the journal has settled."""
        return str(max(0, int((self._now() - self._pace.settle) * 1000)))

    def _now(self) -> float:
        return self._facts.now + time.monotonic() - self._asked_at

    def _silent(self) -> bool:
        return time.monotonic() - self._said_at > HEARTBEAT

    def _entries_at_once(self) -> int:
        return max(20, min(2000, int(IDS_AT_ONCE / max(1.0, self._mean))))

    def _last_entry(self) -> str:
        return self._journal.begin(None).last

    def _has_passed(self, target: str) -> bool:
        return order(self._position) >= order(target)


def adopt(connection: Connection, journal: Journal, queue: str, epoch: int) -> None:
    """Accepts the queue as Redis has it: what the mirror has and Redis does not know goes at the next start."""
    journal.epoch = epoch
    values = {"queue": queue, "epoch": epoch, "server": journal.facts().server}
    query(connection, "adopt_epoch", values)
