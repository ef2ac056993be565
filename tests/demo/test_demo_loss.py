"""`reliq demo --lose-redis` as users run it: a real Postgres, a real follower, and a Redis that is gone for good."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest
from demo.runs import Demo, Finished, command_line, first_lines
from mirror.postgres import Postgres, binaries
from servers import wait_until

from reliq.demo import smtplog
from reliq.demo.mailer import message_id_of
from reliq.demo.recipients import read


@pytest.fixture(scope="module")
def finished(shared_demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path, Path]:
    """A whole run, with its recipients and its log."""
    binaries()
    folder = tmp_path_factory.mktemp("loss")
    file, log = first_lines(300, folder / "r.csv"), folder / "accepted.jsonl"
    arguments = ("--lose-redis", "--file", file, "--lease", "1", "--report", "json", "--smtp-log", log)
    return shared_demo.run(*arguments), file, log


@pytest.mark.slow
def test_nothing_is_lost_with_redis(finished: tuple[Finished, Path, Path]) -> None:
    """Every recipient of the file has a mail in the SMTP log, which the loss can't touch."""
    ended, file, log = finished
    assert ended.status == 0, ended.err
    figures, mails = ended.figures, smtplog.read(log)
    wanted = {message_id_of(recipient.item_id): recipient.email for recipient in read(file).recipients}
    assert {mail.message_id: mail.recipient for mail in mails} == wanted
    assert (figures["lost"], figures["problems"], figures["conserved"]) == (0, [], True)


@pytest.mark.slow
def test_what_came_back_is_said(finished: tuple[Finished, Path, Path]) -> None:
    """How many items and ids, in which time, and that both sides agreed."""
    ended, _, log = finished
    figures = ended.figures
    copies = Counter(mail.message_id for mail in smtplog.read(log))
    assert 0 < figures["rebuilt"] < figures["recipients"]
    assert figures["verified"] is True
    assert figures["duplicates"] == copies.total() - len(copies)
    assert figures["duplicates_by_loss"] <= figures["duplicates"]
    told = re.search(r"rebuilt from Postgres in [\d.]+ s: (\d+) items came back in order, (\d+) ids", ended.err)
    assert told
    assert (int(told[1]), int(told[1]) + int(told[2])) == (figures["rebuilt"], figures["recipients"])
    assert "killed Redis (SIGKILL), removed its data" in ended.err


@pytest.mark.slow
def test_a_run_leaves_no_postgres_and_no_follower(finished: tuple[Finished, Path, Path], shared_demo: Demo) -> None:
    """Nor files of them."""
    assert finished[0].status == 0
    (run,) = shared_demo.runs
    wait_until(lambda: not run.alive(), "all processes have ended")
    assert shared_demo.leftovers() == []


@pytest.mark.slow
def test_nothing_survives_a_demo_that_is_killed(demo: Demo) -> None:
    """Its Postgres notices, stops and goes with its files."""
    binaries()
    run = demo.start("--lose-redis")
    run.wait_for("Postgres has a row for each")
    (postgres,) = {process for process in run.look() if command_line(process).count("/postgres -D")}
    folder = Path(re.findall(r"-D (\S+)/data", command_line(postgres))[0])
    assert folder.exists()
    run.process.send_signal(signal.SIGKILL)
    run.end()
    wait_until(lambda: not run.alive() and not psutil.pid_exists(postgres.pid), "all processes have ended")
    wait_until(lambda: not folder.exists() and not demo.leftovers(), "all files are gone")


@pytest.mark.slow
def test_a_database_of_ones_own_is_left_as_it_was(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row of the demo's queue stays in it, and its DSN is on no command line."""
    with Postgres() as postgres:
        monkeypatch.setenv("RELIQ_DEMO_POSTGRES", postgres.dsn())
        ended = demo.run("--lose-redis", "--file", first_lines(100, tmp_path / "r.csv"), "--lease", "1")
        assert ended.status == 0, ended.err
        assert "verified" in ended.out
        for table in ("queues", "items", "ended", "pending", "recoveries"):
            assert postgres.execute(f"SELECT count(*) FROM reliq.{table}") == [(0,)]
    assert str(postgres.port) not in " ".join(ended.err.split())


def test_a_server_that_is_not_the_demos_is_not_lost(demo: Demo) -> None:
    """Said before anything is started."""
    ended = demo.run("--lose-redis", "--url", "redis://127.0.0.1:1/0")
    assert ended.status == 2
    assert "leave --url out" in " ".join(ended.err.split())
