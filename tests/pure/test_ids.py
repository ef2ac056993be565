from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliq import InvalidArgument
from reliq._ids import MAX_ID, check, new_key, new_keys, new_receipt, pack, stream_of_keys, unpack

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)
ids = st.one_of(printable, st.uuids().map(str), st.text("abc", min_size=16, max_size=16))


@given(ids, ids)
def test_ids_and_their_bytes_are_one_to_one(one: str, two: str) -> None:
    """Every id comes back from its bytes, and no two ids have the same."""
    assert unpack(pack(one)) == one
    assert (pack(one) == pack(two)) == (one == two)


def test_uuids_are_short_on_the_server() -> None:
    """A UUID in canonical form takes 16 bytes, and only a UUID does."""
    text = "018f0000-0000-7000-8000-00000000000a"
    assert pack(text) == uuid.UUID(text).bytes
    assert len(pack(text.upper())) == 36
    assert len(pack("sixteen bytes ok")) == 17
    assert unpack(pack("sixteen bytes ok")) == "sixteen bytes ok"


@pytest.mark.parametrize("make", [new_key, lambda: new_keys(1)[0]], ids=["alone", "in a list"])
def test_new_ids_are_uuids_of_version_7(make: Callable[[], bytes]) -> None:
    """Version, variant and the time in milliseconds are where RFC 9562 has them."""
    before = time.time_ns() // 1_000_000
    key = make()
    after = time.time_ns() // 1_000_000
    made = uuid.UUID(unpack(key))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= int.from_bytes(key[:6], "big") <= after


def test_new_ids_grow_within_a_call() -> None:
    """Also over the end of a millisecond, the ids of one call are in increasing order."""
    keys = new_keys(10_000)
    assert all(a < b for a, b in itertools.pairwise(keys))
    assert all(uuid.UUID(bytes=key).version == 7 for key in keys)


def test_a_stream_of_ids() -> None:
    """A stream goes on over its blocks, without repeating an id."""
    keys = list(itertools.islice(stream_of_keys(10), 100))
    assert len(set(keys)) == 100


def test_receipts_differ() -> None:
    """Each claim has a receipt of 16 random bytes."""
    receipts = {new_receipt() for _ in range(100)}
    assert len(receipts) == 100
    assert {len(receipt) for receipt in receipts} == {16}


@pytest.mark.parametrize("text", ["a", "x" * MAX_ID, "ä" * (MAX_ID // 2), "two words", "🎉"])
def test_ids_that_may_be_used(text: str) -> None:
    """1 to 200 bytes of printable text."""
    assert check(text) == text


@pytest.mark.parametrize("text", ["", "x" * (MAX_ID + 1), "ä" * 101, "a\nb", "a\0", "\x7f", "\udc80", None, 1, b"a"])
def test_ids_that_may_not(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(InvalidArgument):
        check(text)
