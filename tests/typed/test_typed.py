"""Payloads of a type: in, out, and what does not fit, on both clients."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest
from typed.conftest import OpenQueue
from typed.shapes import ID, ORDERS, PLAIN, Cancel, Line, Model, Order, Refund, StructOrder

import reliq
from reliq import ItemState
from reliq.codecs import Zstd


@pytest.mark.parametrize("kind", ORDERS, ids=lambda kind: str(kind.__name__))
def test_a_payload_comes_back_as_what_it_was(open_queue: OpenQueue, kind: Any) -> None:
    """Nested values, instants, ids, amounts, bytes, sets and enums included, and of the same types."""
    queue = open_queue(kind)
    queue.enqueue(ORDERS[kind], id="o-1")
    (item,) = queue.claim()
    assert item.payload == ORDERS[kind]
    assert type(item.payload) is type(ORDERS[kind])
    assert queue.get("o-1").payload == ORDERS[kind]
    queue.finish(item)


@pytest.mark.parametrize("kind", ORDERS, ids=lambda kind: str(kind.__name__))
def test_what_is_stored_is_plain(open_queue: OpenQueue, kind: Any) -> None:
    """A client that knows no type reads the same for all of them, and what it writes they read."""
    typed, plain = open_queue(kind), open_queue()
    typed.enqueue(ORDERS[kind])
    plain.enqueue(PLAIN)
    items = plain.claim(2)
    assert [item.payload for item in items] == [PLAIN, PLAIN]
    plain.release(items)
    items = typed.claim(2)
    assert [item.payload for item in items] == [ORDERS[kind]] * 2
    typed.finish(items)


def test_batches_options_and_codecs(open_queue: OpenQueue) -> None:
    """A type goes together with everything else that happens to a payload."""
    queue = open_queue(Line, codecs=[Zstd(threshold=1)])
    queue.enqueue_many([Line("a", 1), reliq.New(Line("b", 2), id="b", headers={"trace": "7"})])
    first, second = queue.claim(2)
    assert (first.payload, second.payload, second.headers) == (Line("a", 1), Line("b", 2), {"trace": "7"})
    queue.finish([first, second])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Cancel | Refund, [Cancel(ID), Refund(ID, 250)]),
        (list[Line], [[Line("a", 1)], []]),
        (Line | None, [Line("a", 1), None]),
        (list[Model.Line], [[Model.Line(sku="a", count=1)]]),
        (int, [5, 2**80]),
    ],
    ids=str,
)
def test_types_that_are_made_of_others(open_queue: OpenQueue, kind: Any, values: list[Any]) -> None:
    """Unions with tags, lists, None, plain ones."""
    queue = open_queue(kind)
    queue.enqueue_many(values)
    items = queue.claim(10)
    assert [item.payload for item in items] == values
    queue.finish(items)


# What does not fit, on the way in


@pytest.mark.parametrize(
    ("kind", "payload", "path"),
    [
        (Line, {"sku": "a", "count": 1}, "payload"),
        (Line, Line("a", "1"), "payload.count"),  # type: ignore[arg-type]
        (list[Line], [Line("a", 1), Line("b", None)], "payload[1].count"),  # type: ignore[arg-type]
        (StructOrder, Line("a", 1), "payload"),
        (Order, Order(**{**vars(ORDERS[Order]), "at": "2026-03-01T00:00:00Z"}), "payload.at"),
        (Order, Order(**{**vars(ORDERS[Order]), "lines": [Line("a", 1.5)]}), "payload.lines[0].count"),  # type: ignore[arg-type]
        (Line, Line("a", object()), "payload"),  # type: ignore[arg-type]
        (Model, Model.model_construct(**{**dict(ORDERS[Model]), "lines": [7]}), "payload.lines[0]"),
        (Model, Line("a", 1), "payload"),
    ],
)
def test_a_payload_that_is_not_of_the_type_is_refused(
    open_queue: OpenQueue, kind: Any, payload: Any, path: str
) -> None:
    """With the path to the part that is wrong, and before anything is sent."""
    queue = open_queue(kind)
    with pytest.raises(reliq.PayloadError) as caught:
        queue.enqueue(payload)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert queue.counts().enqueued == 0


def test_a_batch_says_which_item_is_wrong(open_queue: OpenQueue) -> None:
    """As with any payload that can't be carried."""
    with pytest.raises(reliq.PayloadError, match=r"item 1: payload\.count"):
        open_queue(Line).enqueue_many([Line("a", 1), Line("b", "2")])  # type: ignore[arg-type]


class Login(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


def test_a_secret_is_refused(open_queue: OpenQueue) -> None:
    """What pydantic shows of it are asterisks; these would be what is stored, so nothing is. It is not told either."""
    with pytest.raises(reliq.PayloadError, match="secret") as caught:
        open_queue(Login).enqueue(Login(user="ann", password=pydantic.SecretStr("hunter2")))
    assert caught.value.path == "payload['password']"
    assert "hunter2" not in str(caught.value)


class Renamed(pydantic.BaseModel):
    customer: str = pydantic.Field(alias="customerName")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def loud(self) -> str:
        return self.customer.upper()


def test_aliases_and_computed_fields(open_queue: OpenQueue) -> None:
    """What is stored has the aliases, which is what the model reads; what it computes is not stored."""
    queue, plain = open_queue(Renamed), open_queue()
    queue.enqueue(Renamed(customerName="ann"))
    (item,) = queue.claim()
    assert item.payload == Renamed(customerName="ann")
    queue.release(item)
    (item,) = plain.claim()
    assert item.payload == {"customerName": "ann"}
    plain.finish(item)


# What does not fit, on the way out


@pytest.mark.parametrize("kind", [Order, Model], ids=lambda kind: str(kind.__name__))
def test_a_payload_that_does_not_fit_is_set_aside(open_queue: OpenQueue, kind: Any) -> None:
    """Among the dead with its bytes and the path; those around it are claimed. A person redrives it later."""
    plain, queue = open_queue(), open_queue(kind)
    wrong = {**PLAIN, "lines": [{"sku": "a", "count": "secret text"}]}
    plain.enqueue_many([reliq.New(wrong, id="wrong"), PLAIN])
    items = queue.claim(10)
    assert [item.payload for item in items] == [ORDERS[kind]]
    assert items.unreadable == ("wrong",)
    info = queue.get("wrong")
    assert (info.state, info.payload) == (ItemState.DEAD, None)
    assert "payload.lines[0].count" in info.problem
    assert "secret text" not in info.problem + info.error
    assert plain.get("wrong").payload == wrong
    queue.finish(items)


def test_an_older_reader(open_queue: OpenQueue) -> None:
    """What a newer client added is passed over, and what it left out has its default."""

    @dataclass
    class Newer:
        sku: str
        colour: str

    @dataclass
    class Older:
        sku: str
        count: int = 1

    open_queue(Newer).enqueue(Newer("a", "red"))
    queue = open_queue(Older)
    (item,) = queue.claim()
    assert item.payload == Older("a", 1)
    queue.finish(item)


def test_texts_are_read_as_what_they_stand_for(open_queue: OpenQueue) -> None:
    """A producer in another language may write instants and ids as texts."""
    queue = open_queue(Order)
    open_queue().enqueue({**PLAIN, "id": str(ID), "at": PLAIN["at"].isoformat()})
    (item,) = queue.claim()
    assert item.payload == ORDERS[Order]
    queue.finish(item)


# Types that can't be


class Custom:
    pass


@pytest.mark.parametrize("kind", [7, Custom, object()])
def test_a_type_that_cannot_be_converted(open_queue: OpenQueue, kind: Any) -> None:
    """Is refused when the queue object is made."""
    with pytest.raises(reliq.InvalidArgument, match="payload_type"):
        open_queue(kind)


WITHOUT = """
import sys
sys.modules[{package!r}] = None  # as where it is not installed
from dataclasses import dataclass
import reliq
{kind}
try:
    reliq.Queue("orders", "redis://127.0.0.1:1", payload_type=Order)
except reliq.InvalidArgument as error:
    print(error)
reliq.Queue("orders", "redis://127.0.0.1:1")
"""


def test_without_the_extra() -> None:
    """It says what to install; queues without a type need nothing."""
    program = WITHOUT.format(package="msgspec", kind="@dataclass\nclass Order:\n    id: int")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "payload_type=Order needs the package msgspec: pip install 'reliq-queue[msgspec]'\n"


def test_the_library_does_not_import_the_extras() -> None:
    """They are imported when a type asks for them."""
    program = "import reliq, sys; print({'msgspec', 'pydantic'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
