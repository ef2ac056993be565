"""Finds, composes and hashes the Lua scripts, and reads their signatures from their binding lines.

A script file is: the shebang, a header comment, one line per key and argument that binds it to a name, the body.
The header names shared parts in `-- uses:`, and a part those that it leans on. Composed, the prelude and the parts,
each behind what it uses, stand between bindings and body, so that what they need is in scope. Parts that say `-- cold`,
and those that only they use, come last, inside of `_cold.lua`. Line numbers in server errors are mapped back by
`Script.locate`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_BINDING = re.compile(r"^local (\w+) = (KEYS|ARGV)\[(\d+)\] -- \S")
_TAIL = re.compile(r"^-- ARGV\[(\d+)\.\.\.\]: \S")
_USES = re.compile(r"^-- uses: (.+)$", re.MULTILINE)
_USER_LINE = re.compile(r"user_script:(\d+)")
_COLD = "-- cold"
_COLD_PLACE = "-- <cold parts>"
_CALLED_KEY = re.compile(r"call\('\w+', (\w+)")


def lua_folder() -> Path:
    """The folder of the scripts: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "lua"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "lua"


@dataclass(frozen=True, eq=False)  # one object per verb; hashing its lines would cost every call 4 us
class Script:
    """One verb as the server gets it.

    `keys` and `args` are the bound names in order; `open_ended` says that further arguments may follow the bound ones.
    `origins` gives for each line of `source` the file and line that it came from.
    """

    name: str
    source: str = field(repr=False)
    sha: str
    keys: tuple[str, ...] = field(repr=False)
    args: tuple[str, ...] = field(repr=False)
    open_ended: bool = field(repr=False)
    origins: tuple[tuple[str, int], ...] = field(repr=False)

    def locate(self, message: str) -> str:
        """Replaces `user_script:N` in a server's error by the file and line that N is."""

        def place(match: re.Match[str]) -> str:
            line = int(match[1])
            if not 0 < line <= len(self.origins):
                return match[0]
            file, number = self.origins[line - 1]
            return f"lua/{file}:{number}"

        return _USER_LINE.sub(place, message)

    def key_at(self, message: str) -> str | None:
        """The bound key that the command on `user_script:N` goes to; None where the line does not tell."""
        match = _USER_LINE.search(message)
        line = self.source.splitlines()[int(match[1]) - 1] if match else ""
        return next((key for key in _CALLED_KEY.findall(line) if key in self.keys), None)


@cache
def load(name: str) -> Script:
    """Reads `lua/<name>.lua` and composes it; the result is kept for the life of the process.

    Raises:
        FileNotFoundError: no such script.
        ValueError: the binding lines do not number their slots 1, 2, 3 ...
    """
    lines = _read(f"{name}.lua")
    bindings, keys, args, open_ended = _signature(name, lines)
    origins = [(f"{name}.lua", i + 1) for i in range(bindings)]
    warm, cold = _parts(lines)
    origins += [place for part in ("_prelude", *warm) for place in _places(part)]
    origins += _wrapped(cold)
    origins += [(f"{name}.lua", i + 1) for i in range(bindings, len(lines))]
    source = "".join(f"{_file(file)[number - 1]}\n" for file, number in origins)
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha, keys, args, open_ended, tuple(origins))


def names() -> list[str]:
    """All verbs that have a script, sorted."""
    return sorted(path.stem for path in lua_folder().glob("[a-z]*.lua"))


@cache
def _file(name: str) -> tuple[str, ...]:
    return tuple((lua_folder() / name).read_text(encoding="utf-8").splitlines())


def _read(name: str) -> list[str]:
    return list(_file(name))


def _parts(lines: list[str]) -> tuple[list[str], list[str]]:
    """The parts that a file uses, and those that they use, each behind what it leans on: warm ones and cold ones."""
    warm = _reached(lines, through_cold=False)
    return warm, [part for part in _reached(lines, through_cold=True) if part not in warm]


def _reached(lines: list[str], *, through_cold: bool) -> list[str]:
    found: dict[str, None] = {}
    for part in _used(lines):
        own = _read(f"{part}.lua")
        if through_cold or _COLD not in own:
            found.update(dict.fromkeys([*_reached(own, through_cold=through_cold), part]))
    return list(found)


def _used(lines: list[str]) -> list[str]:
    match = _USES.search("\n".join(lines))
    return match[1].split() if match else []


def _places(part: str) -> list[tuple[str, int]]:
    return [(f"{part}.lua", i + 1) for i in range(len(_file(f"{part}.lua")))]


def _wrapped(parts: list[str]) -> list[tuple[str, int]]:
    """The lines of cold parts, within those of `_cold.lua`; none where there is no such part."""
    around = _places("_cold")
    middle = next(i for i, line in enumerate(_file("_cold.lua")) if line.strip() == _COLD_PLACE)
    inside = [place for part in parts for place in _places(part)]
    return [*around[:middle], *inside, *around[middle + 1 :]] if parts else []


def _signature(name: str, lines: list[str]) -> tuple[int, tuple[str, ...], tuple[str, ...], bool]:
    """Where the binding block ends, the names of keys and arguments, and whether more arguments may follow."""
    found: dict[str, list[str]] = {"KEYS": [], "ARGV": []}
    end, open_ended = 0, False
    for number, line in enumerate(lines, start=1):
        if match := _BINDING.match(line):
            bound, table, slot = match.groups()
            found[table].append(bound)
            if int(slot) != len(found[table]):
                raise ValueError(f"lua/{name}.lua:{number}: {table}[{slot}] is out of order")
            end = number
        elif match := _TAIL.match(line):
            if int(match[1]) != len(found["ARGV"]) + 1:
                raise ValueError(f"lua/{name}.lua:{number}: the open end does not follow the bound arguments")
            end, open_ended = number, True
    return end, tuple(found["KEYS"]), tuple(found["ARGV"]), open_ended
