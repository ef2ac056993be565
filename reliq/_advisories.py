"""Holes of servers that matter to whoever lets others reach them, and the releases that closed them.

From the projects' release notes and the CVE records, last compared in September 2026. A version number is all that a
server tells: a distribution that closes holes under an old number can't be told apart from one that does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Advisory:
    """One group of holes.

    Attributes:
        ids: CVE numbers.
        what: what an attacker can do.
        fixed: per server, the releases that closed it, rising, one for each series; a series without one, older than
            the last of them, has none that we know of.
        since: the first series that has the hole.
    """

    ids: tuple[str, ...]
    what: str
    fixed: dict[str, tuple[str, ...]]
    since: Version = (0, 0)


# The releases of a series behind its last one here are taken to be patched, and so are series that began later.
ADVISORIES: tuple[Advisory, ...] = (
    Advisory(
        ("CVE-2025-21605", "CVE-2025-48367"),
        "whoever reaches its port, without a password, can fill its memory or keep others out",
        {"Redis": ("7.2.10", "7.4.5", "8.0.3"), "Valkey": ("7.2.10", "8.0.4", "8.1.3")},
    ),
    Advisory(
        ("CVE-2024-31449", "CVE-2024-46981", "CVE-2025-32023"),
        "whoever may log in can take over the server, by scripts or by HyperLogLogs",
        {"Redis": ("7.2.10", "7.4.5", "8.0.3"), "Valkey": ("7.2.10", "8.0.4", "8.1.3")},
    ),
    Advisory(
        ("CVE-2025-49844", "CVE-2025-46817", "CVE-2025-46818", "CVE-2025-46819"),
        "whoever may run scripts of their own can take over the server",
        {"Redis": ("7.2.11", "7.4.6", "8.0.4", "8.2.2"), "Valkey": ("7.2.11", "8.0.6", "8.1.4")},
    ),
    Advisory(
        ("CVE-2025-67733", "CVE-2026-21863"),
        "whoever may run scripts of their own can forge replies, and whoever reaches a cluster's bus can stop it",
        {"Valkey": ("7.2.12", "8.0.7", "8.1.6", "9.0.3")},
    ),
    Advisory(
        ("CVE-2026-23479",),
        "whoever may log in can take over the server, by commands that block",
        {
            "Redis": ("7.2.14", "7.4.9", "8.2.6", "8.4.3", "8.6.3"),
            "Valkey": ("7.2.13", "8.0.9", "8.1.7", "9.0.4"),
        },
        since=(7, 2),
    ),
    Advisory(
        ("CVE-2026-23631", "CVE-2026-25243"),
        "whoever may log in can take over the server, by RESTORE, or by scripts on a replica that takes writes",
        {
            "Redis": ("7.2.14", "7.4.9", "8.2.6", "8.4.3", "8.6.3"),
            "Valkey": ("7.2.13", "8.0.9", "8.1.7", "9.0.4"),
        },
    ),
    Advisory(
        ("CVE-2026-66373",),
        "whoever may send RESTORE can take over the server",
        {"Redis": ("7.2.15", "7.4.10", "8.2.8", "8.4.5", "8.6.5", "8.8.0")},
    ),
    Advisory(
        ("CVE-2026-81934",),
        "whoever reaches the port of a server with TLS can take it over",
        {"Redis": ("7.2.16", "7.4.11", "8.2.9", "8.4.6", "8.6.6", "8.8.2", "8.10.1")},
    ),
    Advisory(
        ("CVE-2026-56684", "CVE-2026-63639"),
        "whoever may log in can take over a server with TLS, or one to which it may send RESTORE",
        {"Valkey": ("7.2.14", "8.0.10", "8.1.9", "9.0.5", "9.1.1")},
    ),
)

# The first package of a distribution that has closed all holes above without a new version number.
PACKAGED = {("Redis", "7.0.15"): "Debian 12 has closed them under this number since its package 5:7.0.15-1~deb12u10"}


def version_of(text: str) -> Version:
    """Numbers of a version; empty where there are none."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def open_holes(name: str, version: str) -> list[Advisory]:
    """The advisories that concern a server of this name and version. A version that can't be read has none."""
    number = version_of(version)
    return [advisory for advisory in ADVISORIES if number and _concerns(advisory, name, number)]


def cure(holes: Sequence[Advisory], name: str, version: str) -> str:
    """The release to go to, which closes all of these: of the same series, or of the next one that has such a release.

    Args:
        holes: one or more, of `open_holes`.
        name: the server's, `Redis` or `Valkey`.
        version: the server's.
    """
    return max((_nearest(hole.fixed[name], version_of(version)) for hole in holes), key=version_of)


def doubt(name: str, version: str) -> str:
    """Why a server of this number may be patched all the same."""
    return PACKAGED.get((name, version), "distributions close holes under an old number")


def _nearest(releases: Sequence[str], number: Version) -> str:
    return next((each for each in releases if version_of(each)[:2] >= number[:2]), releases[-1])


def _concerns(advisory: Advisory, name: str, number: Version) -> bool:
    releases = [version_of(each) for each in advisory.fixed.get(name, ())]
    if not releases or not advisory.since <= number[:2] <= releases[-1][:2]:
        return False
    same = [each for each in releases if each[:2] == number[:2]]
    return number < same[0] if same else True
