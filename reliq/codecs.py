"""Payload codecs: compression, encryption, and a claim check for payloads that are too large for Redis.

    codecs = [Zstd(), AesGcm(keys, current="2025"), ClaimCheck(FileStore("/srv/films"))]
    queue = reliq.Queue("films", url, codecs=codecs)

They are applied in this order on the way in, and in reverse on the way out. Every client that reads payloads needs
them; the names of those that an item went through are stored with it. A payload that can't be decoded is set aside
among the dead with its bytes.
"""

# ruff: noqa: ARG002  every codec is told the queue and the item; not every one needs to know

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from reliq._blobs import FileStore
from reliq.errors import CodecError, InvalidArgument, PayloadError

__all__ = ["AesGcm", "BlobStore", "ClaimCheck", "FileStore", "Zstd"]

# The first byte of what a codec wrote: as it was, or changed. For AesGcm: the version of its envelope.
_AS_IT_WAS, _CHANGED = b"\0", b"\1"
_ENVELOPE = 1
_NONCE = 12
_DIGEST = 32


class Zstd:
    """Compresses payloads. What is short, or does not shrink, is stored as it is, behind a byte that says so.

    Args:
        level: 1 (fast) to 22 (small).
        threshold: bytes below which a payload is not compressed.
        max_output: bytes that a payload may have before compression. Bounds what a small stored payload can grow to.

    Raises:
        InvalidArgument.
        CodecError: the package zstandard is missing.
    """

    name = "zstd"

    def __init__(self, level: int = 3, threshold: int = 1024, max_output: int = 64 * 1024 * 1024) -> None:
        self.level = _within(level, "level", 1, 22)
        self.threshold = _within(threshold, "threshold", 0, 2**31)
        self.max_output = _within(max_output, "max_output", 1, 2**31)
        self._zstandard = _extra("zstandard", "zstd")
        self._mine = threading.local()  # its contexts must not be used by two threads at once

    def __repr__(self) -> str:
        return f"Zstd(level={self.level}, threshold={self.threshold}, max_output={self.max_output})"

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        """Compresses. Raises PayloadError over `max_output`, because no reader would take it."""
        if len(data) > self.max_output:
            raise PayloadError(f"the payload has {len(data)} bytes before compression, the limit is {self.max_output}")
        if len(data) < self.threshold:
            return _AS_IT_WAS + data
        if not hasattr(self._mine, "compressor"):
            self._mine.compressor = self._zstandard.ZstdCompressor(level=self.level)
        packed: bytes = self._mine.compressor.compress(data)
        return _CHANGED + packed if len(packed) < len(data) else _AS_IT_WAS + data

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        """Decompresses, up to `max_output` bytes."""
        changed, rest = _marked(data, self.name)
        if not changed:
            return rest
        size = self._zstandard.frame_content_size(rest)  # -1 where the frame does not say
        if size > self.max_output:
            raise CodecError(f"the payload would grow to {size} bytes, the limit is {self.max_output}")
        if not hasattr(self._mine, "decompressor"):
            self._mine.decompressor = self._zstandard.ZstdDecompressor()
        whole: bytes = self._mine.decompressor.decompress(rest, max_output_size=self.max_output, allow_extra_data=False)
        return whole


class AesGcm:
    """Encrypts payloads with AES-GCM. A payload can't be read, changed, or moved to another item or queue unnoticed.

    Ids, headers and errors are not encrypted. To change keys: give all clients the new key, then make it the current
    one, and drop the old one when no item needs it any more.

    Args:
        keys: key ring: an id of 1 to 255 bytes, stored in the clear, -> a secret key of 16, 24 or 32 random bytes. One
            key is good for 2**32 payloads, because the nonce of each is 96 random bits.
        current: id of the key that encrypts. All of them decrypt.

    Raises:
        InvalidArgument: never shows a key.
        CodecError: the package cryptography is missing.
    """

    name = "aesgcm"

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        aead = _extra("cryptography.hazmat.primitives.ciphers.aead", "crypto")
        self._invalid_tag = _extra("cryptography.exceptions", "crypto").InvalidTag
        for key_id, key in keys.items():
            _check_key(key_id, key)
        if current not in keys:
            raise InvalidArgument(f"current names the key {current!r}, which is not in the key ring")
        self.current = current
        self._ciphers: dict[str, Any] = {key_id: aead.AESGCM(key) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        return f"AesGcm(keys={sorted(self._ciphers)}, current={self.current!r})"

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        """Version, key id behind its length, nonce; then the cipher text with its tag."""
        key_id, nonce = self.current.encode(), os.urandom(_NONCE)
        head = bytes((_ENVELOPE, len(key_id))) + key_id
        sealed: bytes = self._ciphers[self.current].encrypt(nonce, data, _bound_to(head, queue, item_id))
        return head + nonce + sealed

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        """Decrypts what was encrypted for this very item."""
        if len(data) < 2 or data[0] != _ENVELOPE:
            raise CodecError("the encrypted payload has no form that this reliq knows")
        end = 2 + data[1]
        head, nonce, sealed = data[:end], data[end : end + _NONCE], data[end + _NONCE :]
        key_id = head[2:].decode("utf-8", "backslashreplace")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CodecError(f"the payload needs the key {key_id!r}, which is not in the key ring")
        try:
            opened: bytes = cipher.decrypt(nonce, sealed, _bound_to(head, queue, item_id))
        except (self._invalid_tag, ValueError) as error:
            raise CodecError(
                f"the payload is not what was encrypted with the key {key_id!r} for this item: it is damaged, or moved "
                "here from another item or queue, or the key is another one"
            ) from error
        return opened


class BlobStore(Protocol):
    """Where a claim check keeps large payloads. Any exception of `get` means that the payload can't be read."""

    def put(self, key: str, data: bytes) -> None:
        """Stores data durably, over what is there under this key. `key` is the SHA-256 of the data in hex."""

    def get(self, key: str) -> bytes:
        """What was stored. Raises where there is nothing."""

    def delete(self, key: str) -> None:
        """Removes what was stored; quiet where there is nothing. reliq itself never calls it."""


class ClaimCheck:
    """Keeps payloads above a size in a store; the item carries a name and a digest, which is checked when it is read.

    A payload is in the store before its item is in the queue. It stays there when the item has ended: several items
    may share it, and a late reader may want it. See `FileStore.expire`.

    Args:
        store: a `BlobStore`, such as `FileStore`.
        threshold: bytes above which a payload goes to the store.
    """

    name = "claimcheck"

    def __init__(self, store: BlobStore, threshold: int = 256 * 1024) -> None:
        self.store = store
        self.threshold = _within(threshold, "threshold", 0, 2**31)

    def __repr__(self) -> str:
        return f"ClaimCheck({self.store!r}, threshold={self.threshold})"

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        """Stores what is large, and returns its digest and name."""
        if len(data) <= self.threshold:
            return _AS_IT_WAS + data
        digest = hashlib.sha256(data)
        self.store.put(digest.hexdigest(), data)
        return _CHANGED + digest.digest() + digest.hexdigest().encode()

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        """Fetches what is in the store, and compares it with its digest."""
        changed, rest = _marked(data, self.name)
        if not changed:
            return rest
        digest, name = rest[:_DIGEST], rest[_DIGEST:].decode()
        found = self.store.get(name)
        if hashlib.sha256(found).digest() != digest:
            raise CodecError(f"{name} in the store is not what was put there: {len(found)} bytes, with another digest")
        return found


def _bound_to(head: bytes, queue: str, item_id: str) -> bytes:
    """What the tag covers beside the payload. Lengths first, so that no two queues and ids look the same."""
    names = [queue.encode(), item_id.encode()]
    return b"".join(len(part).to_bytes(2, "big") + part for part in [head, *names])


def _marked(data: bytes, name: str) -> tuple[bool, bytes]:
    if data[:1] not in (_AS_IT_WAS, _CHANGED):
        raise CodecError(f"the payload has no form that the codec {name!r} knows")
    return data[:1] == _CHANGED, data[1:]


def _check_key(key_id: object, key: object) -> None:
    if not isinstance(key_id, str) or not 0 < len(key_id.encode()) < 256:
        raise InvalidArgument("a key id is 1 to 255 bytes of text")
    if not isinstance(key, bytes) or len(key) not in (16, 24, 32):
        raise InvalidArgument(f"the key {key_id!r} is not 16, 24 or 32 bytes")


def _within(value: object, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidArgument(f"{name} is a whole number from {low} to {high}, not {value!r}")
    return value


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise CodecError(f"the package {package} is missing: pip install 'reliq-queue[{extra}]'") from error
