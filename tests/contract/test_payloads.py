from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reliq import Queue

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    10**400,
    -(10**400),
    0.1,
    -0.0,
    math.inf,
    "",
    "grüße 🎉",
    b"",
    bytes(range(256)),
    [],
    {},
    {"a": [1, {"b": b"c"}]},
    {1: "int key", None: "none key", b"k": "bytes key", 1.5: "float key"},
    [[[[]]]],
    uuid.UUID(int=5),
    Decimal("12.340"),
    Decimal("-1E-400"),
    dt.date(2024, 2, 29),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001  naive on purpose
    dt.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=dt.UTC),
    dt.timedelta(days=-1, microseconds=1),
    dt.timedelta.max,
    {(1, (2, 3)): [{"k": {(): 1}}]},
    {"mixed": [uuid.UUID(int=1), {"n": 2**100, "d": Decimal(1)}, dt.date.min]},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}")
def test_a_value_comes_back_as_it_was(queue: Queue, value: Any) -> None:
    """What was enqueued is what a worker gets, type and all."""
    queue.enqueue(value, id="a")
    (item,) = queue.claim()
    assert item.payload == value
    assert type(item.payload) is type(value)
    assert queue.get("a").payload == value


def test_tuples_become_lists(queue: Queue) -> None:
    """msgpack has one kind of sequence."""
    queue.enqueue((1, (2, 3)))
    assert queue.claim()[0].payload == [1, [2, 3]]


def test_not_a_number(queue: Queue) -> None:
    """NaN is carried as well."""
    queue.enqueue(math.nan)
    assert math.isnan(queue.claim()[0].payload)


def test_an_instant_keeps_its_instant(queue: Queue) -> None:
    """A time with a zone comes back as the same instant in UTC."""
    there = dt.datetime(2024, 6, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
    queue.enqueue(there)
    back = queue.claim()[0].payload
    assert back == there
    assert back.tzinfo is dt.UTC


def test_headers_travel_beside_the_payload(queue: Queue) -> None:
    """Headers come back as they went in; without them there is an empty mapping."""
    headers = {"traceparent": "00-ab-cd-01", "": "empty", "ключ": "значение"}
    queue.enqueue_many([1])
    queue.enqueue(2, headers=headers)
    queue.enqueue(b"\xc1", headers={})
    assert [(item.payload, item.headers) for item in queue.claim(3)] == [(1, {}), (2, headers), (b"\xc1", {})]


def test_a_large_payload(queue: Queue) -> None:
    """Half a MiB is carried."""
    payload = bytes(512 * 1024 - 5)
    queue.enqueue_many([payload] * 20)
    assert all(item.payload == payload for item in queue.claim(20))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**300), max_value=2**300),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=50),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.timedeltas(),
)
keys = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.binary(max_size=9))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(values, min_size=1, max_size=5))
def test_any_nested_value_comes_back(queue: Queue, payloads: list[Any]) -> None:
    """Whatever is built from the supported types makes the journey."""
    queue.enqueue_many(payloads)
    items = queue.claim(10)
    assert [item.payload for item in items] == payloads
    queue.finish(items)
