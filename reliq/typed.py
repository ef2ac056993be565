"""Payloads of a type: made into plain values on their way in, and into their type again on their way out.

    queue = reliq.Queue("orders", url, payload_type=Order)

A dataclass, a TypedDict, a msgspec.Struct, and what is made of these (`list[Order]`, a union) needs the extra
`msgspec`; a pydantic model needs `pydantic`. What is stored is the same as without a type: maps, lists, and the values
that reliq carries. So a client that knows nothing of the type reads it too.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, get_args, is_typeddict

from reliq.errors import CodecError, InvalidArgument, PayloadError

__all__ = ["PayloadType", "payload_type_of"]

# What reliq's msgpack carries as it is. Not times, enums, sets and the like: these become texts, values and lists.
CARRIED = (dt.datetime, dt.date, dt.timedelta, uuid.UUID, decimal.Decimal, bytes)
_LEAVES = frozenset((*CARRIED, str, int, float, bool, type(None)))


class PayloadType(Protocol):
    """How payloads of one type become plain values, and plain values payloads."""

    def encode(self, payload: Any) -> Any:
        """The plain value of a payload. Raises PayloadError, with the path, for what is not of the type."""

    def decode(self, plain: Any) -> Any:
        """The payload of a plain value. Raises CodecError for what does not fit the type."""


def payload_type_of(kind: Any) -> PayloadType | None:
    """What converts payloads of a type; None for None.

    Args:
        kind: a class, or a type that is made of others, such as `list[Order]` and `Order | Refund`.

    Raises:
        InvalidArgument: the type can't be converted, or the package that it needs is not installed.
    """
    if kind is None:
        return None
    if any(hasattr(part, "__pydantic_validator__") for part in _parts(kind)):
        return _Pydantic(kind)
    return _Msgspec(kind)


def _parts(kind: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


class _Msgspec:
    """Dataclasses, TypedDicts, Structs, and what is made of them. Strict on the way in, lenient on the way out."""

    def __init__(self, kind: Any) -> None:
        self._msgspec = _extra("msgspec", kind)
        self._kind, self._class = kind, _class_of(kind)
        inspect = import_module("msgspec.inspect")
        try:
            found = inspect.type_info(kind)
        except TypeError as error:
            raise InvalidArgument(f"payload_type={_name(kind)} can't be converted: {error}") from error
        if isinstance(found, inspect.CustomType):
            raise InvalidArgument(
                f"payload_type={_name(kind)} can't be converted: make it a dataclass, a TypedDict or a Struct"
            )

    def encode(self, payload: Any) -> Any:
        """See `PayloadType`. A value of the wrong type is refused here, where its path can still be told."""
        _check_class(payload, self._class)
        try:
            plain = self._msgspec.to_builtins(payload, builtin_types=CARRIED)
            self._msgspec.convert(plain, self._kind, builtin_types=CARRIED)
        except (self._msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            problem, path = _split(str(error))
            raise PayloadError(f"{path} is not of {_name(self._kind)}: {problem}", path=path) from error
        return plain

    def decode(self, plain: Any) -> Any:
        """See `PayloadType`. A text may stand for an instant or a UUID: other clients may write it so."""
        try:
            return self._msgspec.convert(plain, self._kind)
        except self._msgspec.ValidationError as error:
            problem, path = _split(str(error))
            raise CodecError(f"{path} is not of {_name(self._kind)}: {problem}") from error


class _Pydantic:
    """Models and dataclasses of pydantic, and what is made of them."""

    def __init__(self, kind: Any) -> None:
        self._core = _extra("pydantic_core", kind)
        self._kind, self._class = kind, _class_of(kind)
        self._adapter = _extra("pydantic", kind).TypeAdapter(kind)

    def encode(self, payload: Any) -> Any:
        """See `PayloadType`. What its own model would not take back is refused here."""
        _check_class(payload, self._class)
        try:
            dumped = self._adapter.dump_python(payload, round_trip=True, by_alias=True, warnings=False)
        except self._core.PydanticSerializationError as error:
            raise PayloadError(f"payload is not of {_name(self._kind)}: {error}") from error
        plain = self._plain(dumped, "payload")
        try:
            self._adapter.validate_python(plain)
        except self._core.ValidationError as error:
            problem, path = _first(error)
            raise PayloadError(f"{path} is not of {_name(self._kind)}: {problem}", path=path) from error
        return plain

    def decode(self, plain: Any) -> Any:
        """See `PayloadType`."""
        try:
            return self._adapter.validate_python(plain)
        except self._core.ValidationError as error:
            problem, path = _first(error)
            raise CodecError(f"{path} is not of {_name(self._kind)}: {problem}") from error

    def _plain(self, value: Any, path: str) -> Any:
        """What pydantic leaves of its values, as maps, lists and what is carried."""
        if type(value) in _LEAVES:
            return value
        if isinstance(value, Mapping):
            return {self._plain(key, path): self._plain(part, f"{path}[{key!r}]") for key, part in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._plain(part, f"{path}[{i}]") for i, part in enumerate(value)]
        if hasattr(value, "get_secret_value"):  # its text is '**********', which would be what is stored
            raise PayloadError(f"{path} is a secret, which is never stored: leave it out", path=path)
        try:
            return self._core.to_jsonable_python(value)
        except self._core.PydanticSerializationError as error:
            raise PayloadError(f"{path} can't be carried: {type(value).__name__}", path=path) from error


def _class_of(kind: Any) -> type:
    """The class that payloads are instances of, as far as that can be asked."""
    return kind if isinstance(kind, type) and not is_typeddict(kind) and not get_args(kind) else object


def _check_class(payload: Any, kind: type) -> None:
    if not isinstance(payload, kind):
        raise PayloadError(f"payload is {type(payload).__name__}, this queue's payloads are {_name(kind)}")


def _split(message: str) -> tuple[str, str]:
    """Problem and path of msgspec's "Expected `int`, got `str` - at `$.lines[0].count`"."""
    problem, _, path = message.partition(" - at `$")
    return problem, f"payload{path.rstrip('`')}"


def _first(error: Any) -> tuple[str, str]:
    """Problem and path of the first of pydantic's findings, without the value: it may be nobody's business."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return found["msg"], f"payload{_path(found['loc'])}"


def _path(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _extra(module: str, kind: Any) -> ModuleType:
    package = module.removesuffix("_core")
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidArgument(
            f"payload_type={_name(kind)} needs the package {package}: pip install 'reliq-queue[{package}]'"
        ) from error
