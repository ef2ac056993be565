"""`reliq mirror run`: the follower and the relay in one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mirror.outboxes import Outbox
from servers import wait_until

ROWS = "SELECT count(*) FROM reliq.items"


def environment(outbox: Outbox) -> dict[str, str]:
    return {**os.environ, "RELIQ_URL": outbox.server.socket_url, "RELIQ_MIRROR": outbox.dsn}


def mirror(outbox: Outbox, *arguments: str, code: int = 0) -> str:
    """What `reliq mirror` prints. It ends with this exit code."""
    command = [sys.executable, "-m", "reliq", "mirror", *arguments]
    done = subprocess.run(command, env=environment(outbox), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def status(outbox: Outbox) -> dict[str, Any]:
    (found,) = json.loads(mirror(outbox, "status", "emails", "-o", "json"))
    return dict(found)


@contextmanager
def running(outbox: Outbox, *arguments: str) -> Iterator[None]:
    """`reliq mirror run emails`, ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reliq", "mirror", "run", "emails", *arguments],
        env=environment(outbox),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_it_relays_and_follows_until_sigterm(outbox: Outbox) -> None:
    """What was written in a transaction goes to the queue, and from there into its mirror; `status` shows both."""
    outbox.write(1, 2)
    with running(outbox):
        wait_until(lambda: outbox.queue.counts().queued == 2, "it relays", 30)
        wait_until(lambda: outbox.sql(ROWS) == [(2,)], "it follows", 30)
        wait_until(lambda: status(outbox)["relayed"], "the relay is active", 30)
        found = status(outbox)
        assert (found["state"], found["outbox"], found["refused"]) == ("following", 0, 0)
    outbox.write(3)
    found = status(outbox)
    assert (found["relayed"], found["outbox"]) == (False, 1)
    assert "behind: emails" in mirror(outbox, "status", "--max-lag", "1ms", code=1)


def test_without_the_relay(outbox: Outbox) -> None:
    """Another process has it: rows of the outbox stay where they are."""
    outbox.write(1)
    outbox.queue.enqueue(2)
    with running(outbox, "--no-relay"):
        wait_until(lambda: outbox.sql(ROWS) == [(1,)], "it follows", 30)
        assert not status(outbox)["relayed"]
    assert outbox.rows() == 1


def test_without_the_follower(outbox: Outbox) -> None:
    """Only the relay runs, and the queue is not mirrored."""
    outbox.write(1)
    with running(outbox, "--no-follow"):
        wait_until(lambda: outbox.queue.counts().queued == 1, "it relays", 30)
    assert outbox.sql("SELECT count(*) FROM reliq.queues") == [(0,)]


def test_once_relays_first_and_mirrors_that_too(outbox: Outbox) -> None:
    """And then ends."""
    outbox.write(1, 2, 3)
    mirror(outbox, "run", "emails", "--once")
    assert outbox.rows() == 0
    assert outbox.sql(ROWS) == [(3,)]


def test_leaving_both_out_is_a_mistake(outbox: Outbox) -> None:
    """There would be nothing to do."""
    assert "nothing to do" in mirror(outbox, "run", "emails", "--no-relay", "--no-follow", code=2)


@pytest.mark.parametrize("left_out", ["--no-relay", "--no-follow"])
def test_what_no_waiting_cures_ends_it(outbox: Outbox, left_out: str) -> None:
    """Both end, with an error that says what is missing: here the tables."""
    outbox.sql("DROP SCHEMA reliq CASCADE")
    assert "reliq mirror init" in mirror(outbox, "run", "emails", left_out, code=5)
