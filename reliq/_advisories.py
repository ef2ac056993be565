"""Holes of servers that matter to whoever lets others run commands on them, and the releases that closed them."""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Advisory:
    """One group of holes.

    Attributes:
        ids: CVE numbers.
        what: what an attacker can do.
        fixed: per server, the releases that closed it, one for each series; a series without one has none we know of.
    """

    ids: tuple[str, ...]
    what: str
    fixed: dict[str, tuple[str, ...]]


# The releases of a series behind its last one here are taken to be patched, and so are series that began later.
ADVISORIES: tuple[Advisory, ...] = (
    Advisory(
        ("CVE-2025-49844", "CVE-2025-46817", "CVE-2025-46818", "CVE-2025-46819"),
        "whoever may run scripts of their own can take over the server",
        {"Redis": ("7.2.11", "7.4.6", "8.0.4", "8.2.2"), "Valkey": ("7.2.11", "8.0.6", "8.1.4", "9.0.0")},
    ),
    Advisory(
        ("CVE-2026-23479", "CVE-2026-23631", "CVE-2026-25243"),
        "whoever may log in can take over the server, by commands that block among others",
        {"Redis": ("7.4.9", "8.2.6", "8.4.3", "8.6.3"), "Valkey": ("7.2.14", "8.0.10", "8.1.9", "9.0.4")},
    ),
    Advisory(
        ("CVE-2026-56684", "CVE-2026-63639"),
        "whoever may log in can take over a server with TLS, or by RESTORE",
        {"Valkey": ("7.2.14", "8.0.10", "8.1.9", "9.0.5", "9.1.1")},
    ),
)


def version_of(text: str) -> Version:
    """Numbers of a version; empty where there are none."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def open_holes(name: str, version: str) -> list[Advisory]:
    """The advisories that concern a server of this name and version. A version that can't be read has none."""
    number = version_of(version)
    return [advisory for advisory in ADVISORIES if number and _concerns(advisory, name, number)]


def cure(advisory: Advisory, name: str, version: str) -> str:
    """The release to go to: the one of the same series, or the newest that is known."""
    fixed = [each for each in advisory.fixed[name] if version_of(each)[:2] == version_of(version)[:2]]
    return (fixed or [advisory.fixed[name][-1]])[0]


def _concerns(advisory: Advisory, name: str, number: Version) -> bool:
    releases = [version_of(each) for each in advisory.fixed.get(name, ())]
    if not releases or number[:2] > releases[-1][:2]:
        return False
    same = [each for each in releases if each[:2] == number[:2]]
    return number < same[0] if same else True
