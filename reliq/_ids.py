"""Ids and receipts: text to users, few bytes to the server.

A UUID in its canonical form takes 16 bytes on the server, every other id its UTF-8 bytes. 16 bytes always mean a UUID:
another id of that length gets a NUL byte at its end, which no id may contain.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from struct import Struct

from reliq.errors import InvalidArgument

MAX_ID = 200

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_HALVES = Struct(">QQ").pack
_NOISE = Struct(">Q").iter_unpack


def new_keys(count: int) -> list[bytes]:
    """New UUIDv7 (RFC 9562, 6.2 method 3), in increasing order: ms, 12 bits of their fraction, 62 random bits.

    Other processes and other calls may make smaller ones: the order of a queue comes from the server, never from here.
    """
    ns = time.time_ns()
    ms, rest = divmod(ns, 1_000_000)
    first = (ms << 12) | (rest * 4096 // 1_000_000)
    return [
        _HALVES((stamp >> 12) << 16 | 0x7000 | stamp & 0xFFF, noise & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
        for stamp, (noise,) in enumerate(_NOISE(os.urandom(8 * count)), first)
    ]


def new_key() -> bytes:
    """One of them, for a third of the price of a list."""
    ms, rest = divmod(time.time_ns(), 1_000_000)
    noise = int.from_bytes(os.urandom(8))
    return _HALVES(ms << 16 | 0x7000 | rest * 4096 // 1_000_000, noise & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)


def stream_of_keys(block: int = 100) -> Iterator[bytes]:
    """New ids without end, made in blocks: one at a time the system call for the noise costs more than the id.

    For one call of one thread. A stream that a forked child shared with its parent would give both the same ids.
    """
    while True:
        yield from new_keys(block)


def new_receipt() -> bytes:
    """A new claim id: 16 random bytes."""
    return os.urandom(16)


def pack(text: str) -> bytes:
    """An id as the server has it."""
    if len(text) == 36 and _UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))
    key = text.encode()
    return key + b"\0" if len(key) == 16 else key


def unpack(key: bytes) -> str:
    """An id as users see it."""
    if len(key) == 16:
        h = key.hex("-", 2)
        return h[:4] + h[5:29] + h[30:34] + h[35:]
    return key.rstrip(b"\0").decode("utf-8", "backslashreplace")


def check(text: object, what: str = "an id") -> str:
    """Returns an id, or what has the same rules, that may be used.

    Raises:
        InvalidArgument: not a string, empty, over 200 bytes, or not printable.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"{what} is a string, not {type(text).__name__}")
    size = len(text.encode("utf-8", "surrogatepass"))
    if not 0 < size <= MAX_ID:
        raise InvalidArgument(f"{what} is 1 to {MAX_ID} bytes of text; this one has {size}")
    if not text.isprintable():
        raise InvalidArgument(f"{what} is printable text; {text!r} is not")
    return text
