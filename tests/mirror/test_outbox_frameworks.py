"""The outbox and effects once in transactions of SQLAlchemy and Django."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy
from mirror.outboxes import Outbox
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from reliq import InvalidArgument, Item
from reliq.mirror.effects import effects_once, finish_in
from reliq.mirror.outbox import enqueue_in


def sqlalchemy_url(outbox: Outbox) -> str:
    return outbox.dsn.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(outbox: Outbox) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(sqlalchemy_url(outbox))
    yield made
    made.dispose()


def claimed(outbox: Outbox) -> Item:
    outbox.queue.enqueue(1, id="order-7")
    return outbox.queue.claim()[0]


def test_connections_of_sqlalchemy(outbox: Outbox, engine: sqlalchemy.Engine) -> None:
    """Committed, rolled back, and not in autocommit mode."""
    with engine.begin() as connection:
        item_id = enqueue_in(connection, outbox.queue, {"to": "ann"}, group="ann", delay=0.001)
    with engine.connect() as connection:
        enqueue_in(connection, outbox.queue, "rolled back")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(InvalidArgument, match="autocommit"):
            enqueue_in(connection, outbox.queue, "refused")
        with pytest.raises(InvalidArgument, match="autocommit"), connection.begin():
            enqueue_in(connection, outbox.queue, "refused too")
        enqueue_in(connection, outbox.queue, "allowed", id="allowed", autocommit=True)
    assert outbox.carry() == 2
    assert [info.id for info in outbox.queue.peek(3)] == [item_id, "allowed"]


@pytest.mark.parametrize("scoped", [False, True])
def test_sessions_of_sqlalchemy(outbox: Outbox, engine: sqlalchemy.Engine, *, scoped: bool) -> None:
    """Plain and scoped ones, in the transaction that they have open."""
    maker = sessionmaker(engine)
    session: Session | scoped_session[Session] = scoped_session(maker) if scoped else maker()
    enqueue_in(session, outbox.queue, "rolled back")
    session.rollback()
    enqueue_in(session, outbox.queue, "kept")
    session.commit()
    session.close()
    outbox.carry()
    assert [info.payload for info in outbox.queue.peek(3)] == ["kept"]


def test_effects_once_with_sqlalchemy(outbox: Outbox, engine: sqlalchemy.Engine) -> None:
    """A session and a connection see each other's marks; a block in an open transaction is refused."""
    item = claimed(outbox)
    with Session(engine) as session, effects_once(session, item) as fresh:
        assert fresh
    with engine.connect() as connection:
        with effects_once(connection, item) as fresh:
            assert not fresh
        connection.execute(sqlalchemy.text("SELECT 1"))
        with pytest.raises(InvalidArgument, match="open on the connection"), effects_once(connection, item):
            pytest.fail("the block is not entered")
        assert not finish_in(connection, item)


def test_async_sqlalchemy(outbox: Outbox) -> None:
    """Connections and sessions, awaited."""
    item = claimed(outbox)

    async def work() -> None:
        engine = create_async_engine(sqlalchemy_url(outbox))
        async with engine.begin() as connection:
            await enqueue_in(connection, outbox.queue, "connection")
        async with AsyncSession(engine) as session:
            await enqueue_in(session, outbox.queue, "session")
            await session.commit()
            async with effects_once(session, item) as fresh:
                assert fresh
        async with engine.connect() as connection:
            assert not await finish_in(connection, item)
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            with pytest.raises(InvalidArgument, match="autocommit"):
                await enqueue_in(connection, outbox.queue, "refused")
        await engine.dispose()

    asyncio.run(work())
    outbox.carry()
    assert [info.payload for info in outbox.queue.peek(3)] == ["connection", "session"]


def test_another_database_is_refused(outbox: Outbox) -> None:
    """There is no outbox in it."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(InvalidArgument, match="leads to sqlite"):
        enqueue_in(connection, outbox.queue, "x")
    engine.dispose()


@pytest.fixture
def django_connection(outbox: Outbox) -> Iterator[Any]:
    """`django.db.connection`. Settings are for the life of a process; each test puts its own database into them."""
    import django
    from django.conf import settings
    from django.db import connections
    from psycopg.conninfo import conninfo_to_dict

    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None, DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}})
        django.setup()
    parts = conninfo_to_dict(outbox.dsn)
    place = {"NAME": parts["dbname"], "USER": parts["user"], "HOST": parts["host"], "PORT": parts["port"]}
    connections.settings["default"].update(place)
    yield django.db.connection
    connections["default"].close()
    del connections["default"]


def test_django(outbox: Outbox, django_connection: Any) -> None:
    """Inside of `atomic`; outside of it Django commits each statement, so it is refused there."""
    from django.db import transaction

    with pytest.raises(InvalidArgument, match="autocommit"):
        enqueue_in(django_connection, outbox.queue, "refused")
    with transaction.atomic():
        enqueue_in(django_connection, outbox.queue, {"to": "ann"}, id="kept")
        with suppress(ZeroDivisionError), transaction.atomic():
            enqueue_in(django_connection, outbox.queue, "rolled back")
            raise ZeroDivisionError
    outbox.carry()
    assert [info.id for info in outbox.queue.peek(3)] == ["kept"]


def test_effects_once_with_django(outbox: Outbox, django_connection: Any) -> None:
    """The block is the outermost one; inside another it could not commit, unless that is a test's."""
    from django.db import transaction

    item = claimed(outbox)
    with effects_once(django_connection, item) as fresh:
        assert fresh
    with transaction.atomic():
        assert not finish_in(django_connection, item)
        with pytest.raises(InvalidArgument, match="open on the connection"), effects_once(django_connection, item):
            pytest.fail("the block is not entered")
