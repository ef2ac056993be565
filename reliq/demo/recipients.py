"""The recipients file: CSV in UTF-8 with the columns name, email and order.

Each physical line is read by itself, so that one broken line (a bad byte, an open quote) spoils no other. Every line
after the header is either a recipient or malformed, with its number and the reason.
"""

from __future__ import annotations

import csv
import re
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("name", "email", "order")
MAX_NAME = 100  # characters
MAX_ORDER = 40
MAX_LOCAL = 64  # RFC 5321, 4.5.3.1
MAX_ADDRESS = 254
MAX_LINE = 10_000  # bytes: a file without line ends must not be taken for one recipient

_NAMESPACE = uuid.UUID("6f3c1d1e-58a0-4d0f-9a52-2f6f0f7a9b11")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}")


class UnusableFile(ValueError):
    """The file can't be read, or has not the columns that a recipients file has."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A valid line. `line` counts from 1, the header included."""

    line: int
    name: str
    email: str
    order: str

    @property
    def item_id(self) -> str:
        """The same for the same line and address, whoever reads the file and however often."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.line} {self.email}"))

    @property
    def payload(self) -> dict[str, str]:
        """What the item carries."""
        return {"name": self.name, "email": self.email, "order": self.order}


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no recipient, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class Recipients:
    """A file that was read: `lines` data lines, each of them in one of the two lists."""

    recipients: list[Recipient] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    lines: int = 0


def read(path: Path) -> Recipients:
    """Reads a recipients file.

    Raises:
        UnusableFile: it can't be read, or its first line does not name the columns.
    """
    try:
        with path.open("rb") as file:
            return parse(iter(lambda: file.readline(MAX_LINE + 1), b""))
    except OSError as error:
        raise UnusableFile(f"{path} can't be read: {error.strerror}") from error


def parse(lines: Iterable[bytes]) -> Recipients:
    """Reads the lines of a recipients file, the first of which is the header.

    Raises:
        UnusableFile: the header does not name the columns.
    """
    numbered = enumerate(_whole_lines(lines), start=1)
    columns = _header(next(numbered, (1, b""))[1])
    found = Recipients()
    for number, raw in numbered:
        found.lines += 1
        try:
            found.recipients.append(_recipient(number, raw, columns))
        except _Fault as fault:
            found.malformed.append(Malformed(number, str(fault)))
    return found


class _Fault(Exception):
    """Why a line is malformed."""


def _whole_lines(parts: Iterable[bytes]) -> Iterable[bytes]:
    """Lines as they are; of an over-long one the beginning, which is enough to refuse it."""
    inside = False
    for part in parts:
        if not inside:
            yield part
        inside = not part.endswith(b"\n")


def _header(raw: bytes) -> list[str]:
    try:
        columns = [name.strip().lower() for name in _fields(raw.removeprefix(b"\xef\xbb\xbf"))]
    except _Fault as fault:
        raise UnusableFile(f"the first line should be {','.join(COLUMNS)}; {fault}") from None
    if missing := [name for name in COLUMNS if name not in columns]:
        raise UnusableFile(f"the first line should be {','.join(COLUMNS)}; it lacks {', '.join(missing)}")
    return columns


def _recipient(line: int, raw: bytes, columns: list[str]) -> Recipient:
    fields = _fields(raw)
    if len(fields) != len(columns):
        raise _Fault(f"{len(fields)} columns instead of {len(columns)}")
    row = dict(zip(columns, (value.strip(" ") for value in fields), strict=True))
    if missing := [column for column in COLUMNS if not row[column]]:
        raise _Fault(f"no {missing[0]}")
    _check_length("name", row["name"], MAX_NAME)
    _check_length("order", row["order"], MAX_ORDER)
    _check_address(row["email"])
    return Recipient(line, row["name"], row["email"], row["order"])


def _fields(raw: bytes) -> list[str]:
    if len(raw) > MAX_LINE:
        raise _Fault(f"longer than {MAX_LINE} bytes")
    try:
        text = raw.removesuffix(b"\n").removesuffix(b"\r").decode()
        _check_characters(text)
        return next(csv.reader([text], strict=True), [])
    except UnicodeDecodeError as error:
        raise _Fault(f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}") from None
    except csv.Error as error:
        raise _Fault(f"not CSV: {error}") from None


def _check_characters(text: str) -> None:
    """A line end or another control character in a header of a mail would end that header."""
    for position, char in enumerate(text, start=1):
        if unicodedata.category(char) in {"Cc", "Zl", "Zp"}:
            raise _Fault(f"control character U+{ord(char):04X} at position {position}")


def _check_length(column: str, value: str, limit: int) -> None:
    if len(value) > limit:
        raise _Fault(f"{column} of {len(value)} characters, {limit} at most")


def _check_address(address: str) -> None:
    local, _, domain = address.partition("@")
    shown = ascii(address if len(address) <= 60 else address[:57] + "...")
    faults = (
        ("@" not in address, "no @"),
        (address.count("@") > 1, f"{address.count('@')} @"),
        (any(char.isspace() for char in address), "a space"),
        (not address.isascii(), "a letter outside ASCII"),
        (len(address) > MAX_ADDRESS or len(local) > MAX_LOCAL, "too many characters"),
        (not _LOCAL.fullmatch(local), "no valid name before the @"),
        (not _DOMAIN.fullmatch(domain), "no valid domain after the @"),
    )
    for applies, what in faults:
        if applies:
            raise _Fault(f"{what} in the address {shown}")
