"""Kills a worker at the worst moment: when SMTP has accepted a mail of it that the queue does not know to be finished.

The worker is frozen (SIGSTOP) and looked at. Where it has such a mail it is killed as it stands, else it goes on and
is looked at again later. What it held stays with its leases until these end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reliq.demo.mailer import message_id_of
from reliq.demo.processes import Child
from reliq.demo.smtplog import Accepted
from reliq.queue import Queue
from reliq.states import ItemState

_SCANS = 3  # a scan of a live queue may miss what moves meanwhile; what a dead worker holds does not move


@dataclass(frozen=True, slots=True)
class Crash:
    """A worker that was killed.

    Attributes:
        worker: its name.
        pid: its process id.
        open_mails: Message-IDs of what was in progress then, at this worker and at the others.
        unfinished: Message-IDs among them of mails that SMTP had accepted from it.
    """

    worker: str
    pid: int
    open_mails: frozenset[str]
    unfinished: frozenset[str]


def kill_between(
    victim: Child, sent: Callable[[], Iterable[Accepted]], queue: Queue, *, insist: bool = False
) -> Crash | None:
    """Kills `victim` if one of its last mails is not finished.

    Args:
        victim: a worker process.
        sent: the last mails that SMTP has accepted from it by now; more than it can hold items.
        queue: where its items come from.
        insist: kill it also if it only holds items that are not delivered.

    Returns:
        What it left behind, or None where the moment was not right and it goes on.
    """
    victim.freeze()
    if not (insist or _in_progress(queue) & _ids_of(sent())):
        victim.thaw()
        return None
    victim.kill()
    left = frozenset[str]().union(*(_in_progress(queue) for _ in range(_SCANS)))
    return Crash(victim.name, victim.pid, left, left & _ids_of(sent()))


def _ids_of(mails: Iterable[Accepted]) -> frozenset[str]:
    return frozenset(mail.message_id for mail in mails)


def _in_progress(queue: Queue) -> frozenset[str]:
    return frozenset(message_id_of(info.id) for info in queue.scan(ItemState.IN_PROGRESS))
