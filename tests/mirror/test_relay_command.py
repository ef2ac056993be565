"""`reliq mirror relay`: the command, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from mirror.outboxes import Outbox
from servers import wait_until


def start(outbox: Outbox, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RELIQ_URL": outbox.server.socket_url, "RELIQ_MIRROR": outbox.dsn}
    return subprocess.Popen(
        [sys.executable, "-m", "reliq", "mirror", "relay", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_once_carries_what_is_there(outbox: Outbox) -> None:
    """And says how many rows that were."""
    outbox.write(1, 2, 3)
    with start(outbox, "emails", "--once", "-o", "json") as process:
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert json.loads(out) == {"carried": 3}
    assert outbox.queue.counts().queued == 3


def test_it_runs_until_it_is_stopped(outbox: Outbox) -> None:
    """By SIGTERM, in order."""
    with start(outbox, "emails", "orders") as process:
        outbox.write(1)
        wait_until(lambda: outbox.queue.counts().queued == 1, "it carries", 30)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "relay of 'emails', 'orders'" in errors
