"""A record's bytes and what they mean. The server never looks into a payload.

    record  =  stamp (6 bytes, made by the server)  body
    body    =  payload in msgpack
            |  0xC1  msgpack [headers, names of the codecs, payload]

0xC1 is the one byte that msgpack never uses. The short form is what most items have: it adds 6 bytes to a payload.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgpack

from reliq.errors import CodecError, PayloadError, ReliqError

MAX_PAYLOAD = 512 * 1024
STAMP = 6
_LONG = 0xC1
_LONG_BYTE = b"\xc1"
_TICK = 5e-6
_STAMP_EPOCH = 1735689600  # 2025-01-01, see lua/_stamp.lua

_UUID, _DECIMAL, _DATE, _NAIVE, _DELTA, _BIG = 1, 2, 3, 4, 5, 6

_KEEP_BUFFER = 1024 * 1024  # bytes; the largest payload after which a thread keeps its packer
_local = threading.local()


class Codec(Protocol):
    """Changes payload bytes on their way in and out: compression, encryption, a claim check.

    `name` is stored with every item that went through it, so that a reader without it says so.
    """

    name: str

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes: ...

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes: ...


def encode_long(
    payload: Any,
    *,
    queue: str,
    item_id: str,
    headers: Mapping[str, str],
    codecs: Sequence[Codec],
    limit: int,
) -> bytes:
    """The long form of a body: with headers, or with codecs that the payload goes through in their order.

    Raises:
        PayloadError: a part of it can't be carried, a codec failed, or what is to be stored is over `limit` bytes.
    """
    data = pack_payload(payload)
    for codec in codecs:
        data = _encoded(codec, data, queue, item_id)
    sized(data, limit)
    return _LONG_BYTE + _pack([_checked_headers(headers), [codec.name for codec in codecs], data])


def is_short(body: bytes) -> bool:
    """Whether a body is a payload and nothing else: then nobody has to work out its id as text to decode it."""
    return body[:1] != _LONG_BYTE


def decode(body: bytes, *, queue: str, item_id: str, codecs: Mapping[str, Codec]) -> tuple[Any, dict[str, str]]:
    """Payload and headers of a body.

    Raises:
        CodecError: damaged bytes, or a codec that this queue was not given.
    """
    if is_short(body):
        return unpack_payload(body), {}
    headers, names, data = _long_parts(body)
    for name in reversed(names):
        codec = codecs.get(name)
        if codec is None:
            raise CodecError(f"the payload needs the codec {name!r}; pass it to the queue in codecs=")
        data = _decoded(codec, data, queue, item_id)
    return unpack_payload(data), headers


def _encoded(codec: Codec, data: bytes, queue: str, item_id: str) -> bytes:
    try:
        encoded = codec.encode(data, queue=queue, item_id=item_id)
    except ReliqError:
        raise
    except Exception as error:  # a codec may be the user's, and a store of payloads fails as stores do
        raise PayloadError(f"the codec {codec.name!r} failed: {_text(error)}") from error
    if not isinstance(encoded, bytes):
        raise PayloadError(f"the codec {codec.name!r} returned {type(encoded).__name__}, not bytes")
    return encoded


def _decoded(codec: Codec, data: bytes, queue: str, item_id: str) -> bytes:
    try:
        return codec.decode(data, queue=queue, item_id=item_id)
    except CodecError:
        raise
    except Exception as error:  # as above; whatever it is, the item is set aside and the claim goes on
        raise CodecError(f"the codec {codec.name!r} can't decode the payload: {_text(error)}") from error


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def enqueued_at(record: bytes) -> float:
    """When a record was enqueued: Unix seconds of the server's clock."""
    return int.from_bytes(record[:STAMP], "big") * _TICK + _STAMP_EPOCH


def pack_payload(payload: Any) -> bytes:
    """msgpack, with extension types for what Python has and msgpack has not."""
    try:
        return _pack(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise _problem(payload, error) from error


def unpack_payload(data: bytes) -> Any:
    """What `pack_payload` packed. Lengths are bounded by the data itself, so that no header can ask for more."""
    try:
        return _unpack(data)
    except Exception as error:  # msgpack raises ValueErrors and others of its own, and any hook may fail
        raise CodecError(f"the payload can't be decoded: {str(error) or type(error).__name__}") from error


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, timestamp=3, ext_hook=_from_ext, strict_map_key=False)
    except TypeError:  # a key that was a tuple has come as a list, which is no key
        return msgpack.unpackb(
            data, timestamp=3, ext_hook=_from_ext, strict_map_key=False, object_pairs_hook=_with_tuples
        )


def _with_tuples(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_frozen(key): value for key, value in pairs}


def _frozen(key: Any) -> Any:
    return tuple(_frozen(part) for part in key) if isinstance(key, list) else key


def _pack(value: Any) -> bytes:
    """Packs with one packer per thread: making one, with its buffer, costs eight times what packing does."""
    try:
        packer = _local.packer
    except AttributeError:
        packer = _local.packer = msgpack.Packer(default=_to_ext, datetime=True)
    packed: bytes = packer.pack(value)
    if len(packed) > _KEEP_BUFFER:
        del _local.packer  # it would hold on to that much memory
    return packed


def sized(data: bytes, limit: int) -> bytes:
    """Returns the data where it is within the limit."""
    if len(data) > limit:
        raise PayloadError(
            f"the payload takes {len(data)} bytes, the limit is {limit}: store it elsewhere, send its name"
        )
    return data


def _checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    for key, value in headers.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise PayloadError(f"headers are pairs of strings; {key!r} is not", path=f"headers[{key!r}]")
    return dict(headers)


def _long_parts(body: bytes) -> tuple[dict[str, str], list[str], bytes]:
    parts = unpack_payload(body[1:])
    match parts:
        case [dict() as headers, list() as names, bytes() as data] if all(isinstance(name, str) for name in names):
            return headers, names, data
    raise CodecError("the record has no form that this reliq knows")


def _to_ext(value: Any) -> Any:
    match value:
        case int():  # over 64 bits, else it would not be asked for
            return msgpack.ExtType(_BIG, f"{value:x}".encode())
        case uuid.UUID():
            return msgpack.ExtType(_UUID, value.bytes)
        case Decimal():
            return msgpack.ExtType(_DECIMAL, str(value).encode())
        case dt.datetime():
            return msgpack.ExtType(_NAIVE, value.isoformat().encode())
        case dt.date():
            return msgpack.ExtType(_DATE, value.isoformat().encode())
        case dt.timedelta():
            micros = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
            return msgpack.ExtType(_DELTA, str(micros).encode())
    raise TypeError(f"{type(value).__name__} can't be carried")


def _from_ext(code: int, data: bytes) -> Any:
    if code == _UUID:
        return uuid.UUID(bytes=bytes(data))
    text = bytes(data).decode("ascii", "replace")
    if code == _DECIMAL:
        return Decimal(text)
    if code == _DATE:
        return dt.date.fromisoformat(text)
    if code == _NAIVE:
        return dt.datetime.fromisoformat(text)
    if code == _DELTA:
        return dt.timedelta(microseconds=int(text))
    if code == _BIG:
        return int(text, 16)
    return msgpack.ExtType(code, data)


def _problem(payload: Any, error: Exception) -> PayloadError:
    """The error that names the smallest part of the payload that can't be carried."""
    path, part = "payload", payload
    if isinstance(error, RecursionError) or "recursion" in str(error).lower():
        return PayloadError("the payload is nested too deeply")
    while (found := _bad_child(part)) is not None:
        step, part = found
        path += step
    return PayloadError(f"{path} can't be carried: {type(part).__name__} ({error})", path=path)


def _bad_child(part: Any) -> tuple[str, Any] | None:
    children: list[tuple[str, Any]] = []
    if isinstance(part, dict):
        children = [(f"[{key!r}]", value) for key, value in part.items()]
        children += [(f".keys()[{key!r}]", key) for key in part]
    elif isinstance(part, list | tuple):
        children = [(f"[{i}]", value) for i, value in enumerate(part)]
    return next(((step, child) for step, child in children if not _carriable(child)), None)


def _carriable(value: Any) -> bool:
    try:
        _pack(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
