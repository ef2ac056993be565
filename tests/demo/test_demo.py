"""`reliq demo` as users run it, with a real server, real workers, a real kill and real mails."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from demo.runs import LIMIT, Demo, Finished, command_line, first_lines
from servers import start_server, wait_until

from reliq.demo import smtplog
from reliq.demo.mailer import message_id_of
from reliq.demo.recipients import read
from reliq.demo.smtplog import Accepted
from reliq.queue import Queue

HEADER = "name,email,order\n"
BROKEN = "Nora,,A-1\nOle,ole.example.org,A-2\nBo,b@o@example.org,A-3\n"


@pytest.fixture(scope="module")
def recipients_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 lines of the sample, 3 of them replaced by malformed ones."""
    path = first_lines(150, tmp_path_factory.mktemp("demo") / "recipients.csv")
    lines = path.read_text().splitlines(keepends=True)
    malformed = dict(zip((9, 77, 150), BROKEN.splitlines(keepends=True), strict=True))
    path.write_text("".join(malformed.get(n, line) for n, line in enumerate(lines)))
    return path


@pytest.fixture(scope="module")
def log(recipients_file: Path) -> Path:
    return recipients_file.with_name("accepted.jsonl")


@pytest.fixture(scope="module")
def finished(shared_demo: Demo, recipients_file: Path, log: Path) -> Finished:
    """A whole run of the small file, with a short lease."""
    return shared_demo.run("--file", recipients_file, "--lease", "1", "--report", "json", "--smtp-log", log)


@pytest.fixture(scope="module")
def mails(finished: Finished, log: Path) -> list[Accepted]:
    """What the SMTP server of that run accepted."""
    assert finished.out
    return smtplog.read(log)


def test_a_run_with_a_killed_worker_ends_well(finished: Finished) -> None:
    """Nothing is lost, whatever the kill did."""
    assert finished.status == 0, finished.err
    figures = finished.figures
    assert (figures["ok"], figures["problems"], figures["conserved"]) == (True, [], True)
    assert (figures["lines"], figures["recipients"], figures["delivered"], figures["lost"]) == (150, 146, 146, 0)


def test_the_log_itself_has_a_mail_for_every_recipient(mails: list[Accepted], recipients_file: Path) -> None:
    """Counted here, without the demo's own account."""
    wanted = {message_id_of(recipient.item_id): recipient.email for recipient in read(recipients_file).recipients}
    assert {mail.message_id: mail.recipient for mail in mails} == wanted


def test_duplicates_are_what_the_log_has_twice(finished: Finished, mails: list[Accepted]) -> None:
    """And all of them come from the kill."""
    copies = Counter(mail.message_id for mail in mails)
    assert finished.figures["duplicates"] == len(mails) - len(copies)
    assert finished.figures["duplicates_by_kill"] == finished.figures["duplicates"]


def test_a_worker_was_killed_while_it_held_items_and_all_came_back(finished: Finished, mails: list[Accepted]) -> None:
    """They were delivered by others, at their second delivery."""
    figures = finished.figures
    assert figures["killed"] == "worker-1"
    assert 0 < figures["held"] == figures["recovered"]
    again = {mail.message_id for mail in mails if mail.delivery > 1}
    assert len(again) == figures["recovered"]
    assert all(mail.worker != "worker-1" for mail in mails if mail.delivery > 1)


def test_every_malformed_line_is_reported_with_its_number_and_reason(finished: Finished) -> None:
    """On stderr, and counted."""
    reported = dict(re.findall(r"^line (\d+) is malformed: (.*)$", finished.err, re.MULTILINE))
    assert reported["10"] == "no email"
    assert reported["78"] == "no @ in the address 'ole.example.org'"
    assert reported["151"] == "2 @ in the address 'b@o@example.org'"
    assert finished.figures["malformed"] == len(reported) == 4  # the sample has one of its own there


def test_enqueueing_the_file_again_adds_nothing(finished: Finished) -> None:
    """Ids come from line and address."""
    assert "enqueued 146 items; enqueued again: 0 new, 146 known already" in finished.err


def test_a_run_leaves_no_process_and_no_file(finished: Finished, shared_demo: Demo) -> None:
    """The server, its watch, the SMTP server, the workers and their directories are gone."""
    assert finished.status == 0
    (run,) = shared_demo.runs
    assert len(run.seen) >= 6
    wait_until(lambda: not run.alive(), "all processes have ended")
    assert shared_demo.leftovers() == []


@pytest.mark.slow
def test_one_worker_is_enough(demo: Demo, tmp_path: Path) -> None:
    """The one that replaces it finishes its work. The account is a table."""
    ended = demo.run("--file", first_lines(40, tmp_path / "r.csv"), "--workers", "1", "--lease", "0.5")
    assert ended.status == 0, ended.err
    for row in ("recipients", "malformed", "delivered", "duplicates", "lost", "recovered", "seconds", "items/s"):
        assert row in ended.out
    assert "killed worker-1 (pid " in ended.err


def test_a_file_with_nothing_valid_fails(demo: Demo, tmp_path: Path) -> None:
    """All of its lines are reported; nothing is started."""
    file = tmp_path / "r.csv"
    file.write_text(HEADER + BROKEN)
    ended = demo.run("--file", file, "--report", "json")
    assert ended.status == 1
    assert (ended.figures["recipients"], ended.figures["malformed"], ended.figures["ok"]) == (0, 3, False)
    assert ended.err.count("is malformed") == 3
    assert "no line of the file is a recipient" in ended.err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param("name,mail,order\nAnn,ann@example.org,1\n", "it lacks email", id="columns"),
        pytest.param("", "it lacks name, email, order", id="empty"),
    ],
)
def test_a_file_that_can_not_be_used_is_a_usage_error(
    demo: Demo, tmp_path: Path, content: str | None, complaint: str
) -> None:
    """Said in one line, before anything is started."""
    file = tmp_path / "r.csv"
    if content is not None:
        file.write_text(content)
    ended = demo.run("--file", file)
    assert ended.status == 2
    assert complaint in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_a_directory_is_not_a_file(demo: Demo, tmp_path: Path) -> None:
    """A usage error as well."""
    assert demo.run("--file", tmp_path).status == 2


@pytest.mark.slow
def test_a_server_of_ones_own_is_used_and_left_empty(demo: Demo, tmp_path: Path) -> None:
    """No item of the demo stays on it, and its password is on no command line and in no output."""
    with start_server(requirepass="hush-hush") as server:
        url = f"redis://:hush-hush@127.0.0.1:{server.port}/0"
        run = demo.start("--file", first_lines(60, tmp_path / "r.csv"), "--url", url, "--lease", "1", "--keep-server")
        wait_until(run.workers, "workers run", LIMIT)
        assert not any("hush-hush" in command_line(process) for process in run.workers())
        run.wait_for("until Ctrl-C")
        name = named_queue(run.errors)
        with Queue(name, url) as queue:
            assert queue.counts().finished == 60
            run.interrupt()
            ended = run.end()
            assert (ended.status, queue.counts().remembered, queue.counts().waiting) == (0, 0, 0)
    assert "hush-hush" not in ended.err + ended.out


@pytest.mark.slow
def test_keep_server_leaves_it_up_until_ctrl_c(demo: Demo, tmp_path: Path) -> None:
    """The account has been printed by then; the exit status is that of the account."""
    run = demo.start("--file", first_lines(40, tmp_path / "r.csv"), "--lease", "0.5", "--keep-server")
    run.wait_for("until Ctrl-C")
    url = re.findall(r"unix://\S+", run.errors.read_text())[0]
    with Queue(named_queue(run.errors), url) as queue:
        assert queue.counts().finished == 40
    run.interrupt()
    assert run.end().status == 0
    wait_until(lambda: not run.alive(), "all processes have ended")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_survives_a_demo_that_is_ended_half_way(demo: Demo, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM, and SIGKILL, where only the children can notice."""
    run = demo.start()
    run.wait_for("finished,")
    assert len(run.workers()) >= 3
    run.process.send_signal(number)
    ended = run.end()
    assert ended.status == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    wait_until(lambda: not run.alive(), "all processes have ended")
    wait_until(lambda: not demo.leftovers(), "all files are gone")
    assert ended.out == ""
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_a_worker_that_somebody_else_kills_is_replaced(demo: Demo, tmp_path: Path) -> None:
    """Nothing of it is lost either."""
    run = demo.start("--file", first_lines(800, tmp_path / "r.csv"), "--lease", "1", "--report", "json")
    run.wait_for("finished,")
    (other,) = (process for process in run.workers() if command_line(process).endswith("worker-2"))
    other.kill()
    ended = run.end()
    assert ended.status == 0, ended.err
    assert (ended.figures["lost"], ended.figures["problems"]) == (0, [])
    assert f"worker-2 (pid {other.pid}) ended with status -9: it said nothing. It was not the demo" in ended.err


def test_a_run_without_its_smtp_server_fails(demo: Demo) -> None:
    """It is said which process ended, and the others go too."""
    run = demo.start()
    run.wait_for("finished,")
    next(process for process in run.look() if "reliq.demo.smtp" in command_line(process)).kill()
    ended = run.end()
    assert ended.status == 1
    assert re.search(r"the SMTP server \(pid \d+\) ended with status -9", ended.err)
    wait_until(lambda: not run.alive(), "all processes have ended")


def test_a_server_that_can_not_be_reached_is_said_so(demo: Demo, tmp_path: Path) -> None:
    """Exit status 4, without a traceback."""
    url = f"unix://{tmp_path}/nobody"
    ended = demo.run("--file", first_lines(5, tmp_path / "r.csv"), "--url", url)
    assert ended.status == 4
    assert "Traceback" not in ended.err


def named_queue(errors: Path) -> str:
    (name,) = re.findall(r"queue (demo-\w+) stays", errors.read_text())
    return str(name)
