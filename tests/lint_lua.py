"""Runs luacheck on every composed script and reports its findings at their own file and line.

Run as `python tests/lint_lua.py`; ends with 1 where something was found. Parts in lua/_*.lua can't be checked alone:
they use names that the verbs bind.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from reliq import _scripts

ROOT = Path(__file__).parents[1]
_FINDING = re.compile(r"^.+/(?P<name>[^/:]+)\.lua:(?P<line>\d+):(?P<column>\d+): (?P<text>\((?P<code>\w+)\).*)$")
# A part brings all of its functions, a verb calls some. What no verb at all uses is still reported.
_UNUSED = {"W211", "W241"}


def main() -> int:
    findings = sorted(_findings())
    for finding in findings:
        print(finding)
    print(f"luacheck: {len(_scripts.names())} scripts, {len(findings)} findings")
    return 1 if findings else 0


def _findings() -> set[str]:
    seen: dict[str, set[str]] = defaultdict(set)  # finding -> verbs in which it is there
    tolerable: set[str] = set()
    users: dict[str, set[str]] = defaultdict(set)  # file -> verbs that it is part of
    for verb in _scripts.names():
        for file, _ in _scripts.load(verb).origins:
            users[file].add(verb)
    for match in _luacheck():
        verb, line = match["name"], int(match["line"])
        file, number = _scripts.load(verb).origins[line - 1]
        finding = f"lua/{file}:{number}:{match['column']}: {_elsewhere(verb, match['text'])}"
        seen[finding].add(verb)
        if match["code"] in _UNUSED and file.startswith("_") and users[file] > seen[finding]:
            tolerable.add(finding)
        else:
            tolerable.discard(finding)
    return set(seen) - tolerable


def _elsewhere(verb: str, text: str) -> str:
    """Maps the second place that some findings name, such as "on line 12", too."""

    def place(match: re.Match[str]) -> str:
        file, number = _scripts.load(verb).origins[int(match[1]) - 1]
        return f"at lua/{file}:{number}"

    return re.sub(r"on line (\d+)", place, text)


def _luacheck() -> list[re.Match[str]]:
    with tempfile.TemporaryDirectory() as folder:
        for verb in _scripts.names():
            Path(folder, f"{verb}.lua").write_text(_scripts.load(verb).source)
        command = ["luacheck", "--config", str(ROOT / ".luacheckrc"), "--formatter", "plain", "--codes", folder]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    matches = [match for line in lines if (match := _FINDING.match(line))]
    if ran.returncode > 2 or len(matches) != len(lines) or (ran.returncode and not matches):
        sys.exit(f"luacheck failed ({ran.returncode}):\n{ran.stdout}{ran.stderr}")
    return matches


if __name__ == "__main__":
    sys.exit(main())
