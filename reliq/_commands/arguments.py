"""Values as the scripts take them."""

from __future__ import annotations

from collections.abc import Iterable

from reliq.item import Item


def ms(seconds: float) -> int:
    return round(seconds * 1000)


def in_runs(items: Iterable[Item]) -> tuple[list[Item], list[bytes | int]]:
    """Items in the order of the arguments, and the arguments: receipt, number of ids, ids, receipt ..."""
    by_proof: dict[bytes, list[Item]] = {}
    last, run = None, []
    for item in items:
        if item.held is not last:  # most are of one claim, side by side
            last = item.held
            run = by_proof.setdefault(last.proof, [])
        run.append(item)
    flat: list[Item] = []
    args: list[bytes | int] = []
    for proof, run in by_proof.items():
        flat += run
        args += (proof, len(run), *(item.key for item in run))
    return flat, args
