from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliq import CodecError
from reliq._codec import decode, encode_long, enqueued_at, pack_payload, unpack_payload
from reliq._session import Session


def decoded(body: bytes) -> tuple[object, dict[str, str]]:
    return decode(body, queue="q", item_id="a", codecs={})


def test_what_most_items_have_is_plain_msgpack() -> None:
    """Without headers and codecs a body is the payload in msgpack, which other languages can write."""
    body = Session("q").encode({"to": "ann"}, b"a")
    assert body == msgpack.packb({"to": "ann"})
    assert decoded(body) == ({"to": "ann"}, {})


def test_the_long_form() -> None:
    """With headers a body begins with the one byte that msgpack never uses."""
    body = Session("q").encode(7, b"a", {"k": "v"})
    assert body[0] == 0xC1
    assert msgpack.unpackb(body[1:]) == [{"k": "v"}, [], msgpack.packb(7)]
    assert decoded(body) == (7, {"k": "v"})


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\xc1\x90", b"\xd9\xff", b"\x81\xa1", b"\xc1\x93\x01\x02\x03", b"\x01\x02"]
)
def test_damaged_bytes(body: bytes) -> None:
    """Bytes that no reliq wrote are a CodecError."""
    with pytest.raises(CodecError):
        decoded(body)


@pytest.mark.parametrize(("code", "data"), [(1, b"short"), (2, b"x"), (3, b"2024"), (4, b""), (5, b"1e9"), (6, b"zz")])
def test_damaged_extensions(code: int, data: bytes) -> None:
    """So are extension types whose bytes are not what they should be."""
    with pytest.raises(CodecError):
        unpack_payload(msgpack.packb(msgpack.ExtType(code, data)))


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """Whatever the bytes are, they are read or refused, and nothing else is raised."""
    for data in (body, b"\xc1" + body):
        with contextlib.suppress(CodecError):
            decoded(data)


def test_an_unknown_codec_is_named() -> None:
    """An item that went through a codec which this client was not given says which."""

    class Signed:
        name = "signed"

        def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
            return f"{queue} {item_id} ".encode() + data

        def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
            return data.removeprefix(f"{queue} {item_id} ".encode())

    body = encode_long("x", queue="q", item_id="a", headers={}, codecs=[Signed()], limit=99)
    assert decode(body, queue="q", item_id="a", codecs={"signed": Signed()}) == ("x", {})
    with pytest.raises(CodecError, match="signed"):
        decoded(body)


def test_foreign_extension_types_are_kept() -> None:
    """An extension type that is not ours is handed on as it is."""
    value = msgpack.ExtType(77, b"theirs")
    assert unpack_payload(pack_payload(value)) == value


def test_the_stamp_is_a_time() -> None:
    """The first six bytes of a record are ticks of 5 us since 2025."""
    assert enqueued_at(b"\0" * 6 + b"payload") == 1735689600
    assert enqueued_at((200_000).to_bytes(6, "big")) == 1735689601
