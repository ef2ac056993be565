"""Codecs by themselves: what they write, what they refuse, what they never show."""

# ruff: noqa: ARG002  a codec is told more than each one here needs

from __future__ import annotations

import datetime as dt
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reliq import _codec
from reliq._session import Session
from reliq.codecs import AesGcm, BlobStore, ClaimCheck, FileStore, Zstd
from reliq.errors import CodecError, InvalidArgument, PayloadError, ReliqError

ROOT = Path(__file__).parents[2]
KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
HERE: Any = {"queue": "films", "item_id": "a"}
TEXT = b"the same words again and again; " * 200


def stored_body(payload: Any, *, codecs: Sequence[_codec.Codec] = (), limit: int = _codec.MAX_PAYLOAD) -> bytes:
    """What an item of the queue films with the id a stores."""
    return Session("films", codecs=codecs, max_payload=limit).encode(payload, b"a")


def through(*codecs: _codec.Codec, payload: Any) -> Any:
    """A payload on its way in and out of a record."""
    body = stored_body(payload, codecs=codecs)
    decoded, _ = _codec.decode(body, **HERE, codecs={codec.name: codec for codec in codecs})
    return decoded


class Fails:
    """A codec of a user that raises what it is told to."""

    name = "fails"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        raise self.error

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        raise self.error


class Doubles:
    """A codec of a user whose work shows in which order it was called."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        return f"{self.name} {queue} {item_id} ".encode() + data

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        return data.removeprefix(f"{self.name} {queue} {item_id} ".encode())


# The record


def test_codecs_are_applied_in_order_and_undone_in_reverse() -> None:
    """The last codec's mark is outermost in the stored bytes, and a payload comes back."""
    first, second = Doubles("first"), Doubles("second")
    body = stored_body("x", codecs=[first, second])
    assert b"second films a first films a " in body
    assert through(first, second, payload={"x": 1}) == {"x": 1}


def test_the_record_names_its_codecs_so_that_the_reader_may_list_them_in_any_order() -> None:
    """The order of decoding comes from the record, not from the reader's settings."""
    first, second = Doubles("first"), Doubles("second")
    body = stored_body("x", codecs=[first, second])
    assert _codec.decode(body, **HERE, codecs={"second": second, "first": first})[0] == "x"


def test_what_was_stored_without_codecs_is_read_with_them() -> None:
    """A queue can be given codecs while it holds items."""
    assert _codec.decode(stored_body([1]), **HERE, codecs={"zstd": Zstd()})[0] == [1]


@pytest.mark.parametrize("error", [OSError("disk on fire"), KeyError("x"), RecursionError(), InvalidArgument("no")])
def test_whatever_a_codec_raises_on_the_way_out_is_a_codec_error_with_its_cause(error: Exception) -> None:
    """A claim meets CodecError and nothing else, so that it can set the item aside."""
    body = stored_body("x", codecs=[Doubles("fails")])
    with pytest.raises(CodecError, match="fails") as caught:
        _codec.decode(body, **HERE, codecs={"fails": Fails(error)})
    assert caught.value.__cause__ is error


def test_whatever_a_codec_raises_on_the_way_in_is_a_payload_error_with_its_cause() -> None:
    """An enqueue raises what it documents, and nothing was sent."""
    error = OSError("disk on fire")
    with pytest.raises(PayloadError, match="disk on fire") as caught:
        stored_body("x", codecs=[Fails(error)])
    assert caught.value.__cause__ is error


def test_a_codec_that_returns_no_bytes_is_refused_before_anything_is_stored() -> None:
    """What could never be read again is not enqueued."""

    class Text(Doubles):
        def encode(self, data: bytes, *, queue: str, item_id: str) -> Any:
            return "text"

    with pytest.raises(PayloadError, match="str, not bytes"):
        stored_body("x", codecs=[Text("text")])


@pytest.mark.parametrize("names", [[["list"]], [1], [None], [{"a": 1}], "zstd", 7])
def test_a_record_with_damaged_codec_names_is_a_codec_error(names: Any) -> None:
    """Damage in the list of names is told as damage, never as a TypeError out of a claim."""
    body = b"\xc1" + _codec.pack_payload([{}, names, b"\x01"])
    with pytest.raises(CodecError):
        _codec.decode(body, **HERE, codecs={})


def test_the_size_limit_counts_what_is_stored() -> None:
    """A payload that compresses below max_payload is accepted, and one that does not is refused."""
    assert stored_body(TEXT * 100, codecs=[Zstd()], limit=10_000)
    with pytest.raises(PayloadError, match="limit is 10000"):
        stored_body(os.urandom(20_000), codecs=[Zstd()], limit=10_000)


# Zstd


@pytest.mark.parametrize("payload", [b"", b"x", TEXT, os.urandom(5000), {"text": TEXT.decode()}, None, [1, "two", 3.0]])
def test_zstd_gives_back_what_it_took(payload: Any) -> None:
    """Short, long, compressible and random payloads come back."""
    assert through(Zstd(threshold=10), payload=payload) == payload


def test_zstd_leaves_short_payloads_alone_behind_a_marker() -> None:
    """Below the threshold the bytes are stored as they are, after one zero byte."""
    assert Zstd(threshold=100).encode(TEXT[:99], **HERE) == b"\0" + TEXT[:99]
    assert Zstd(threshold=100).encode(TEXT[:100], **HERE)[:1] == b"\1"


def test_zstd_leaves_alone_what_does_not_shrink() -> None:
    """Random bytes cost one byte more than they are long."""
    noise = os.urandom(4000)
    assert Zstd().encode(noise, **HERE) == b"\0" + noise


def test_zstd_refuses_a_bomb() -> None:
    """A few bytes that say they grow beyond max_output are not decompressed."""
    bomb = Zstd().encode(bytes(10_000_000), **HERE)
    assert len(bomb) < 2000
    with pytest.raises(CodecError, match="10000000 bytes"):
        Zstd(max_output=1_000_000).decode(bomb, **HERE)


def test_zstd_refuses_a_bomb_that_does_not_say_its_size() -> None:
    """The limit also holds for a frame without a content size, which other writers make."""
    import zstandard

    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000_000))
    body = b"\xc1" + _codec.pack_payload([{}, ["zstd"], b"\1" + bomb])
    with pytest.raises(CodecError, match="zstd"):
        _codec.decode(body, **HERE, codecs={"zstd": Zstd(max_output=1_000_000)})


def test_zstd_refuses_to_store_what_its_reader_would_refuse() -> None:
    """A payload over max_output is an error of the producer, not a dead item."""
    with pytest.raises(PayloadError, match="limit is 1000"):
        Zstd(max_output=1000).encode(bytes(1001), **HERE)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"\7" + b[1:], lambda b: b"\1" + b])
def test_zstd_tells_damage(damage: Callable[[bytes], bytes]) -> None:
    """Cut, lengthened and re-marked bytes are codec errors."""
    stored = damage(Zstd().encode(TEXT, **HERE))
    body = b"\xc1" + _codec.pack_payload([{}, ["zstd"], stored])
    with pytest.raises(CodecError):
        _codec.decode(body, **HERE, codecs={"zstd": Zstd()})


def test_zstd_serves_many_threads() -> None:
    """Threads that share a codec do not mix their payloads up."""
    codec = Zstd(threshold=1)
    wrong: list[int] = []

    def work(number: int) -> None:
        data = str(number).encode() * 3000
        wrong.extend(1 for _ in range(200) if codec.decode(codec.encode(data, **HERE), **HERE) != data)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# AesGcm


def test_aesgcm_gives_back_what_it_took_and_shows_none_of_it() -> None:
    """The stored bytes hold neither the payload nor the key, but do hold the key's id."""
    codec = AesGcm({"2025": KEY}, "2025")
    stored = codec.encode(TEXT, **HERE)
    assert codec.decode(stored, **HERE) == TEXT
    assert stored.startswith(b"\1\x042025")
    assert TEXT[:16] not in stored
    assert KEY[:8] not in stored


def test_aesgcm_never_encrypts_twice_alike() -> None:
    """Each payload has a nonce of its own, so equal payloads look different."""
    codec = AesGcm({"k": KEY}, "k")
    nonces = {codec.encode(b"x", **HERE)[3:15] for _ in range(1000)}
    assert len(nonces) == 1000


def test_aesgcm_reads_old_keys_and_writes_the_current_one() -> None:
    """Keys are changed by adding one: what the old one encrypted stays readable."""
    old, new = AesGcm({"2024": KEY}, "2024"), AesGcm({"2024": KEY, "2025": OTHER_KEY}, "2025")
    assert new.decode(old.encode(b"x", **HERE), **HERE) == b"x"
    with pytest.raises(CodecError, match="'2025', which is not in the key ring"):
        old.decode(new.encode(b"x", **HERE), **HERE)


@pytest.mark.parametrize("there", [{"queue": "films", "item_id": "b"}, {"queue": "film", "item_id": "sa"}])
def test_aesgcm_refuses_a_payload_that_was_moved(there: dict[str, str]) -> None:
    """The payload of one item is not accepted as that of another, not even where queue and id read alike together."""
    codec = AesGcm({"k": KEY}, "k")
    with pytest.raises(CodecError, match="moved"):
        codec.decode(codec.encode(b"x", **HERE), **there)


def test_aesgcm_refuses_every_changed_byte() -> None:
    """Whichever byte is changed, version and key id included, the payload is refused."""
    codec = AesGcm({"k": KEY}, "k")
    stored = codec.encode(b"payload", **HERE)
    for at in range(len(stored)):
        changed = stored[:at] + bytes((stored[at] ^ 1,)) + stored[at + 1 :]
        with pytest.raises(CodecError):
            codec.decode(changed, **HERE)


def test_aesgcm_refuses_every_cut() -> None:
    """However much is cut off, the error is a codec error."""
    codec = AesGcm({"k": KEY}, "k")
    stored = codec.encode(b"payload", **HERE)
    for length in range(len(stored)):
        with pytest.raises(CodecError):
            codec.decode(stored[:length], **HERE)


def test_aesgcm_refuses_another_key_of_the_same_name() -> None:
    """A wrong key is told as such, and no byte of the right or the wrong one is shown."""
    stored = AesGcm({"k": KEY}, "k").encode(b"x", **HERE)
    with pytest.raises(CodecError, match="the key is another one") as caught:
        AesGcm({"k": OTHER_KEY}, "k").decode(stored, **HERE)
    assert not shows(str(caught.value), OTHER_KEY)


def test_aesgcm_swaps_no_key_id() -> None:
    """Two names for one key are two keys: the name is covered by the tag."""
    codec = AesGcm({"a": KEY, "b": KEY}, "a")
    stored = codec.encode(b"x", **HERE)
    with pytest.raises(CodecError):
        codec.decode(stored.replace(b"a", b"b", 1), **HERE)


def test_aesgcm_never_shows_a_key() -> None:
    """Neither repr, str nor the attributes of a codec hold the bytes of a key."""
    codec = AesGcm({"2024": KEY, "2025": OTHER_KEY}, "2025")
    assert repr(codec) == "AesGcm(keys=['2024', '2025'], current='2025')"
    assert not shows(f"{codec} {vars(codec)}", KEY)


@pytest.mark.parametrize(
    ("keys", "current"),
    [
        ({}, "k"),
        ({"k": KEY}, "x"),
        ({"k": KEY[:31]}, "k"),
        ({"": KEY}, ""),
        ({"k" * 256: KEY}, "k"),
        ({"k": "x" * 32}, "k"),
    ],
)
def test_aesgcm_refuses_a_key_ring_that_can_not_work(keys: Any, current: str) -> None:
    """Wrong lengths, types and names are told at once, without the key."""
    with pytest.raises(InvalidArgument) as caught:
        AesGcm(keys, current)
    assert not shows(str(caught.value), KEY[:31])


def shows(text: str, key: bytes) -> bool:
    return key.hex() in text or repr(key)[2:-1] in text or str(list(key))[1:-1] in text


# ClaimCheck and FileStore


def test_a_large_payload_is_in_the_store_and_a_small_one_is_not(tmp_path: Path) -> None:
    """The item carries a marker, the digest and the name; up to the threshold it carries the payload."""
    codec = ClaimCheck(FileStore(tmp_path), threshold=100)
    large, small = TEXT[:101], TEXT[:100]
    name = hashlib.sha256(large).hexdigest()
    assert codec.encode(small, **HERE) == b"\0" + small
    assert codec.encode(large, **HERE) == b"\1" + bytes.fromhex(name) + name.encode()
    assert (tmp_path / name[:2] / name).read_bytes() == large
    assert codec.decode(codec.encode(large, **HERE), **HERE) == large


def test_a_payload_that_changed_in_the_store_is_refused(tmp_path: Path) -> None:
    """The digest in the item is compared with what the store gives."""
    codec = ClaimCheck(FileStore(tmp_path), threshold=10)
    stored = codec.encode(TEXT, **HERE)
    only_file(tmp_path).write_bytes(TEXT[:-1])
    with pytest.raises(CodecError, match="is not what was put there"):
        codec.decode(stored, **HERE)


def test_a_damaged_file_is_healed_by_putting_the_payload_again(tmp_path: Path) -> None:
    """An enqueue that is repeated makes its payload readable again."""
    codec = ClaimCheck(FileStore(tmp_path), threshold=10)
    codec.encode(TEXT, **HERE)
    only_file(tmp_path).write_bytes(b"")
    assert codec.decode(codec.encode(TEXT, **HERE), **HERE) == TEXT


def test_a_payload_that_is_gone_from_the_store_is_a_codec_error(tmp_path: Path) -> None:
    """Also the error of the store itself arrives as CodecError, with its cause."""
    codec = ClaimCheck(FileStore(tmp_path), threshold=10)
    body = stored_body(TEXT, codecs=[codec])
    only_file(tmp_path).unlink()
    with pytest.raises(CodecError) as caught:
        _codec.decode(body, **HERE, codecs={"claimcheck": codec})
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "../" + "a" * 64]
)
def test_a_file_store_never_leaves_its_directory(tmp_path: Path, name: str) -> None:
    """A name that is not 64 digits of hex is refused by every verb, whoever wrote it into the item."""
    (tmp_path / "secret").write_bytes(b"secret")
    store = FileStore(tmp_path / "store")
    codec = ClaimCheck(store, threshold=10)
    for attempt in (lambda: store.get(name), lambda: store.put(name, b"x"), lambda: store.delete(name)):
        with pytest.raises(InvalidArgument):
            attempt()
    body = b"\xc1" + _codec.pack_payload(
        [{}, ["claimcheck"], b"\1" + hashlib.sha256(b"secret").digest() + name.encode()]
    )
    with pytest.raises(CodecError):
        _codec.decode(body, **HERE, codecs={"claimcheck": codec})


def test_a_file_store_leaves_no_half_file_when_it_fails(tmp_path: Path) -> None:
    """A put that can't write leaves neither a file under the name nor a temporary one."""
    store = FileStore(tmp_path)
    name = hashlib.sha256(TEXT).hexdigest()
    (tmp_path / name[:2] / name).mkdir(parents=True)  # a rename onto a folder fails
    with pytest.raises(OSError, match=name):
        store.put(name, TEXT)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / ".lock"]


def test_many_writers_of_one_payload_leave_one_whole_file(tmp_path: Path) -> None:
    """Equal payloads share a file, and nobody ever reads half of it."""
    store, name = FileStore(tmp_path), hashlib.sha256(TEXT).hexdigest()
    wrong: list[int] = []
    store.put(name, TEXT)

    def work() -> None:
        for _ in range(25):
            store.put(name, TEXT)
            wrong.extend([1] if store.get(name) != TEXT else [])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert only_file(tmp_path).name == name


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Payloads in a store are not readable by other users of the machine."""
    FileStore(tmp_path).put(hashlib.sha256(TEXT).hexdigest(), TEXT)
    assert only_file(tmp_path).stat().st_mode & 0o077 == 0


def test_expire_removes_what_was_not_put_for_long(tmp_path: Path) -> None:
    """Old files go, left-over temporary ones too; a file that was put again is young."""
    store = FileStore(tmp_path)
    names = [hashlib.sha256(data).hexdigest() for data in (b"old", b"again", b"new")]
    for name, data in zip(names, (b"old", b"again", b"new"), strict=True):
        store.put(name, data)
    left_over = tmp_path / names[0][:2] / ".tmp-left"
    left_over.write_bytes(b"half")
    for path in (tmp_path / names[0][:2] / names[0], tmp_path / names[1][:2] / names[1], left_over):
        os.utime(path, (0, 0))
    store.put(names[1], b"again")
    assert store.expire(dt.timedelta(hours=1)) == 2
    assert {path.name for path in tmp_path.glob("??/*")} == set(names[1:])


def test_expire_of_a_store_that_was_never_used_removes_nothing(tmp_path: Path) -> None:
    """A sweep may come before the first payload."""
    assert FileStore(tmp_path / "absent").expire(3600) == 0


@pytest.mark.parametrize("age", [0, 59, -1, float("nan")])
def test_expire_refuses_an_age_that_would_take_payloads_of_living_items(tmp_path: Path, age: float) -> None:
    """A slip of the finger does not empty the store."""
    with pytest.raises(InvalidArgument, match="at least 60"):
        FileStore(tmp_path).expire(age)


def test_a_store_of_ones_own_needs_three_methods() -> None:
    """BlobStore is a protocol: a class that has never heard of reliq will do."""

    class InMemory:
        def __init__(self) -> None:
            self.blobs: dict[str, bytes] = {}

        def put(self, key: str, data: bytes) -> None:
            self.blobs[key] = data

        def get(self, key: str) -> bytes:
            return self.blobs[key]

        def delete(self, key: str) -> None:
            self.blobs.pop(key, None)

    store: BlobStore = InMemory()
    assert through(ClaimCheck(store, threshold=1), payload=TEXT) == TEXT


def test_all_three_together(tmp_path: Path) -> None:
    """Compressed, then encrypted, then stored elsewhere: the store sees nothing of the payload."""
    noise = os.urandom(5000)
    codecs: list[_codec.Codec] = [Zstd(), AesGcm({"k": KEY}, "k"), ClaimCheck(FileStore(tmp_path), threshold=100)]
    assert through(*codecs, payload=noise) == noise
    assert noise[:16] not in only_file(tmp_path).read_bytes()


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("??/*")
    return path


# Arguments and extras


@pytest.mark.parametrize(
    "make",
    [
        lambda: Zstd(level=0),
        lambda: Zstd(level=23),
        lambda: Zstd(threshold=-1),
        lambda: Zstd(max_output=0),
        lambda: ClaimCheck(FileStore("/nowhere"), threshold=-1),
        lambda: Zstd(threshold="1"),  # type: ignore[arg-type]  # what a caller without types may pass
    ],
)
def test_arguments_out_of_range_are_told_at_once(make: Callable[[], object]) -> None:
    """A codec that can't work is not made."""
    with pytest.raises(InvalidArgument):
        make()


@pytest.mark.parametrize(
    ("package", "extra", "make"),
    [("zstandard", "zstd", "Zstd()"), ("cryptography", "crypto", "AesGcm({'k': bytes(32)}, 'k')")],
)
def test_a_missing_package_is_an_error_of_ours_that_names_the_extra(package: str, extra: str, make: str) -> None:
    """The module imports without its extras, and only what needs one asks for it."""
    code = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
import reliq.codecs
try:
    reliq.codecs.{make}
except reliq.ReliqError as error:
    print(error)
"""
    assert f"pip install 'reliq-queue[{extra}]'" in python(code)


def test_nobody_in_the_core_imports_the_codecs() -> None:
    """Importing reliq does not load reliq.codecs."""
    loaded = python("import sys, reliq; print(*sys.modules)").split()
    assert "reliq.queue" in loaded
    assert not {"reliq.codecs", "reliq._blobs"} & set(loaded)


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_all_errors_of_codecs_are_ours() -> None:
    """Whoever catches ReliqError catches these."""
    assert issubclass(CodecError, ReliqError)
    assert issubclass(PayloadError, ReliqError)
