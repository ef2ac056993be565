"""The project's Markdown pages, taken apart as far as the tests need it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^```(\w*)\s*$")
_NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, where its first line is (from 1), its text, and why it is not run, if so."""

    language: str
    line: int
    text: str
    not_run: str = ""


def pages() -> list[Path]:
    """All pages of the project."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("lua/*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    return sorted(found)


def guides() -> list[Path]:
    """The pages whose Python blocks have to run."""
    return sorted(
        page
        for page in (ROOT / "README.md", *ROOT.glob("docs/tutorial/*.md"), *ROOT.glob("docs/how-to/*.md"))
        if page.exists()
    )


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    language, start, reason = None, 0, ""
    text: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if language is None and (fence := _FENCE.match(line)):
            language, start, text = fence[1], number + 1, []
        elif language is not None and line == "```":
            yield Block(language, start, "\n".join(text), reason)
            language, reason = None, ""
        elif language is not None:
            text.append(line)
        elif line.strip():
            comment = _NOT_RUN.match(line)
            reason = comment[1] if comment else ""


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line outside of fenced blocks, without what stands in backquotes and link targets."""
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            yield number, re.sub(r"\]\([^)]*\)|<!--.*?-->", "]", re.sub(r"`[^`]*`", "", line))
