"""What a queue's keys have that no item explains, and counters that don't add up. Only reads, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator

from reliq.mirror._filling import PAGE, Filling
from reliq.mirror._rows import has_ended, unpack_ids

BY_ID = ("attempts", "errors", "groups", "checkpoints", "members")  # hashes with a field for each item that has some
ASIDE = ("scheduled", "orphaned", "dead")


def problems(filling: Filling) -> Iterator[str]:
    """Everything that is wrong, in words. What moves while this looks is looked at a second time."""
    for name in BY_ID:
        yield from _of_nobody(filling, name)
    for name in ASIDE:
        yield from _without_item(filling, name)
    yield from _claims(filling)
    yield from _counters(filling)


def _of_nobody(filling: Filling, name: str) -> Iterator[str]:
    """Fields of a hash whose item has ended or is unknown."""
    key, wrong = filling.session.keys[name], set[bytes]()
    cursor = b"0"
    while True:
        cursor, flat = filling.ask("HSCAN", key, cursor, "COUNT", PAGE)
        wrong |= _dead_ids(filling, flat[::2])
        if cursor == b"0":
            break
    left = [i for i in _dead_ids(filling, sorted(wrong)) if filling.ask("HEXISTS", key, i)]
    if left:
        yield f"{name} has {len(left)} entries of items that are not there"


def _dead_ids(filling: Filling, ids: list[bytes]) -> set[bytes]:
    """Those of ids that are no live items."""
    wrong: set[bytes] = set()
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        found = filling.ask("HMGET", filling.session.keys["items"], *page)
        wrong |= {i for i, record in zip(page, found, strict=True) if not record or has_ended(record)}
    return wrong


def _without_item(filling: Filling, name: str) -> Iterator[str]:
    """Members of a sorted set that are no live items. A dead one may have lost its record: it was buried for that."""
    key, wrong = filling.session.keys[name], set[bytes]()
    for page in filling.pages(name):
        wrong |= _dead_ids(filling, page)
    left = [i for i in _dead_ids(filling, sorted(wrong)) if filling.ask("ZSCORE", key, i) is not None]
    if left:
        yield f"{name} has {len(left)} ids whose item is not there"


def _claims(filling: Filling) -> Iterator[str]:
    """A lease without a claim ends with nothing; a claim without a lease never ends."""
    leases, claims = filling.session.keys["leases"], filling.session.keys["claims"]
    receipts: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, flat = filling.ask("HSCAN", claims, cursor, "COUNT", PAGE)
        receipts |= set(flat[::2])
        if cursor == b"0":
            break
    for start in range(0, len(receipts), PAGE):
        page = sorted(receipts)[start : start + PAGE]
        scores = filling.ask("ZMSCORE", leases, *page)
        open_ended = [r for r, score in zip(page, scores, strict=True) if score is None]
        if left := [r for r in open_ended if filling.ask("HEXISTS", claims, r)]:
            yield f"claims has {len(left)} entries without a lease: their items are never recovered"


def _counters(filling: Filling) -> Iterator[str]:
    """Everything that was enqueued is counted in one state."""
    counts, held = _steady(filling)
    places = sum(counts[n] for n in ("queued", "scheduled", "in_progress", "orphaned", "dead", "finished", "removed"))
    if places != counts["enqueued"]:
        yield f"counter enqueued is {counts['enqueued']}, and {places} items are or were in some state"
    if held != counts["in_progress"]:
        yield f"counter in_progress is {counts['in_progress']}, and claims hold {held} items"


def _steady(filling: Filling) -> tuple[dict[str, int], int]:
    """Counts, and items that claims hold. Where something moves between the two calls, the latter are not judged."""
    for _ in range(3):
        counts, held = filling.counts(), _held(filling)
        if filling.counts() == counts:
            return counts, held
    counts = filling.counts()
    return counts, counts["in_progress"]


def _held(filling: Filling) -> int:
    held, cursor = 0, b"0"
    while True:
        cursor, flat = filling.ask("HSCAN", filling.session.keys["claims"], cursor, "COUNT", PAGE)
        held += sum(len(list(unpack_ids(packed))) for packed in flat[1::2])
        if cursor == b"0":
            return held
