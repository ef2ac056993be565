"""The tables, the statements, and who may run them."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from mirror.postgres import Postgres
from mirror.stories import assert_same, rows_of

import reliq
from reliq import New, Queue, _commands
from reliq._commands import Body
from reliq.embedded import Server
from reliq.errors import InvalidURL, MirrorSchema, MirrorUnavailable
from reliq.mirror import Mirror, _sql, checkpointed
from reliq.rights import rules

PACKAGE = Path(reliq.__file__).parent
SQL = re.compile(r"^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|TRUNCATE|COPY|WITH)\s", re.MULTILINE)
PAGE = Path(__file__).parents[2] / "docs/how-to/mirror.md"

Run = Callable[[str], list[Any]]


def test_init_makes_the_tables_once(mirror: Mirror, sql: Run) -> None:
    """A second init, and a migration to the version that is there, change nothing."""
    before = sql("SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'reliq'")
    mirror.init()
    mirror.migrate()
    assert sql("SELECT version FROM reliq.schema_version") == [(1,)]
    assert before == sql(
        "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'reliq'"
    )


def test_without_tables_nothing_is_followed(dsn: str, queue: Queue) -> None:
    """A database that init never saw is refused, and the text says what to do."""
    with Mirror(dsn) as mirror, pytest.raises(MirrorSchema, match="reliq mirror init"):
        mirror.follow(queue, once=True)


def test_tables_of_a_later_version_are_refused(mirror: Mirror, queue: Queue, sql: Run) -> None:
    """What a newer reliq made, this one does not touch."""
    sql("INSERT INTO reliq.schema_version VALUES (2)")
    with pytest.raises(MirrorSchema, match="version 2"):
        mirror.follow(queue, once=True)
    with pytest.raises(MirrorSchema, match="version 2"):
        mirror.init()


def test_a_postgres_that_is_not_there(queue: Queue) -> None:
    """It is said within the time limit, and the password is not."""
    with Mirror("postgresql://me:secret@127.0.0.1:1/reliq", timeout=0.5) as mirror:
        with pytest.raises(MirrorUnavailable) as caught:
            mirror.status()
        assert "secret" not in f"{caught.value} {mirror!r}"
        assert not caught.value.may_have_been_applied


@pytest.mark.parametrize("dsn", ["postgresql://me:secret@[", "password=secret nonsense"])
def test_a_dsn_that_can_not_be_parsed(dsn: str) -> None:
    """It is refused when the mirror is made, without its password."""
    with pytest.raises(InvalidURL) as caught:
        Mirror(dsn)
    assert "secret" not in str(caught.value)


def test_all_sql_is_in_sql_files() -> None:
    """No Python file has a statement in it."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
    ]
    assert not found


def test_every_statement_is_used() -> None:
    """Each named statement is asked for by its name somewhere."""
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert [name for name in _sql.statements() if f'"{name}"' not in text] == []


def roles(password: str) -> str:
    """The statements of the how-to that make the roles, with a database of the test's."""
    (block,) = re.findall(r"```sql\n(CREATE ROLE.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(block).replace("...", password)


def test_the_documented_roles_have_what_they_need_and_no_more(
    postgres: Postgres, database: str, mirror: Mirror, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The follower follows and forgets, the producer checkpoints, and neither can do the work of the other."""
    postgres.execute(roles("x"), database)
    try:
        follower = Mirror(postgres.dsn(database, user="reliq_follower"))
        producer = Mirror(postgres.dsn(database, user="reliq_producer"))
        with follower, producer, caplog.at_level(logging.WARNING, "reliq"):
            queue.enqueue_many(range(10))
            follower.follow(queue, once=True)
            queue.purge("queued")
            follower.follow(queue, once=True)
            assert rows_of(mirror, "emails") == {}
            checkpointed.enqueue(producer, queue, [Body(b"a", b"\xa1a")])
            follower.follow(queue, once=True)
            assert list(rows_of(mirror, "emails")) == [b"a"]
            with pytest.raises(MirrorSchema, match="permission denied"):
                producer.follow(queue, once=True)
            for user in ("reliq_follower", "reliq_producer"):
                with pytest.raises(Exception, match="must be owner"):
                    postgres.execute("DROP TABLE reliq.items", database, user=user)
        assert not caplog.records
    finally:
        postgres.execute("DROP OWNED BY reliq_follower, reliq_producer", database)
        postgres.execute("DROP ROLE reliq_follower, reliq_producer")
        follower.close()
        producer.close()


def test_ended_ids_are_forgotten_by_their_age(mirror: Mirror, sql: Run) -> None:
    """Old ones go, those of whole days with their partition; the partitions of the next days are made ahead."""
    sql(
        "INSERT INTO reliq.ended SELECT 'emails', int4send(n), '', now() - n * interval '1 hour'"
        " FROM generate_series(0, 47) AS n"
    )
    sql("SELECT reliq.keep_ended('24 hours')")
    assert sql("SELECT count(*) FROM reliq.ended") == [(24,)]
    assert sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'reliq.ended'::regclass") == [(3,)]
    sql("CREATE TABLE reliq.ended_20200101 PARTITION OF reliq.ended FOR VALUES FROM ('2020-01-01Z') TO ('2020-01-02Z')")
    sql("SELECT reliq.keep_ended('24 hours')")
    assert sql("SELECT to_regclass('reliq.ended_20200101')") == [(None,)]


def test_the_redis_role_of_a_follower(
    mirror: Mirror, queue: Queue, server: Server, redis_client: redis.Redis, sql: Run
) -> None:
    """A user with the rights of `mirror` can follow, resynchronise, and enqueue what a producer left behind."""
    words = ("ACL", "SETUSER", "follower", *rules(["mirror"], queue="emails"), ">x")
    redis_client.execute_command(*words)  # type: ignore[no-untyped-call]
    try:
        queue.enqueue_many([New(n, group="g") for n in range(5)])
        queue.batch(range(3), then=New("after"))
        with Queue("emails", server.url.replace("redis://", "redis://follower:x@")) as followed:
            mirror.follow(followed, once=True)
            queue.finish(queue.claim(1))
            mirror.link(queue)._rows.commit(_commands.enqueue([Body(b"a", b"\xa1a")]))
            sql("UPDATE reliq.pending SET created_at = created_at - interval '1 minute'")
            mirror.follow(followed, once=True)
            mirror.follow(followed, once=True)
        assert_same(mirror, queue)
        assert queue.get("a") is not None
    finally:
        redis_client.acl_deluser("follower")
