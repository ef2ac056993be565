"""Claimed items that no server knows, for what only looks at them."""

from __future__ import annotations

from reliq import Item


def item(item_id: str = "a", receipt: bytes = b"r" * 16) -> Item:
    return Item(item_id, None, {}, 1, 1, 1, 0.0, receipt.hex(), "q", 30.0, 0.0, item_id.encode(), receipt)
