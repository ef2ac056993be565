"""Types of payloads, and a value of each that has everything in it that is not plain."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pydantic

ID = uuid.UUID("0190163d-8694-739b-aea5-966c26f8ad91")
AT = dt.datetime(2026, 3, 1, 12, 30, 0, 250000, tzinfo=dt.UTC)
PLAIN: dict[str, Any] = {  # what reliq carries by itself, and so what is stored for any of the types
    "id": ID,
    "at": AT,
    "day": dt.date(2026, 3, 1),
    "grace": dt.timedelta(days=2, microseconds=1),
    "price": Decimal("19.990"),
    "raw": b"\xff\x00",
    "colour": "red",
    "tags": ["new"],
    "opens": "09:15:00",
    "lines": [{"sku": "a-1", "count": 3}],
}


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Line:
    sku: str
    count: int


@dataclass
class Order:
    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    grace: dt.timedelta
    price: Decimal
    raw: bytes
    colour: Colour
    tags: set[str]
    opens: dt.time
    lines: list[Line] = field(default_factory=list)


class StructLine(msgspec.Struct):
    sku: str
    count: int


class StructOrder(msgspec.Struct):
    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    grace: dt.timedelta
    price: Decimal
    raw: bytes
    colour: Colour
    tags: set[str]
    opens: dt.time
    lines: list[StructLine] = []


class Model(pydantic.BaseModel):
    class Line(pydantic.BaseModel):
        sku: str
        count: int

    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    grace: dt.timedelta
    price: Decimal
    raw: bytes
    colour: Colour
    tags: set[str]
    opens: dt.time
    lines: list[Line] = []


class DictOrder(TypedDict):
    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    grace: dt.timedelta
    price: Decimal
    raw: bytes
    colour: str
    tags: list[str]
    opens: str
    lines: list[dict[str, Any]]


class Cancel(msgspec.Struct, tag=True):
    order: uuid.UUID


class Refund(msgspec.Struct, tag=True):
    order: uuid.UUID
    cents: int


FIELDS: dict[str, Any] = {**PLAIN, "colour": Colour.RED, "tags": {"new"}, "opens": dt.time(9, 15)}
ORDERS: dict[Any, Any] = {
    Order: Order(**{**FIELDS, "lines": [Line("a-1", 3)]}),
    StructOrder: StructOrder(**{**FIELDS, "lines": [StructLine("a-1", 3)]}),
    Model: Model(**{**FIELDS, "lines": [Model.Line(sku="a-1", count=3)]}),
    DictOrder: DictOrder(**PLAIN),  # type: ignore[typeddict-item]
}
