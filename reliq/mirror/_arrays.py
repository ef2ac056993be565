"""Arrays of bytes as Postgres has them in binary: put together at once, where psycopg would look at each value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

__all__ = ["ByteaArray", "bytea_array"]

_BYTEA, _ARRAY_OF_BYTEA = 17, 1001  # as pg_type has them
_HEAD = Struct(">iiIii").pack  # dimensions, whether a value is NULL, type of the values, how many, number of the first
_SIZE = Struct(">i").pack


class ByteaArray(bytes):
    """A value of type bytea[], to be passed as `%(name)b`."""


class _Ready(Dumper):
    format = Format.BINARY
    oid = _ARRAY_OF_BYTEA

    def dump(self, obj: ByteaArray) -> bytes:
        """It is what it will be."""
        return obj


psycopg.adapters.register_dumper(ByteaArray, _Ready)


def bytea_array(values: Sequence[bytes]) -> ByteaArray:
    """Values, none of them NULL, as one array."""
    head = _HEAD(1, 0, _BYTEA, len(values), 1) if values else _HEAD(0, 0, _BYTEA, 0, 0)[:12]
    return ByteaArray(b"".join((head, *chain.from_iterable(zip(map(_SIZE, map(len, values)), values, strict=True)))))
