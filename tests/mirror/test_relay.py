"""The relay: in which order it carries rows, when it wakes, and what it does with rows that can't be carried."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from mirror.outboxes import Outbox
from servers import wait_until

from reliq import MirrorConflict, Queue
from reliq.codecs import ClaimCheck
from reliq.mirror.outbox import enqueue_in
from reliq.mirror.relay import Relay, outbox_status, relay

AT_ONCE = 2.0  # seconds, less than the look of a relay that sleeps


def queued(queue: Queue) -> list[Any]:
    """The payloads, in order."""
    return [info.payload for info in queue.peek(1000)]


def is_length(queue: Queue, length: int) -> bool:
    return queue.counts().queued == length


def asleep(outbox: Outbox) -> bool:
    """Whether the relay has to be woken."""
    held = outbox.sql("SELECT pg_try_advisory_lock_shared(reliq.relay_lock('emails', 'asleep'))")
    return held == [(False,)]


# Order


def test_rows_come_in_the_order_of_their_writing(outbox: Outbox) -> None:
    """Also over several batches."""
    outbox.sql("INSERT INTO reliq.outbox (queue, payload) SELECT 'emails', to_jsonb(n) FROM generate_series(1, 2500) n")
    assert outbox.carry() == 2500
    assert [item.payload for _ in range(3) for item in outbox.queue.claim(1000)] == list(range(1, 2501))


def test_batches_are_bounded_in_bytes(outbox: Outbox) -> None:
    """Rows of half a megabyte come a few at a time, one that is larger than a batch alone."""
    big = Queue("emails", outbox.server.socket_url, max_payload=6_000_000)
    with big, psycopg.connect(outbox.dsn) as connection:
        for n in range(20):
            enqueue_in(connection, big, [n, b"x" * (5_000_000 if n == 7 else 400_000)])
    assert outbox.carry(big) == 20
    assert [payload[0] for payload in queued(outbox.queue)] == list(range(20))


def test_what_commits_first_comes_first_while_the_relay_runs(outbox: Outbox) -> None:
    """A transaction that goes on for long holds up nobody."""
    with outbox.relay(), psycopg.connect(outbox.dsn) as slow:
        enqueue_in(slow, outbox.queue, "slow")
        outbox.write("quick")
        wait_until(lambda: queued(outbox.queue) == ["quick"], "the quick one is there", AT_ONCE)
        slow.commit()
        wait_until(lambda: queued(outbox.queue) == ["quick", "slow"], "the slow one has followed", AT_ONCE)


def test_transactions_that_wait_for_each_other_keep_their_order(outbox: Outbox) -> None:
    """The second began first, and got the lock later: the order of its beginning would be wrong."""
    outbox.sql("CREATE TABLE account (cents int)")
    outbox.sql("INSERT INTO account VALUES (0)")
    outbox.sql("CREATE TABLE notes (text text)")
    update = "UPDATE account SET cents = cents + 1"
    with psycopg.connect(outbox.dsn) as first, psycopg.connect(outbox.dsn) as second:
        second.execute("INSERT INTO notes VALUES ('this gives it the lower transaction id')")
        first.execute(update)
        waiting = threading.Thread(target=lambda: (second.execute(update), enqueue_in(second, "emails", "second")))
        waiting.start()
        enqueue_in(first, "emails", "first")
        first.commit()
        waiting.join()
        second.commit()
    outbox.carry()
    assert queued(outbox.queue) == ["first", "second"]


def test_each_of_many_writers_keeps_its_order(outbox: Outbox) -> None:
    """Of transactions that overlap, some of which are rolled back, while the relay carries what is there."""

    def write(writer: int) -> None:
        with psycopg.connect(outbox.dsn) as connection:
            for n in range(40):
                enqueue_in(connection, "emails", [writer, n])
                if n % 5 == 4:
                    connection.rollback()
                else:
                    connection.commit()

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    with outbox.relay():
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        wait_until(lambda: outbox.queue.counts().queued == 128 and not outbox.rows(), "all are there")
    for writer in range(4):
        assert [n for w, n in queued(outbox.queue) if w == writer] == [n for n in range(40) if n % 5 != 4]


# Waking


def test_a_relay_that_sleeps_is_woken(outbox: Outbox) -> None:
    """By the commit, long before it would look by itself."""
    with outbox.relay():
        for n in range(3):
            wait_until(lambda: asleep(outbox), "it sleeps")
            outbox.write(n)
            wait_until(partial(is_length, outbox.queue, n + 1), "it was woken", AT_ONCE)


def test_nobody_notifies_where_no_relay_sleeps(outbox: Outbox) -> None:
    """Commits of those that notify go one at a time: under load, and without a relay, there are none."""
    with psycopg.connect(outbox.dsn, autocommit=True) as listener:
        listener.execute("LISTEN reliq_outbox")
        outbox.write("nobody sleeps")
        with psycopg.connect(outbox.dsn, autocommit=True) as sleeper:
            sleeper.execute("SELECT pg_advisory_lock(reliq.relay_lock('emails', 'asleep'))")
            outbox.write("somebody sleeps")
            outbox.sql("SELECT reliq.enqueue('others', '1')")
        outbox.sql("NOTIFY reliq_outbox, 'the end'")
        heard = [notice.payload for notice in listener.notifies(timeout=5, stop_after=2)]
    assert heard == ["emails", "the end"]


def test_a_transaction_that_began_while_the_relay_was_awake_is_not_missed(outbox: Outbox) -> None:
    """It won't notify, so the relay does not sleep before it is over."""
    with psycopg.connect(outbox.dsn) as slow:
        enqueue_in(slow, outbox.queue, "slow")
        with outbox.relay():
            outbox.write("quick")
            wait_until(lambda: queued(outbox.queue) == ["quick"], "the relay runs", AT_ONCE)
            assert not asleep(outbox)
            slow.commit()
            wait_until(lambda: queued(outbox.queue) == ["quick", "slow"], "it was seen", AT_ONCE)
            wait_until(lambda: asleep(outbox), "it sleeps then")


def test_one_relay_of_a_queue_is_active(outbox: Outbox) -> None:
    """A second one stands by, and says so where it is to work at once."""
    with outbox.relay():
        wait_until(lambda: asleep(outbox), "the first one is active")
        with pytest.raises(MirrorConflict, match="another relay"):
            outbox.carry()
        with outbox.relay():
            outbox.write(*range(10))
            wait_until(lambda: queued(outbox.queue) == list(range(10)), "they were carried once")


def test_several_queues_are_carried_beside_each_other(outbox: Outbox) -> None:
    """One that takes nothing holds up no other."""
    stop = threading.Event()
    with Queue("orders", outbox.server.socket_url) as orders, psycopg.connect(outbox.dsn) as connection:
        outbox.queue.pause(enqueue=True)
        enqueue_in(connection, outbox.queue, "held up")
        enqueue_in(connection, orders, "not held up")
        connection.commit()
        work = threading.Thread(target=relay, args=(outbox.store, [outbox.queue, orders]), kwargs={"stop": stop})
        work.start()
        wait_until(lambda: queued(orders) == ["not held up"], "the other one is carried")
        assert queued(outbox.queue) == []
        outbox.queue.resume()
        wait_until(lambda: queued(outbox.queue) == ["held up"], "it goes on")
        stop.set()
        work.join()


# Rows that can't be carried


POISON = {
    "too large": "to_jsonb(repeat('x', 2000))",
    "nested too deeply": "(repeat('[', 3000) || repeat(']', 3000))::jsonb",
    "a number of 5,000 digits": "repeat('9', 5000)::jsonb",
}


@pytest.mark.parametrize("payload", POISON.values(), ids=POISON.keys())
def test_a_row_that_can_not_be_packed_is_set_aside(outbox: Outbox, payload: str) -> None:
    """With the reason; those before and behind it go on."""
    with Queue("emails", outbox.server.socket_url, max_payload=1000) as queue:
        for value in ("'1'", payload, "'2'"):
            outbox.sql(f"SELECT reliq.enqueue('emails', {value})")
        assert outbox.carry(queue) == 3
    assert queued(outbox.queue) == [1, 2]
    ((number, error),) = outbox.sql("SELECT number, error FROM reliq.outbox_refused")
    assert number == 2
    assert error.startswith("PayloadError: the payload")


def test_a_payload_that_does_not_fit_the_type_of_the_queue_is_set_aside(outbox: Outbox) -> None:
    """It would not reach a handler as what it is declared to be."""

    @dataclass
    class Mail:
        to: str

    with Queue("emails", outbox.server.socket_url, payload_type=Mail) as queue:
        outbox.sql("""SELECT reliq.enqueue('emails', '{"to": 7}')""")
        outbox.sql("""SELECT reliq.enqueue('emails', '{"to": "ann"}')""")
        with psycopg.connect(outbox.dsn) as connection:
            enqueue_in(connection, queue, Mail("bo"))
        outbox.carry(queue)
        assert [item.payload for item in queue.claim(10)] == [Mail("ann"), Mail("bo")]
    ((error,),) = outbox.sql("SELECT error FROM reliq.outbox_refused")
    assert "payload.to is not of Mail" in error


def test_an_id_that_reliq_never_makes_is_set_aside(outbox: Outbox) -> None:
    """As raw bytes from SQL can be."""
    for key in (r"'\xff00'", r"'\x0102'", "'0123456789abcde'"):
        outbox.sql(f"INSERT INTO reliq.outbox (queue, id, payload) VALUES ('emails', {key}, '1')")
    outbox.carry()
    assert [info.id for info in outbox.queue.peek(10)] == ["0123456789abcde"]
    assert outbox.sql("SELECT count(*) FROM reliq.outbox_refused") == [(2,)]


def test_what_was_set_aside_can_be_tried_again(outbox: Outbox) -> None:
    """After the cause is gone, with its id and its payload."""
    outbox.sql(
        "SELECT reliq.enqueue('emails', to_jsonb(repeat('x', 2000)), id => 'large', headers => '{\"a\": \"b\"}')"
    )
    with Queue("emails", outbox.server.socket_url, max_payload=1000) as queue:
        outbox.carry(queue)
    assert [(status.waiting, status.refused) for status in outbox_status(outbox.store)] == [(0, 1)]
    assert outbox.sql("SELECT reliq.retry_refused('emails')") == [(1,)]
    outbox.carry()
    assert (outbox.queue.get("large").payload, outbox.queue.get("large").headers) == ("x" * 2000, {"a": "b"})
    assert outbox_status(outbox.store) == []


class Shelf:
    """A store of payloads in memory, which can be away as a store on the network can."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.away = False

    def put(self, key: str, data: bytes) -> None:
        if self.away:
            raise ConnectionError("the store is away")
        self.blobs[key] = data

    def get(self, key: str) -> bytes:
        return self.blobs[key]

    def delete(self, key: str) -> None:
        self.blobs.pop(key, None)


def test_a_store_of_payloads_that_is_away_is_waited_for(outbox: Outbox) -> None:
    """That is no fault of the rows."""
    shelf = Shelf()
    shelf.away = True
    with Queue("emails", outbox.server.socket_url, codecs=[ClaimCheck(shelf, threshold=10)]) as queue:
        outbox.sql("SELECT reliq.enqueue('emails', to_jsonb(repeat('x', 100)))")
        with outbox.relay(queue) as running:
            wait_until(lambda: "the store is away" in running.problem, "it says what it waits for")
            shelf.away = False
            wait_until(lambda: queue.counts().queued == 1, "it goes on")
            wait_until(lambda: not running.problem, "it says so")
    assert outbox.sql("SELECT count(*) FROM reliq.outbox_refused") == [(0,)]


# Looking


@contextmanager
def held_back(outbox: Outbox) -> Iterator[Relay]:
    """A relay whose queue takes nothing."""
    outbox.queue.pause(enqueue=True)
    with outbox.relay() as running:
        yield running
    outbox.queue.resume()


def test_the_status_says_what_waits_and_for_how_long(outbox: Outbox) -> None:
    """By queue, and whether anybody carries it."""
    outbox.write(1, 2)
    outbox.sql("SELECT reliq.enqueue('nobodys', '1')")
    outbox.sql("UPDATE reliq.outbox SET created_at = created_at - interval '100 s'")
    with held_back(outbox) as running:
        wait_until(lambda: running.problem, "it waits")
        emails, nobodys = outbox_status(outbox.store)
    assert (emails.queue, emails.waiting, emails.refused, emails.relayed) == ("emails", 2, 0, True)
    assert (nobodys.queue, nobodys.waiting, nobodys.relayed) == ("nobodys", 1, False)
    assert 100 <= emails.oldest_age < 160
