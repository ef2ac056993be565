"""Enqueueing in a transaction: with psycopg, and from SQL."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, assert_type

import psycopg
import pytest
from mirror.outboxes import Outbox
from psycopg.rows import dict_row

from reliq import InvalidArgument, Queue
from reliq.codecs import AesGcm
from reliq.mirror.outbox import enqueue_in

Sql = Callable[[str], list[Any]]
KEY = {"k1": b"0123456789abcdef"}


@pytest.fixture
def connection(outbox: Outbox) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(outbox.dsn) as opened:
        yield opened


def test_a_committed_item_reaches_the_queue(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """With its id, and everything that enqueue takes."""
    item_id = assert_type(
        enqueue_in(
            connection, outbox.queue, {"to": "ann", "at": dt.date(2026, 1, 2)}, headers={"trace": "1"}, group="ann"
        ),
        str,
    )
    connection.commit()
    assert outbox.carry() == 1
    (item,) = outbox.queue.claim()
    assert (item.id, item.payload) == (item_id, {"to": "ann", "at": dt.date(2026, 1, 2)})
    assert (item.headers, item.group, item.delivery) == ({"trace": "1"}, "ann", 1)
    assert outbox.rows() == 0


def test_an_item_of_a_transaction_that_is_rolled_back_does_not_exist(
    outbox: Outbox, connection: psycopg.Connection[Any]
) -> None:
    """As what was written beside it."""
    enqueue_in(connection, outbox.queue, "never")
    connection.rollback()
    assert outbox.carry() == 0
    assert outbox.queue.counts().enqueued == 0


def test_an_item_of_an_open_transaction_waits_for_its_commit(
    outbox: Outbox, connection: psycopg.Connection[Any]
) -> None:
    """The relay does not see it before, and others pass it by."""
    enqueue_in(connection, outbox.queue, "later", id="later")
    outbox.write("sooner", id="sooner")
    assert outbox.carry() == 1
    connection.commit()
    assert outbox.carry() == 1
    assert [info.id for info in outbox.queue.scan()] == ["sooner", "later"]


def test_a_savepoint_that_is_rolled_back_takes_its_items_with_it(
    outbox: Outbox, connection: psycopg.Connection[Any]
) -> None:
    """The others of the transaction stay."""
    enqueue_in(connection, outbox.queue, 1, id="kept")
    with connection.transaction(force_rollback=True):
        enqueue_in(connection, outbox.queue, 2, id="dropped")
    enqueue_in(connection, outbox.queue, 3, id="kept too")
    connection.commit()
    outbox.carry()
    assert [info.id for info in outbox.queue.scan()] == ["kept", "kept too"]


def test_an_id_that_was_enqueued_before_is_left_as_it_is(outbox: Outbox) -> None:
    """Also one that was enqueued directly; its row goes all the same."""
    outbox.queue.enqueue("first", id="order-7")
    outbox.write("second", id="order-7")
    outbox.write("third", id="order-7")
    assert outbox.carry() == 2
    assert [info.payload for info in outbox.queue.scan()] == ["first"]
    assert outbox.rows() == 0


@pytest.mark.parametrize("item_id", ["welcome-42", "0190a0b0-0000-7000-8000-000000000001", "0123456789abcdef", "Łódź"])
def test_ids_of_all_kinds_keep_their_text(outbox: Outbox, item_id: str) -> None:
    """UUIDs, other ids, and those of 16 bytes that are none; from Python and from SQL."""
    outbox.write("python", id=item_id)
    assert outbox.sql(f"SELECT reliq.id_text(id), reliq.pack_id('{item_id}') = id FROM reliq.outbox") == [
        (item_id, True)
    ]
    outbox.carry()
    assert outbox.queue.get(item_id).payload == "python"


def test_a_delay_counts_from_the_call(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """However late the row is carried; on one clock, Postgres's."""
    enqueue_in(connection, outbox.queue, "soon", id="soon", delay=60.0)
    enqueue_in(connection, outbox.queue, "now", id="now", delay=0.5)
    connection.commit()
    outbox.sql("UPDATE reliq.outbox SET created_at = created_at - interval '40 s'")
    outbox.carry()
    due = outbox.queue.get("soon").at
    assert due is not None
    assert 10 < due - time.time() <= 20.5
    assert outbox.queue.get("now").state == "queued"


def test_an_instant_is_kept(outbox: Outbox) -> None:
    """It is on Redis's clock already."""
    outbox.write("later", id="later", at=4_000_000_000.0)
    outbox.carry()
    assert outbox.queue.get("later").at == 4_000_000_000.0


def test_autocommit_is_refused(outbox: Outbox) -> None:
    """The item would not depend on anything. Nothing is written."""
    with psycopg.connect(outbox.dsn, autocommit=True) as connection:
        with pytest.raises(InvalidArgument, match="autocommit"):
            enqueue_in(connection, outbox.queue, "x")
        assert outbox.rows() == 0
        with connection.transaction():
            enqueue_in(connection, outbox.queue, "in a transaction")
        enqueue_in(connection, outbox.queue, "allowed", autocommit=True)
    assert outbox.rows() == 2


def test_the_connection_may_have_any_row_factory(outbox: Outbox) -> None:
    """What the user reads with is their business."""
    with psycopg.connect(outbox.dsn, row_factory=dict_row, cursor_factory=psycopg.RawCursor) as connection:
        enqueue_in(connection, outbox.queue, "x")
    assert outbox.rows() == 1


def test_codecs_of_the_queue_are_applied_where_the_item_is_made(outbox: Outbox) -> None:
    """What lies in the outbox is encrypted like what lies in Redis."""
    with Queue("emails", outbox.server.socket_url, codecs=[AesGcm(KEY, current="k1")]) as queue:
        with psycopg.connect(outbox.dsn) as connection:
            enqueue_in(connection, queue, "secret words")
        ((body,),) = outbox.sql("SELECT body FROM reliq.outbox")
        assert b"secret words" not in body
        outbox.carry(queue)
        (item,) = queue.claim()
        assert item.payload == "secret words"


def test_a_queue_by_its_name_needs_no_redis(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """The program that writes to the outbox may not reach it at all."""
    enqueue_in(connection, "emails", {"n": 1}, id="by-name")
    connection.commit()
    outbox.carry()
    assert outbox.queue.get("by-name").payload == {"n": 1}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"queue": "a b"}, "no spaces"),
        ({"id": ""}, "1 to 200 bytes"),
        ({"delay": 1, "at": 2.0}, "exclude each other"),
        ({"payload": {"x": object()}}, r"payload\['x'\]"),
        ({"group": "a\n"}, "printable"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    outbox: Outbox, connection: psycopg.Connection[Any], arguments: dict[str, Any], complaint: str
) -> None:
    """The transaction is not touched."""
    with pytest.raises(InvalidArgument, match=complaint):
        enqueue_in(connection, **{"queue": "emails", "payload": 1, **arguments})
    assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_something_else_than_a_connection_is_refused(outbox: Outbox) -> None:
    """With what was expected."""
    with pytest.raises(InvalidArgument, match=r"expected a connection of psycopg, SQLAlchemy or Django"):
        enqueue_in(object(), outbox.queue, "x")


async def _write_async(outbox: Outbox) -> str:
    async with await psycopg.AsyncConnection.connect(outbox.dsn) as connection:
        promised = enqueue_in(connection, outbox.queue, "async")
        assert_type(promised, Awaitable[str])
        item_id = await promised
    async with await psycopg.AsyncConnection.connect(outbox.dsn, autocommit=True) as connection:
        with pytest.raises(InvalidArgument, match="autocommit"):
            await enqueue_in(connection, outbox.queue, "refused")
    return item_id


def test_async_connections_of_psycopg(outbox: Outbox) -> None:
    """The same call, awaited."""
    import asyncio

    item_id = asyncio.run(_write_async(outbox))
    assert outbox.carry() == 1
    assert outbox.queue.get(item_id).payload == "async"


# From SQL


def test_sql_enqueues(outbox: Outbox) -> None:
    """`reliq.enqueue` returns the id; the relay packs the payload as the queue does."""
    ((item_id,),) = outbox.sql("""SELECT reliq.enqueue('emails', '{"to": "ann", "n": [1, 2.5, null, true]}')""")
    outbox.carry()
    (item,) = outbox.queue.claim()
    assert (item.id, item.payload) == (item_id, {"to": "ann", "n": [1, 2.5, None, True]})


def test_sql_enqueues_with_options(outbox: Outbox) -> None:
    """By their names."""
    outbox.sql("""
        SELECT reliq.enqueue('emails', '1', id => 'order-7', headers => '{"trace": "1"}', group_name => 'ann');
    """)
    outbox.sql("SELECT reliq.enqueue('emails', '2', id => 'delayed', delay => '1 hour')")
    outbox.sql("SELECT reliq.enqueue('emails', '3', id => 'dated', at => '2096-10-02 07:06:40+00')")
    outbox.carry()
    (item,) = outbox.queue.claim()
    assert (item.id, item.headers, item.group) == ("order-7", {"trace": "1"}, "ann")
    delayed, dated = outbox.queue.get("delayed").at, outbox.queue.get("dated").at
    assert delayed is not None
    assert 3590 < delayed - time.time() < 3601
    assert dated == 4_000_000_000.0


def test_ids_from_sql_are_uuids_of_version_7(outbox: Outbox) -> None:
    """As those from Python: they grow with time."""
    ids = [outbox.sql("SELECT reliq.enqueue('emails', '1')")[0][0] for _ in range(3)]
    for one in ids:
        assert (one[14], one[19] in "89ab") == ("7", True)
        assert abs(int(one.replace("-", "")[:12], 16) / 1000 - time.time()) < 60


def test_rows_may_be_inserted_plainly(outbox: Outbox) -> None:
    """A column that is left out has its default, the id too."""
    outbox.sql("INSERT INTO reliq.outbox (queue, payload) SELECT 'emails', to_jsonb(n) FROM generate_series(1, 3) AS n")
    outbox.carry()
    assert [info.payload for info in outbox.queue.scan()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("reliq.enqueue('a b', '1')", "queue_name"),
        ("reliq.enqueue('emails', NULL)", "either_body_or_payload"),
        ("reliq.enqueue('emails', '1', id => '')", "id_of_1_to_200_bytes"),
        (f"reliq.enqueue('emails', '1', id => '{'x' * 201}')", "id_of_1_to_200_bytes"),
        (r"reliq.enqueue('emails', '1', id => E'a\nb')", "printable text"),
        ("""reliq.enqueue('emails', '1', headers => '{"a": 1}')""", "headers_are_pairs_of_strings"),
        ("""reliq.enqueue('emails', '1', headers => '{"a": ["b"]}')""", "headers_are_pairs_of_strings"),
        ("""reliq.enqueue('emails', '1', headers => '["a"]')""", "headers_are_pairs_of_strings"),
        ("reliq.enqueue('emails', '1', delay => '-1 s')", "ten years"),
        ("reliq.enqueue('emails', '1', delay => '1 s', at => now())", "exclude each other"),
    ],
)
def test_mistakes_in_sql_fail_where_they_are_made(outbox: Outbox, call: str, complaint: str) -> None:
    """Behind the commit there is nobody to tell."""
    with pytest.raises(psycopg.Error, match=complaint):
        outbox.sql(f"SELECT {call}")
    assert outbox.rows() == 0


def test_a_trigger_enqueues_the_rows_of_a_table(outbox: Outbox) -> None:
    """Whole, or the columns that it names; of each row that is inserted, updated or deleted."""
    outbox.sql("CREATE TABLE orders (id int, email text, total numeric)")
    outbox.sql("""
        CREATE TRIGGER mail AFTER INSERT ON orders
        FOR EACH ROW EXECUTE FUNCTION reliq.enqueue_row('emails', 'id', 'email')
    """)
    outbox.sql("CREATE TRIGGER gone AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION reliq.enqueue_row('emails')")
    outbox.sql("INSERT INTO orders VALUES (1, 'ann@example.org', 12.5), (2, 'bo@example.org', NULL)")
    outbox.sql("DELETE FROM orders WHERE id = 1")
    outbox.carry()
    assert [info.payload for info in outbox.queue.scan()] == [
        {"id": 1, "email": "ann@example.org"},
        {"id": 2, "email": "bo@example.org"},
        {"id": 1, "email": "ann@example.org", "total": 12.5},
    ]


def test_a_trigger_that_names_no_column_of_the_table_fails(outbox: Outbox) -> None:
    """The insert is refused, not enqueued without it."""
    outbox.sql("CREATE TABLE orders (id int)")
    outbox.sql("""
        CREATE TRIGGER mail AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION reliq.enqueue_row('emails', 'mail')
    """)
    with pytest.raises(psycopg.errors.UndefinedColumn, match="has not all of the columns"):
        outbox.sql("INSERT INTO orders VALUES (1)")
    assert outbox.sql("SELECT count(*) FROM orders") == [(0,)]


def test_who_writes_needs_no_other_right_than_to_insert(outbox: Outbox) -> None:
    """Neither to read the outbox, nor to change the schema."""
    outbox.sql("DROP ROLE IF EXISTS shop")
    outbox.sql("CREATE ROLE shop")
    outbox.sql("GRANT USAGE ON SCHEMA reliq TO shop")
    outbox.sql("GRANT INSERT ON reliq.outbox TO shop")
    try:
        with psycopg.connect(outbox.dsn) as connection:
            connection.execute("SET ROLE shop")
            enqueue_in(connection, "emails", "python")
            connection.execute("SELECT reliq.enqueue('emails', '1')")
        assert outbox.rows() == 2
    finally:
        outbox.sql("DROP OWNED BY shop")
        outbox.sql("DROP ROLE shop")
