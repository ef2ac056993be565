"""The statements of queries.sql by their names, and the file that makes the tables."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statement(name: str) -> bytes:
    """A statement of queries.sql.

    Raises:
        KeyError: there is none of this name.
    """
    return statements()[name]


@cache
def statements() -> dict[str, bytes]:
    """All statements, by name.

    Raises:
        ValueError: two have the same name.
    """
    parts = _NAME.split(_text("queries.sql"))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) < len(names):
        raise ValueError(f"queries.sql has a name twice: {sorted(name for name in names if names.count(name) > 1)}")
    return {name: body.strip().removesuffix(";").encode() for name, body in zip(names, bodies, strict=True)}


def schema() -> bytes:
    """What makes the tables, as one script."""
    return _text("schema.sql").encode()


def _text(name: str) -> str:
    return files("reliq.mirror").joinpath(name).read_text(encoding="utf-8")
