"""The account: what it says of logs in which something is missing, doubled or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reliq.demo import smtplog
from reliq.demo.crash import Crash
from reliq.demo.mailer import message_id_of
from reliq.demo.recipients import Recipients, parse
from reliq.demo.report import Report, reconcile
from reliq.demo.smtplog import Accepted
from reliq.info import Counts

LINES = [b"name,email,order\n", *(b"N%d,n%d@example.org,%d\n" % (n, n, n) for n in range(5)), b"no columns\n"]
ALL_FINISHED = Counts(finished=5, enqueued=5)


@pytest.fixture
def found() -> Recipients:
    return parse(LINES)


@pytest.fixture
def mails(found: Recipients) -> list[Accepted]:
    """One mail to each recipient."""
    return [mail(found, n) for n in range(5)]


def mail(found: Recipients, n: int, worker: str = "worker-2", delivery: int = 1) -> Accepted:
    recipient = found.recipients[n]
    return Accepted(float(n), message_id_of(recipient.item_id), recipient.email, worker, delivery)


def account(
    folder: Path,
    found: Recipients,
    mails: Sequence[Accepted],
    *,
    crash: Crash | None = None,
    counts: Counts = ALL_FINISHED,
) -> Report:
    """The report on a log file with these mails."""
    with (folder / "log").open("wb", buffering=0) as log:
        for one in mails:
            smtplog.write(log, one)
    return reconcile(found, len(found.malformed), smtplog.read(folder / "log"), crash, counts, 2.0)


def test_all_is_well_when_every_recipient_has_one_mail(
    tmp_path: Path, found: Recipients, mails: list[Accepted]
) -> None:
    """And every other line was reported."""
    report = account(tmp_path, found, mails)
    assert report.problems == []
    assert (report.lines, report.recipients, report.malformed, report.delivered) == (6, 5, 1, 5)
    assert (report.lost, report.duplicates, report.unexpected, report.recovered) == (0, 0, 0, 0)
    assert report.per_second == 2.5


def test_a_missing_message_id_is_a_lost_recipient(tmp_path: Path, found: Recipients, mails: list[Accepted]) -> None:
    """Even where the queue says that all is finished."""
    report = account(tmp_path, found, mails[:2] + mails[3:])
    assert (report.delivered, report.lost, report.lost_lines) == (4, 1, (4,))
    assert report.problems == ["1 recipients got no mail"]


def test_a_doubled_message_id_is_a_duplicate(tmp_path: Path, found: Recipients, mails: list[Accepted]) -> None:
    """It is counted, makes nobody else's mail good, and is no reason to fail."""
    report = account(tmp_path, found, [*mails, mails[1], mails[1]])
    assert (report.delivered, report.duplicates, report.duplicates_by_kill) == (5, 2, 0)
    assert report.problems == []
    without_one = account(tmp_path, found, [*mails[:4], mails[1]])
    assert (without_one.duplicates, without_one.lost) == (1, 1)


def test_an_empty_log_means_that_all_are_lost(tmp_path: Path, found: Recipients) -> None:
    """Nothing counts as delivered that the log does not show."""
    report = account(tmp_path, found, [])
    assert (report.delivered, report.lost) == (0, 5)


def test_a_mail_to_the_wrong_address_delivers_nothing(tmp_path: Path, found: Recipients, mails: list[Accepted]) -> None:
    """The right Message-ID alone is not enough."""
    wrong = replace(mails[0], recipient="n1@example.org")
    report = account(tmp_path, found, [wrong, *mails[1:]])
    assert (report.lost, report.unexpected) == (1, 1)
    assert len(report.problems) == 2


def test_a_mail_that_belongs_to_nobody_is_a_problem(tmp_path: Path, found: Recipients, mails: list[Accepted]) -> None:
    """Somebody got a mail that nobody asked for."""
    report = account(tmp_path, found, [*mails, replace(mails[0], message_id="<other@example.org>")])
    assert (report.lost, report.duplicates, report.unexpected) == (0, 0, 1)
    assert report.problems == ["1 mails belong to no recipient"]


def test_a_malformed_line_that_was_not_reported_is_a_problem(found: Recipients, mails: list[Accepted]) -> None:
    """Every line is delivered or reported."""
    report = reconcile(found, 0, mails, None, ALL_FINISHED, 1.0)
    assert report.problems == ["1 lines were neither delivered nor reported"]


@pytest.mark.parametrize(
    "counts",
    [
        Counts(finished=5, enqueued=6),
        Counts(finished=4, enqueued=5),
        Counts(finished=6, enqueued=6),
        Counts(finished=5, enqueued=5, queued=1),
    ],
)
def test_counters_that_do_not_add_up_are_a_problem(found: Recipients, mails: list[Accepted], counts: Counts) -> None:
    """Among themselves, or to the recipients."""
    report = reconcile(found, 1, mails, None, counts, 1.0)
    assert not report.conserved
    assert report.problems == ["the queue's counters do not add up to the recipients"]


def test_what_the_killed_worker_held_is_recovered_when_others_deliver_it(tmp_path: Path, found: Recipients) -> None:
    """Held are 0, 1 and 2 (3 was open at another worker); 0 had been accepted, 2 is never delivered."""
    left = frozenset(message_id_of(recipient.item_id) for recipient in found.recipients[:4])
    crash = Crash("worker-1", 1, left, left)
    mails = [mail(found, 0, "worker-1"), mail(found, 4, "worker-1"), mail(found, 3, "worker-2")]
    report = account(tmp_path, found, [*mails, mail(found, 0, delivery=2), mail(found, 1, delivery=2)], crash=crash)
    assert (report.killed, report.held, report.recovered, report.lost) == ("worker-1", 3, 2, 1)
    assert (report.duplicates, report.duplicates_by_kill) == (1, 1)


def test_a_file_without_recipients_is_a_problem() -> None:
    """Nothing was lost, but nothing was done either."""
    report = reconcile(parse([LINES[0]]), 0, [], None, Counts(), 0.0)
    assert report.problems == ["no line of the file is a recipient"]
    assert report.per_second == 0.0


def test_the_figures_have_everything_that_a_script_needs(
    tmp_path: Path, found: Recipients, mails: list[Accepted]
) -> None:
    """By the names of the table, with the verdict."""
    figures = account(tmp_path, found, mails[1:]).figures()
    assert figures["lost_lines"] == [2]
    assert (figures["ok"], figures["problems"]) == (False, ["1 recipients got no mail"])
    assert {"recipients", "malformed", "delivered", "duplicates", "lost", "recovered", "seconds", "per_second"} <= set(
        figures
    )
