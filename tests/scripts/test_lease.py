"""Splitting a claim, and the ids that it packs."""

from __future__ import annotations

import pytest
from scripts.harness import START_MS, Scripts, receipt, uid

MIXED = [b"short", b"sixteen-bytes-id\0", b"l" * 200, uid(7), b"\xc3\xbcml\xc3\xa4ut", b"x"]
UUIDS = [uid(n) for n in range(6)]
VERBS = ("finish", "release")


def hold(scripts: Scripts, ids: list[bytes]) -> None:
    scripts.enqueue(*ids)
    assert scripts.claim(count=1000) == ids


@pytest.mark.parametrize("ids", [UUIDS, MIXED], ids=["uuids", "mixed"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "cut", [(0,), (5,), (2, 3), (0, 2, 4, 5), (0, 1, 2, 3, 4), (5, 4, 3, 2, 1, 0), (0, 1, 2, 3, 4, 5)]
)
def test_part_of_a_claim_is_settled(scripts: Scripts, ids: list[bytes], verb: str, cut: tuple[int, ...]) -> None:
    """Few, many or all items are cut out of a claim; the rest stays held in order under the same lease."""
    hold(scripts, ids)
    assert scripts.settle(verb, receipt(), *[ids[n] for n in cut]) == []
    left = [i for n, i in enumerate(ids) if n not in cut]
    assert scripts.held() == ({receipt(): left} if left else {})
    assert scripts.scores("leases") == ({receipt(): START_MS + 30_000} if left else {})
    assert scripts.counts()["in_progress"] == len(left)


@pytest.mark.parametrize("ids", [UUIDS, MIXED], ids=["uuids", "mixed"])
def test_one_at_a_time_until_nothing_is_left(scripts: Scripts, ids: list[bytes]) -> None:
    """A claim that is settled item by item ends, and leaves neither claim nor lease."""
    hold(scripts, ids)
    for i in ids:
        assert scripts.settle("finish", receipt(), i) == []
    assert (scripts.held(), scripts.scores("leases")) == ({}, {})
    assert scripts.counts()["finished"] == len(ids)


@pytest.mark.parametrize("ids", [UUIDS, MIXED], ids=["uuids", "mixed"])
@pytest.mark.parametrize("verb", [*VERBS, "renew"])
def test_items_that_are_not_held_are_refused(scripts: Scripts, ids: list[bytes], verb: str) -> None:
    """Strangers among the items are told by their place, and the others are settled."""
    hold(scripts, ids)
    if verb == "renew":
        assert scripts.renew(receipt(), b"stranger", ids[1], uid(99)) == [b"stranger", uid(99)]
    else:
        assert scripts.settle(verb, receipt(), b"stranger", ids[1], uid(99)) == [b"stranger", uid(99)]
    assert scripts.fail(receipt(), uid(99), ids[2])[0] == b"lost"
    scripts.counts()


@pytest.mark.parametrize("verb", VERBS)
def test_other_receipts_are_refused(scripts: Scripts, verb: str) -> None:
    """A receipt that never held the item gets nothing, and nothing changes."""
    hold(scripts, UUIDS)
    before = scripts.contents()
    assert scripts.settle(verb, receipt(2), UUIDS[0]) == [UUIDS[0]]
    assert scripts.renew(receipt(2), UUIDS[0]) == [UUIDS[0]]
    assert scripts.fail(receipt(2), UUIDS[0]) == [b"lost"]
    assert scripts.contents() == before


@pytest.mark.parametrize("verb", VERBS)
def test_same_item_twice_in_one_call(scripts: Scripts, verb: str) -> None:
    """An item that is named twice is settled once."""
    hold(scripts, UUIDS)
    assert scripts.settle(verb, receipt(), UUIDS[1], UUIDS[1]) == []
    assert scripts.held() == {receipt(): [UUIDS[0], *UUIDS[2:]]}
    assert scripts.counts()["in_progress"] == 5


def test_same_item_failed_twice_in_one_call(scripts: Scripts) -> None:
    """An item that is named twice fails once, and both places of the reply say what became of it."""
    scripts.configure(retry="tail")
    hold(scripts, UUIDS)
    assert scripts.fail(receipt(), UUIDS[1], UUIDS[2], UUIDS[1]) == [b"queued"] * 3
    assert scripts.hash("attempts")[UUIDS[1]] == b"q 1 1 0 " + receipt()
    assert scripts.counts()["in_progress"] == 4


def test_bytes_of_an_id_across_two_neighbours(scripts: Scripts) -> None:
    """An id is found only where an id begins, never in the bytes where two others meet."""
    first, second, between = b"c" * 8 + b"a" * 8, b"b" * 8 + b"d" * 8, b"a" * 8 + b"b" * 8
    hold(scripts, [first, second])
    assert scripts.settle("finish", receipt(), between) == [between]
    scripts.enqueue(between)
    scripts.claim(receipt(2))
    scripts.settle("release", receipt(2), between)
    assert scripts.held() == {receipt(): [first, second]}


def test_aligned_id_behind_its_unaligned_image(scripts: Scripts) -> None:
    """The search goes on behind a place where the bytes only look like the id."""
    ids = [b"c" * 8 + b"a" * 8, b"b" * 8 + b"d" * 8, b"a" * 8 + b"b" * 8]
    hold(scripts, ids)
    assert scripts.settle("finish", receipt(), ids[2]) == []
    assert scripts.held() == {receipt(): ids[:2]}


def test_several_receipts_in_one_call(scripts: Scripts) -> None:
    """Runs of different receipts are settled together, and refusals count through all of them."""
    scripts.enqueue(*UUIDS)
    scripts.claim(receipt(1), 2)
    scripts.claim(receipt(2), 2)
    rest = (receipt(1), 2, UUIDS[0], UUIDS[5], receipt(2), 3, UUIDS[2], UUIDS[1], UUIDS[3])
    assert scripts.call("finish", *rest) == [[1, 3]]
    assert scripts.held() == {receipt(1): [UUIDS[1]]}
    assert scripts.counts()["finished"] == 3


@pytest.mark.parametrize("verb", VERBS)
def test_repeat_is_a_quiet_yes(scripts: Scripts, verb: str) -> None:
    """The same receipt again, as after a lost reply, is no refusal and changes nothing."""
    hold(scripts, UUIDS)
    scripts.settle(verb, receipt(), *UUIDS[:3])
    before = scripts.contents()
    assert scripts.settle(verb, receipt(), *UUIDS[:3]) == []
    assert scripts.contents() == before


def test_finish_of_another_receipt_is_no_repeat(scripts: Scripts) -> None:
    """Who finished first is remembered: another receipt is refused afterwards."""
    hold(scripts, UUIDS[:1])
    scripts.now_ms += 30_000
    scripts.recover()
    scripts.claim(receipt(2))
    scripts.settle("finish", receipt(2), UUIDS[0])
    assert scripts.settle("finish", receipt(1), UUIDS[0]) == [UUIDS[0]]
    assert scripts.settle("finish", receipt(2), UUIDS[0]) == []


def test_late_finish_counts_until_the_item_is_recovered(scripts: Scripts) -> None:
    """A lease that has ended refuses nothing by itself; recovery does."""
    hold(scripts, UUIDS[:2])
    scripts.now_ms += 60_000
    assert scripts.settle("finish", receipt(), UUIDS[0]) == []
    scripts.recover()
    assert scripts.settle("finish", receipt(), UUIDS[1]) == [UUIDS[1]]
    assert scripts.states(*UUIDS[:2]) == ["finished", "queued"]


def test_renew_moves_the_whole_claim_forward_only(scripts: Scripts) -> None:
    """One item renews all that its claim holds; a shorter lease changes nothing."""
    hold(scripts, UUIDS)
    scripts.now_ms += 1000
    assert scripts.renew(receipt(), UUIDS[0], lease_ms=90_000) == []
    assert scripts.scores("leases") == {receipt(): START_MS + 91_000}
    scripts.renew(receipt(), UUIDS[0], lease_ms=10)
    assert scripts.scores("leases") == {receipt(): START_MS + 91_000}


def test_release_keeps_the_order_of_enqueue(scripts: Scripts) -> None:
    """Whatever the order of the call and of the claims, what goes back stands at the head in the order of enqueue."""
    scripts.enqueue(*UUIDS)
    scripts.claim(receipt(1), 2)
    scripts.claim(receipt(2), 2)
    rest = (receipt(2), 2, UUIDS[3], UUIDS[2], receipt(1), 2, UUIDS[1], UUIDS[0])
    scripts.call("release", *rest)
    assert scripts.queued() == UUIDS
    assert scripts.hash("attempts")[UUIDS[0]] == b"h 1 0 0 " + receipt(1)


def test_largest_claim_is_settled_in_one_call(scripts: Scripts) -> None:
    """A thousand items with the longest ids are claimed, released, claimed again and finished."""
    ids = [b"%04d" % n + b"-" * 196 for n in range(1000)]
    hold(scripts, ids)
    assert scripts.settle("release", receipt(), *ids) == []
    assert scripts.claim(receipt(2), 1000) == ids
    assert scripts.settle("finish", receipt(2), *ids) == []
    assert scripts.counts()["finished"] == 1000
