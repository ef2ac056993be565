"""Claimed items that no server knows, for what only looks at them."""

from __future__ import annotations

from reliq import Item
from reliq._reading import held_under


def item(item_id: str = "a", receipt: bytes = b"r" * 16) -> Item:
    return Item(held_under("q", receipt), item_id.encode(), None, {})
