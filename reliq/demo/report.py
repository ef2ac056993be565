"""What was delivered, twice or never: the SMTP server's log against the recipients file.

The queue's own figures are not asked what was delivered. Only whether its counters add up is taken from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reliq.demo.crash import Crash
from reliq.demo.loss import Loss
from reliq.demo.mailer import message_id_of
from reliq.demo.recipients import Recipients
from reliq.demo.smtplog import Accepted
from reliq.info import Counts


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a run.

    Attributes:
        lines: lines of the file, without its header.
        recipients: valid lines.
        malformed: lines that were reported as malformed.
        delivered: recipients whose mail was accepted by the SMTP server at least once.
        duplicates: mails that were accepted for a Message-ID beyond the first.
        duplicates_by_kill: those of them whose first copy the killed worker sent, and then could not finish.
        lost: recipients without a mail.
        lost_lines: their lines in the file.
        unexpected: mails that belong to no recipient, or went to another address than the recipient's.
        killed: name of the worker that was killed, None where there was none.
        held: items that it held when it was killed.
        recovered: those of them that other workers delivered later.
        conserved: whether the queue's counters add up to the recipients.
        seconds: from the first claim to the end of the last item.
        rebuilt: items that came back from Postgres after Redis was lost; None where it was not.
        verified: whether Redis agreed with Postgres after that.
        duplicates_by_loss: mails that were accepted again after the loss of Redis, which had not told Postgres yet that
            they were done.
    """

    lines: int
    recipients: int
    malformed: int
    delivered: int
    duplicates: int
    duplicates_by_kill: int
    lost: int
    lost_lines: tuple[int, ...]
    unexpected: int
    killed: str | None
    held: int
    recovered: int
    conserved: bool
    seconds: float
    rebuilt: int | None = None
    verified: bool = True
    duplicates_by_loss: int = 0

    @property
    def per_second(self) -> float:
        """Recipients delivered per second."""
        return self.delivered / self.seconds if self.seconds > 0 else 0.0

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words; empty where all is well."""
        reported = self.recipients + self.malformed
        found = (
            (self.recipients == 0, "no line of the file is a recipient"),
            (self.lost > 0, f"{self.lost} recipients got no mail"),
            (self.unexpected > 0, f"{self.unexpected} mails belong to no recipient"),
            (reported != self.lines, f"{self.lines - reported} lines were neither delivered nor reported"),
            (not self.conserved, "the queue's counters do not add up to the recipients"),
            (not self.verified, "Redis did not agree with Postgres after the rebuild"),
        )
        return [text for applies, text in found if applies]

    def figures(self) -> dict[str, Any]:
        """All figures by name, as JSON has them."""
        names = [name for name in self.__slots__ if name != "seconds"]
        figures: dict[str, Any] = {name: getattr(self, name) for name in names}
        return {
            **figures,
            "lost_lines": list(self.lost_lines),
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "ok": not self.problems,
            "problems": self.problems,
        }


def reconcile(
    found: Recipients,
    reported: int,
    mails: Sequence[Accepted],
    crash: Crash | None,
    counts: Counts,
    seconds: float,
    loss: Loss | None = None,
) -> Report:
    """Holds the SMTP log against the recipients.

    Args:
        found: the recipients file.
        reported: malformed lines that were shown to the user.
        mails: the whole log, oldest first.
        crash: the worker that was killed.
        counts: the queue's counters at the end.
        seconds: how long it took.
        loss: what was done when Redis was lost.
    """
    addresses = {message_id_of(recipient.item_id): recipient for recipient in found.recipients}
    ours = [
        mail for mail in mails if mail.message_id in addresses and addresses[mail.message_id].email == mail.recipient
    ]
    copies = Counter(mail.message_id for mail in ours)
    lost = tuple(recipient.line for message_id, recipient in addresses.items() if message_id not in copies)
    held = _held(crash, ours)
    return Report(
        lines=found.lines,
        recipients=len(found.recipients),
        malformed=reported,
        delivered=len(copies),
        duplicates=copies.total() - len(copies),
        duplicates_by_kill=sum(copies[message_id] - 1 for message_id in _sent_by(crash, ours) & held),
        lost=len(lost),
        lost_lines=lost,
        unexpected=len(mails) - len(ours),
        killed=crash.worker if crash else None,
        held=len(held),
        recovered=len(held & _delivered_again(crash, ours)),
        conserved=_conserved(counts, len(found.recipients)),
        seconds=seconds,
        rebuilt=loss.rebuilt if loss else None,
        verified=loss.verified if loss else True,
        duplicates_by_loss=_again_after(loss, ours),
    )


def _held(crash: Crash | None, mails: Sequence[Accepted]) -> frozenset[str]:
    """Message-IDs that only the killed worker can have held: all that was open, but for first deliveries by others."""
    if crash is None:
        return frozenset()
    others = {mail.message_id for mail in mails if mail.worker != crash.worker and mail.delivery == 1}
    return crash.open_mails - others


def _again_after(loss: Loss | None, mails: Sequence[Accepted]) -> int:
    """Mails that were accepted after a loss, and had been before it."""
    if loss is None:
        return 0
    before = {mail.message_id for mail in mails if mail.at < loss.at}
    return sum(mail.at >= loss.at and mail.message_id in before for mail in mails)


def _sent_by(crash: Crash | None, mails: Sequence[Accepted]) -> frozenset[str]:
    return frozenset(mail.message_id for mail in mails if crash and mail.worker == crash.worker)


def _delivered_again(crash: Crash | None, mails: Sequence[Accepted]) -> frozenset[str]:
    return frozenset(mail.message_id for mail in mails if crash and mail.worker != crash.worker and mail.delivery > 1)


def _conserved(counts: Counts, recipients: int) -> bool:
    now = counts.queued + counts.scheduled + counts.in_progress + counts.orphaned + counts.dead
    return counts.enqueued == recipients == now + counts.finished + counts.removed
