"""The command line as a user has it: in this process where that is enough, else as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from servers import wait_until

import reliq
from reliq.cli import main
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


Call = Callable[..., Ran]


@pytest.fixture
def url(server: Server, redis_client: redis.Redis) -> str:
    """The URL of an empty server."""
    return server.socket_url


@pytest.fixture
def run(url: str) -> Call:
    """Runs a command in this process; `stdin` is what it reads."""

    def call(*args: str, stdin: str | bytes = "") -> Ran:
        result = CliRunner().invoke(main, ["-u", url, *args], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call


def environment(**changes: str) -> dict[str, str]:
    """This process's environment for a program: it finds the package, and no server by itself."""
    kept = {name: value for name, value in os.environ.items() if name != "RELIQ_URL"}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **changes}


@pytest.fixture
def program(url: str) -> Call:
    """Runs `python -m reliq ...` to its end, with RELIQ_URL in its environment."""

    def call(*args: str, stdin: bytes | None = b"", cwd: Path | None = None, **env: str) -> Ran:
        command = [sys.executable, "-m", "reliq", *args]
        variables = environment(**{"RELIQ_URL": url, **env})
        ran = subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=cwd, env=variables)
        return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    return call


@pytest.fixture
def emails(url: str) -> Iterator[reliq.Queue]:
    """The queue `emails`, made, with one attempt for each item and `hold` for those whose worker died."""
    with reliq.Queue("emails", url) as queue:
        queue.configure(max_attempts=1, expiry="hold")
        yield queue


def kill(queue: reliq.Queue, *payloads: object) -> list[str]:
    """Ids of items that are dead now, in this order."""
    for payload in payloads:
        queue.enqueue(payload)
    items = queue.claim(len(payloads))
    queue.fail(items, "no such address")
    return [item.id for item in items]


def orphan(queue: reliq.Queue, *payloads: object) -> list[str]:
    """Ids of items that are orphaned now, in this order."""
    for payload in payloads:
        queue.enqueue(payload)
    items = queue.claim(len(payloads), lease=0.001)
    wait_until(lambda: queue.recover().orphaned, "the lease has ended")
    return [item.id for item in items]
