"""Codecs under a real queue, on both clients: what cannot be read is set aside whole, and nothing else is held up."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from reliq.codecs import AesGcm, ClaimCheck, FileStore, Zstd
from reliq.errors import InvalidArgument, PayloadError

Make = Callable[..., Any]

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
LONG = {"text": "the same words again and again; " * 200}
PAYLOADS = [None, b"", "short", LONG, {"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "raw": os.urandom(3000)}]


@pytest.fixture(params=["zstd", "aesgcm", "claimcheck", "all"])
def codecs(request: pytest.FixtureRequest, tmp_path: Path) -> list[Any]:
    known: dict[str, Any] = {
        "zstd": Zstd(),
        "aesgcm": AesGcm({"k": KEY}, "k"),
        "claimcheck": ClaimCheck(FileStore(tmp_path), threshold=500),
    }
    return list(known.values()) if request.param == "all" else [known[request.param]]


def test_payloads_come_back_in_order_with_their_headers(make: Make, codecs: list[Any]) -> None:
    """Whatever the codec, items are what was enqueued."""
    queue = make("films", codecs)
    queue.enqueue_many(PAYLOADS)
    queue.enqueue("last", headers={"trace": "7"})
    claimed = queue.claim(100)
    assert [item.payload for item in claimed] == [*PAYLOADS, "last"]
    assert claimed[-1].headers == {"trace": "7"}
    queue.finish(claimed)
    assert queue.counts().finished == len(PAYLOADS) + 1


def test_looking_decodes_as_claiming_does(make: Make, codecs: list[Any]) -> None:
    """get, peek and scan show the payload and no problem."""
    queue = make("films", codecs)
    queue.enqueue(LONG, id="a")
    for info in (queue.get("a"), queue.peek()[0], next(iter(queue.scan("queued")))):
        assert (info.payload, info.problem) == (LONG, None)


def test_an_item_keeps_its_payload_over_a_retry(make: Make, codecs: list[Any]) -> None:
    """What went through the codecs once is read again at the next delivery."""
    queue = make("films", codecs)
    queue.enqueue(LONG)
    queue.fail(queue.claim(), "try again", retry_after=0)
    (item,) = queue.claim(wait=5)
    assert (item.payload, item.delivery) == (LONG, 2)


def test_a_reader_without_the_codec_sets_the_item_aside_and_goes_on(make: Make, codecs: list[Any]) -> None:
    """The item is dead and listed as unreadable, its bytes are kept, others are claimed, and redrive brings it back."""
    right, without = make("films", codecs), make("films")
    right.enqueue(LONG, id="a")
    without.enqueue("plain", id="b")
    stored = right.get("a").raw
    claimed = without.claim(10)
    assert ([item.id for item in claimed], claimed.unreadable) == (["b"], ("a",))
    found = without.get("a")
    assert (found.state, found.payload, found.raw) == ("dead", None, stored)
    assert codecs[-1].name in found.problem
    assert codecs[-1].name in found.error
    assert right.redrive() == 1
    (item,) = right.claim()
    assert (item.id, item.payload, item.attempt) == ("a", LONG, 1)


def test_a_wrong_key_sets_the_item_aside_until_a_queue_with_the_right_one_redrives_it(make: Make) -> None:
    """Nothing is lost by a worker that was started with the wrong key."""
    right = make("films", [AesGcm({"k": KEY}, "k")])
    wrong = make("films", [AesGcm({"k": OTHER_KEY}, "k")])
    right.enqueue(LONG, id="a")
    assert wrong.claim().unreadable == ("a",)
    assert "the key is another one" in wrong.get("a").error
    right.redrive()
    assert right.claim()[0].payload == LONG


def test_unreadable_items_are_listed_also_where_readable_ones_came_later(make: Make) -> None:
    """A finish_and_claim that met an unreadable item first, and then went on, still names it."""
    queue, other = make("films", [Zstd()]), make("films", [AesGcm({"k": KEY}, "k")])
    queue.enqueue("first")
    held = queue.claim()
    other.enqueue("not for us", id="a")
    claimed = queue.finish_and_claim(held, wait=0.05)
    assert (list(claimed), claimed.unreadable, claimed.lost) == ([], ("a",), ())
    assert queue.counts().finished == 1


def test_two_codecs_of_one_name_are_refused(make: Make) -> None:
    """A record tells codecs by name, so the second would be taken for the first when it is read."""
    with pytest.raises(InvalidArgument, match="one name"):
        make("films", [AesGcm({"a": KEY}, "a"), AesGcm({"b": OTHER_KEY}, "b")])


def test_a_key_that_was_dropped_too_early_is_named(make: Make) -> None:
    """The error of the dead item says which key id is missing."""
    make("films", [AesGcm({"2024": KEY}, "2024")]).enqueue(LONG, id="a")
    queue = make("films", [AesGcm({"2025": OTHER_KEY}, "2025")])
    assert queue.claim().unreadable == ("a",)
    assert "'2024'" in queue.get("a").error


def record(client: redis.Redis, queue: str, item_id: str) -> bytes:
    value: Any = client.hget(f"reliq:{{{queue}}}:items", item_id)
    return bytes(value)


def put_record(client: redis.Redis, queue: str, item_id: str, value: bytes) -> None:
    client.hset(f"reliq:{{{queue}}}:items", item_id, value)


def test_tampered_bytes_are_set_aside_and_kept(make: Make, redis_client: redis.Redis) -> None:
    """One changed byte in the server is noticed; the changed bytes stay, for whoever looks into it."""
    queue = make("films", [AesGcm({"k": KEY}, "k")])
    queue.enqueue(LONG, id="a")
    good = record(redis_client, "films", "a")
    bad = good[:-1] + bytes((good[-1] ^ 1,))
    put_record(redis_client, "films", "a", bad)
    assert queue.claim().unreadable == ("a",)
    assert queue.get("a").state == "dead"
    assert queue.get("a").raw == bad[6:]
    put_record(redis_client, "films", "a", good)
    queue.redrive()
    assert queue.claim()[0].payload == LONG


def test_a_payload_moved_to_another_item_is_refused(make: Make, redis_client: redis.Redis) -> None:
    """Who can write to the server can't make item b do what item a was to do."""
    queue = make("films", [AesGcm({"k": KEY}, "k")])
    queue.enqueue({"pay": 1}, id="a")
    queue.enqueue({"pay": 1000}, id="b")
    a, b = record(redis_client, "films", "a"), record(redis_client, "films", "b")
    put_record(redis_client, "films", "a", a[:6] + b[6:])
    claimed = queue.claim(10)
    assert ([item.id for item in claimed], claimed.unreadable) == (["b"], ("a",))


def test_a_payload_moved_to_another_queue_is_refused(make: Make, redis_client: redis.Redis) -> None:
    """The same id in another queue with the same keys is another item."""
    one, two = make("one", [AesGcm({"k": KEY}, "k")]), make("two", [AesGcm({"k": KEY}, "k")])
    one.enqueue("for one", id="a")
    two.enqueue("for two", id="a")
    put_record(redis_client, "two", "a", record(redis_client, "one", "a"))
    assert two.claim().unreadable == ("a",)


def test_a_payload_gone_from_the_store_sets_the_item_aside_until_it_is_back(make: Make, tmp_path: Path) -> None:
    """A store that is not mounted costs a redrive, no item."""
    queue = make("films", [ClaimCheck(FileStore(tmp_path), threshold=500)])
    queue.enqueue(LONG, id="a")
    (path,) = tmp_path.glob("??/*")
    path.rename(tmp_path / "elsewhere")
    assert queue.claim().unreadable == ("a",)
    (tmp_path / "elsewhere").rename(path)
    queue.redrive()
    assert queue.claim()[0].payload == LONG


def test_a_payload_over_the_limit_passes_with_a_claim_check(make: Make, tmp_path: Path) -> None:
    """max_payload bounds what is stored in Redis, which is then a name and a digest."""
    payload = os.urandom(700_000)
    with pytest.raises(PayloadError):
        make("films").enqueue(payload)
    queue = make("films", [ClaimCheck(FileStore(tmp_path))])
    queue.enqueue(payload, id="a")
    assert len(queue.get("a").raw) < 200
    assert queue.claim()[0].payload == payload


def test_a_store_that_fails_adds_no_item(make: Make, tmp_path: Path) -> None:
    """Where the payload can't be put, the enqueue is an error and the queue stays empty."""
    (tmp_path / "file").write_bytes(b"")
    queue = make("films", [ClaimCheck(FileStore(tmp_path / "file"), threshold=1)])
    with pytest.raises(PayloadError, match="claimcheck") as caught:
        queue.enqueue(LONG)
    assert isinstance(caught.value.__cause__, OSError)
    assert queue.counts().enqueued == 0


def test_a_bomb_is_set_aside(make: Make, redis_client: redis.Redis) -> None:
    """A worker is not made to fill its memory by a small payload."""
    make("films", [Zstd()]).enqueue(bytes(3_000_000), id="a")
    queue = make("films", [Zstd(max_output=1_000_000)])
    assert queue.claim().unreadable == ("a",)
    assert "3000005 bytes" in queue.get("a").error


def test_a_queue_gets_a_codec_while_it_holds_items(make: Make) -> None:
    """Items from before are read as they were written."""
    make("films").enqueue("before")
    queue = make("films", [Zstd(), AesGcm({"k": KEY}, "k")])
    queue.enqueue("after")
    assert [item.payload for item in queue.claim(2)] == ["before", "after"]


def test_a_repeat_of_an_enqueue_is_still_a_repeat(make: Make, codecs: list[Any]) -> None:
    """The id decides, not the bytes, which an encryption makes new each time."""
    queue = make("films", codecs)
    assert queue.enqueue(LONG, id="a").created
    assert not queue.enqueue(LONG, id="a").created
    assert queue.counts().queued == 1


def test_damaged_codec_names_in_a_record_do_not_break_a_claim(make: Make, redis_client: redis.Redis) -> None:
    """One bad record is set aside and the claim brings the others."""
    queue = make("films", [Zstd()])
    queue.enqueue("bad", id="a")
    queue.enqueue("good", id="b")
    stamp = record(redis_client, "films", "a")[:6]
    put_record(redis_client, "films", "a", stamp + b"\xc1\x93\x80\x91\x91\x01\xc4\x00")
    claimed = queue.claim(10)
    assert ([item.payload for item in claimed], claimed.unreadable) == (["good"], ("a",))
