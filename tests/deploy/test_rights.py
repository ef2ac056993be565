"""Rights by role: each may do what it is for; everything else is `AccessDenied`, and nothing has changed."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from conftest import ROLES
from servers import start_server, wait_until

from reliq import AccessDenied, InvalidArgument, Item, New, Queue, _scripts, failover, rights
from reliq.cli import main
from reliq.embedded import Server
from reliq.errors import WaitTimeout
from reliq.testing.control import Reply, fields
from reliq.testing.node import Node

from .conftest import Start, ask

pytestmark = pytest.mark.skipif(bool(ROLES), reason="a lane with rights of its own")

ROOT = Path(__file__).parents[2]
LETTERS = "reliq:{letters}:"


class Stage:
    """The queue `letters` with an item in each state, as an administrator made it, and users for it."""

    def __init__(self, server: Server, admin: redis.Redis) -> None:
        self._server, self.admin = server, admin
        self.queue = Queue("letters", server.socket_url)
        self.queue.configure(max_attempts=1, expiry="hold")
        self.dead = self._ended(lambda item: self.queue.fail(item, "no"))
        self.finished = self._ended(self.queue.finish)
        self.queue.enqueue("orphan", id="orphaned")
        self.queue.claim(1, lease=0.001)
        wait_until(lambda: self.queue.recover().orphaned, "the lease has ended")
        self.queue.enqueue("held", id="held")
        self.held: Item = self.queue.claim(1)[0]
        self.queue.enqueue("waits", id="queued")
        self.queue.enqueue("later", id="scheduled", delay=3600)

    def user(self, *roles: str, name: str = "letters", **options: Any) -> Queue:
        """A client of the queue `name` as a user with these roles on `letters`."""
        ask(self.admin, "ACL", "SETUSER", "ann", "reset", *rights.rules(roles, queue="letters", **options))
        ask(self.admin, "ACL", "SETUSER", "ann", ">secret")
        return Queue(name, f"unix://ann:secret@{self._server.socket}", timeout=2.0)

    def ann(self) -> redis.Redis:
        """A plain client of the last user that was made."""
        return redis.Redis.from_url(f"unix://ann:secret@{self._server.socket}")

    def keys(self) -> dict[bytes | str, bytes | None]:
        """Everything in the database, by key."""
        return {key: self.admin.dump(key) for key in self.admin.keys("*")}

    def _ended(self, end: Callable[[Item], object]) -> str:
        enqueued = self.queue.enqueue("ends")
        end(self.queue.claim(1)[0])
        return enqueued.id


@pytest.fixture
def stage(server: Server, redis_client: redis.Redis) -> Iterator[Stage]:
    made = Stage(server, redis_client)
    yield made
    made.queue.close()
    ask(redis_client, "ACL", "DELUSER", "ann")


def waited(queue: Queue) -> None:
    with contextlib.suppress(WaitTimeout):  # it is queued; what counts is that the question was allowed
        queue.wait("queued", timeout=0.05)


# What is called, and which roles may.
Act = Callable[[Queue, Stage], object]
ACTS: dict[str, tuple[Act, set[str]]] = {
    "enqueue": (lambda q, _: q.enqueue("new"), {"producer", "mirror"}),
    "enqueue_many": (lambda q, _: q.enqueue_many(["new", "newer"]), {"producer", "mirror"}),
    "enqueue in a group": (lambda q, _: q.enqueue("new", group="ann", delay=5), {"producer", "mirror"}),
    "batch": (lambda q, _: q.batch(["a", "b"], then=New("c")), {"producer", "mirror"}),
    "batch_progress": (lambda q, _: q.batch_progress("a batch"), {"producer", "operator", "monitor", "mirror"}),
    "wait": (lambda q, _: waited(q), {"waiter"}),
    "claim": (lambda q, _: q.claim(1), {"worker"}),
    "claim, waiting": (lambda q, _: q.claim(3, wait=0.05), {"worker"}),
    "finish": (lambda q, s: q.finish(s.held), {"worker"}),
    "finish with a result": (lambda q, s: q.finish(s.held, result=1, then=New("next")), {"worker"}),
    "finish_and_claim": (lambda q, s: q.finish_and_claim([s.held], 1), {"worker"}),
    "fail": (lambda q, s: q.fail(s.held, "no"), {"worker"}),
    "release": (lambda q, s: q.release(s.held), {"worker"}),
    "renew": (lambda q, s: q.renew(s.held, 60), {"worker"}),
    "checkpoint": (lambda q, s: q.checkpoint(s.held, {"page": 3}), {"worker"}),
    "recover": (lambda q, _: q.recover(), {"worker", "operator"}),
    "requeue": (lambda q, s: q.requeue(s.dead), {"operator"}),
    "redrive": (lambda q, _: q.redrive(), {"operator"}),
    "resolve": (lambda q, _: q.resolve("orphaned", "finish"), {"operator"}),
    "cancel": (lambda q, _: q.cancel("queued"), {"operator"}),
    "discard": (lambda q, s: q.discard(s.dead), {"operator"}),
    "purge": (lambda q, _: q.purge(), {"operator"}),
    "pause": (lambda q, _: q.pause(enqueue=True), {"operator"}),
    "resume": (lambda q, _: q.resume(), {"operator"}),
    "configure": (lambda q, _: q.configure(max_length=5), {"operator"}),
    "counts": (lambda q, _: q.counts(), {"operator", "monitor", "mirror"}),
    "settings": (lambda q, _: q.settings(), {"operator", "monitor", "mirror"}),
    "oldest_age": (lambda q, _: q.oldest_age(), {"operator", "monitor", "mirror"}),
    "get": (lambda q, _: q.get("queued"), {"operator", "monitor", "mirror", "waiter"}),
    "scan": (lambda q, _: list(q.scan("dead")), {"operator", "monitor", "mirror"}),
    "workers": (lambda q, _: q.workers(), {"operator", "monitor", "mirror"}),
}
MAY = [(role, name) for name, (_, roles) in ACTS.items() for role in sorted(roles)]
MAY_NOT = [(role, name) for name, (_, roles) in ACTS.items() for role in rights.ROLES if role not in roles]


@pytest.mark.parametrize(("role", "name"), MAY)
def test_a_role_may_do_what_it_is_for(role: str, name: str, stage: Stage) -> None:
    """Alone, with no other role, and on a server that has forgotten all scripts."""
    stage.admin.script_flush()
    with stage.user(role) as queue:
        ACTS[name][0](queue, stage)


@pytest.mark.parametrize(("role", "name"), MAY_NOT)
def test_a_role_may_do_nothing_else(role: str, name: str, stage: Stage) -> None:
    """The call is refused at once, and every key is as it was."""
    before = stage.keys()
    with stage.user(role) as queue, pytest.raises(AccessDenied):
        ACTS[name][0](queue, stage)
    assert stage.keys() == before


def test_every_script_belongs_to_a_role() -> None:
    """Whoever adds a verb says who may call it."""
    assert {verb for role in rights.ROLES.values() for verb in role.verbs} == set(_scripts.names())


def test_one_queues_rights_do_not_reach_another(stage: Stage) -> None:
    """Neither one that begins alike, nor the keys of others."""
    with stage.user("producer", name="letters2") as queue, pytest.raises(AccessDenied):
        queue.enqueue(1)
    assert not stage.admin.keys("reliq:{letters2}:*")


@pytest.mark.parametrize("name", ["a*b", "a?b", "[ab]", "a\\b"])
def test_a_queue_name_is_no_pattern(name: str, server: Server, redis_client: redis.Redis) -> None:
    """What means something in a pattern is escaped: the queue itself can be used, others that would match can't."""
    rules = rights.rules(["producer"], queue=name)
    ask(redis_client, "ACL", "SETUSER", "ann", "reset", *rules, ">secret")
    url = f"unix://ann:secret@{server.socket}"
    with Queue(name, url) as queue:
        assert queue.enqueue(1).created
    for other in ("axb", "a", "acb") if name != "a\\b" else ("ab",):
        with Queue(other, url) as queue, pytest.raises(AccessDenied):
            queue.enqueue(1)
    ask(redis_client, "ACL", "DELUSER", "ann")


def test_a_user_can_run_no_script_of_its_own(stage: Stage) -> None:
    """It may load scripts, since servers forget them; only those of its role can be called."""
    with stage.user("producer"), stage.ann() as client:
        sha = client.script_load("return redis.call('HGET', KEYS[1], 'epoch')")
        claim = _scripts.load("claim")
        client.script_load(claim.source)
        for words in (["EVALSHA", sha, "1", f"{LETTERS}meta"], ["EVALSHA", claim.sha, "0"], ["EVAL", "return 1", "0"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                ask(client, *words)


@pytest.mark.parametrize("command", ["FLUSHALL", "KEYS *", "CONFIG GET *", "DEL {letters}", "SUBSCRIBE x", "ACL LIST"])
@pytest.mark.parametrize("role", rights.ROLES)
def test_a_role_has_no_commands_of_administrators(role: str, command: str, stage: Stage) -> None:
    """Nothing that would reach beyond its queue."""
    denied = pytest.raises(redis.exceptions.NoPermissionError)
    with stage.user(role), stage.ann() as client, denied:
        ask(client, *command.split())


def test_the_listing_of_queues_is_for_those_who_look(stage: Stage) -> None:
    """Producers add to it, and can't read it."""
    for role, may in (("monitor", True), ("operator", True), ("producer", False)):
        with stage.user(role) as queue, contextlib.nullcontext() if may else pytest.raises(AccessDenied):
            assert "letters" in queue._driver.names()


def test_without_the_right_to_load_an_administrator_loads(stage: Stage) -> None:
    """`reliq acl load` gives the server all scripts, and then the user can work."""
    stage.admin.script_flush()
    with stage.user("producer", load=False) as queue:
        with pytest.raises(AccessDenied):
            queue.enqueue(1)
        ran = CliRunner().invoke(main, ["--url", stage._server.socket_url, "acl", "load"])
        assert ran.exit_code == 0, ran.output
        assert queue.enqueue(1).created


def test_rights_for_any_script_need_one_that_is_loaded(stage: Stage) -> None:
    """Not pinned to this version: the user loads nothing, and is held by the commands and keys that it may use."""
    stage.admin.script_flush()
    CliRunner().invoke(main, ["--url", stage._server.socket_url, "acl", "load"])
    before = stage.keys()
    with stage.user("producer", pinned=False) as queue:
        with pytest.raises(AccessDenied):
            queue.finish(stage.held)
        assert stage.keys() == before
        assert queue.enqueue(1).created


def test_without_info_the_administrator_is_trusted(stage: Stage) -> None:
    """Clients work all the same."""
    with stage.user("producer", info=False) as queue:
        assert queue.enqueue(1).created
        with pytest.raises(AccessDenied):
            queue._driver.info()


def test_roles_add_up(stage: Stage) -> None:
    """A user may have several."""
    with stage.user("producer", "worker") as queue:
        queue.enqueue("new")
        assert queue.claim(1)
        with pytest.raises(AccessDenied):
            queue.purge()


def test_there_is_no_other_role() -> None:
    """A wrong word is refused with those that there are."""
    with pytest.raises(InvalidArgument, match="producer, waiter, worker, operator, monitor, mirror"):
        rights.rules(["admin"])


@pytest.mark.parametrize("role", rights.ROLES)
def test_the_printed_line_is_one_for_an_acl_file(role: str, tmp_path: Path) -> None:
    """A server starts with it, and the user logs in with the password whose digest is in it."""
    ran = CliRunner().invoke(
        main, ["acl", role, "--user", "ann", "--queue", "emails", "--password-stdin"], input="pw\n"
    )
    assert ran.exit_code == 0, ran.output
    assert hashlib.sha256(b"pw").hexdigest() in ran.stdout
    file = tmp_path / "users.acl"
    file.write_text("user default on nopass +@all ~* &*\n" + ran.stdout)
    with (
        start_server(aclfile=str(file)) as server,
        redis.Redis.from_url(f"unix://ann:pw@{server.socket}") as ann,
    ):
        assert ann.ping()


def test_the_rights_on_sentinels_are_those_of_the_page(start: Start) -> None:
    """The line in docs/how-to/rights.md is enough: calls follow the master, and no Sentinel has denied anything."""
    topology = start()
    page = (ROOT / "docs" / "how-to" / "rights.md").read_text("utf-8")
    (line,) = re.findall(r"^user (reliq .*)$", page, re.MULTILINE)
    for node in topology.sentinels:
        node.call("ACL", "SETUSER", *line.split(), ">secret")
    with Queue("emails", f"{topology.url}?sentinel_username=reliq&sentinel_password=secret") as queue:
        queue.enqueue(1)
        failover.run(topology.url)
        queue.enqueue(2)
    denied = {fields(entry)["object"] for node in topology.sentinels for entry in _log(node)}
    assert denied <= {"client|setinfo"}  # redis-py's courtesy, which it does without


def _log(node: Node) -> list[Reply]:
    reply = node.call("ACL", "LOG")
    return reply if isinstance(reply, list) else []


def test_the_printed_command_is_for_a_shell() -> None:
    """What a shell would read in patterns and parentheses is quoted; without a password the message says so."""
    ran = CliRunner().invoke(main, ["acl", "worker", "--as", "command", "--also", "producer"])
    assert ran.stdout.startswith("redis-cli ACL SETUSER worker reset on ")
    assert "'~reliq:{*}:*'" in ran.stdout
    assert "no password yet" in ran.stderr
