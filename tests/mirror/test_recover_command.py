"""`reliq recover`, as a person on call types it."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner, Result
from mirror.queues import client_of, mirrored, various

from reliq import New, Queue
from reliq.cli import main
from reliq.embedded import Server
from reliq.mirror import Mirror


@pytest.fixture
def lost(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> Queue:
    """A mirrored queue that Redis has lost."""
    various(queue)
    mirrored(mirror, queue)
    redis_client.flushall()
    return queue


class Command:
    def __init__(self, server: Server, dsn: str) -> None:
        self.environment = {"RELIQ_URL": server.socket_url, "RELIQ_MIRROR": dsn}

    def __call__(self, *words: str, answer: str = "") -> Result:
        return CliRunner().invoke(main, list(words), env=self.environment, input=answer, catch_exceptions=False)


@pytest.fixture
def reliq(server: Server, dsn: str) -> Command:
    return Command(server, dsn)


def test_plan_shows_what_would_come_back(reliq: Command, lost: Queue, redis_client: redis.Redis) -> None:
    """As a table with its hazards on stderr, or as JSON with everything."""
    shown = reliq("recover", "plan", "emails")
    assert shown.exit_code == 0
    assert "10 queued" in shown.stdout
    assert "finished meanwhile" in shown.stderr
    found = json.loads(reliq("recover", "plan", "emails", "-o", "json").stdout)
    assert found["counts"]["queued"] == 10
    assert found["hazards"]
    assert redis_client.dbsize() == 0


def test_apply_asks_fills_compares_and_opens(reliq: Command, lost: Queue) -> None:
    """One command brings the queue back, when it was answered with yes."""
    refused = reliq("recover", "apply", "emails", answer="n\n")
    assert refused.exit_code == 5
    done = reliq("recover", "apply", "emails", "--rate", "100000", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "is open" in done.stderr
    assert client_of(lost).claim()


def test_dry_run_does_nothing(reliq: Command, lost: Queue, redis_client: redis.Redis) -> None:
    """It shows the plan."""
    assert reliq("recover", "apply", "emails", "--dry-run").exit_code == 0
    assert redis_client.dbsize() == 0


def test_apply_and_verify_in_two_steps(reliq: Command, lost: Queue) -> None:
    """Kept closed, the queue waits for `verify`, which prints both sides state by state."""
    assert reliq("recover", "apply", "emails", "--yes", "--keep-closed", "--in-progress", "hold").exit_code == 0
    verified = reliq("recover", "verify", "emails", "-o", "json")
    assert verified.exit_code == 0
    states = {row["state"]: row for row in json.loads(verified.stdout)}
    assert states["orphaned"]["postgres"] == states["orphaned"]["redis"] == 4


def test_a_difference_is_exit_code_7(reliq: Command, lost: Queue, redis_client: redis.Redis) -> None:
    """Named on stderr; the queue stays closed."""
    reliq("recover", "apply", "emails", "--yes", "--keep-closed")
    redis_client.hdel("reliq:{emails}:items", "later")
    found = reliq("recover", "verify", "emails")
    assert found.exit_code == 7
    assert "later" in found.stderr


def test_a_server_that_is_not_empty_is_exit_code_5(reliq: Command, lost: Queue) -> None:
    """Nothing is removed without --wipe."""
    client_of(lost).enqueue("new")
    assert reliq("recover", "apply", "emails", "--yes").exit_code == 5
    assert client_of(lost).counts().queued == 1
    assert reliq("recover", "apply", "emails", "--yes", "--wipe").exit_code == 0


def test_status_lists_what_was_done(reliq: Command, lost: Queue) -> None:
    """Nothing yet is exit code 3."""
    assert reliq("recover", "status", "emails").exit_code == 3
    reliq("recover", "apply", "emails", "--yes")
    (row,) = json.loads(reliq("recover", "status", "emails", "-o", "json").stdout)
    assert (row["kind"], row["state"]) == ("rebuild", "verified")
    assert "verified" in reliq("recover", "status", "emails").stdout


def test_a_queue_that_was_never_mirrored_is_exit_code_3(reliq: Command, mirror: Mirror) -> None:
    """As any other queue that there is not."""
    assert reliq("recover", "plan", "nothing").exit_code == 3


def test_postgres_away_is_exit_code_4(server: Server) -> None:
    """And no password is printed."""
    command = Command(server, "postgresql://me:secret@127.0.0.1:1/none")
    found = command("--timeout", "1", "recover", "plan", "emails")
    assert found.exit_code == 4
    assert "secret" not in found.output


def test_reconcile_names_and_repairs(reliq: Command, mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Exit code 7 as long as something differs."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    redis_client.hdel("reliq:{emails}:items", "1")
    redis_client.lrem("reliq:{emails}:queued", 0, "1")
    redis_client.hincrby("reliq:{emails}:meta", "enqueued", -1)
    found = reliq("recover", "reconcile", "emails", "-o", "json")
    assert found.exit_code == 7
    assert [row["id"] for row in json.loads(found.stdout)] == ["1"]
    assert reliq("recover", "reconcile", "emails", "--repair", "--yes").exit_code == 0
    assert client_of(queue).counts().queued == 3
