"""Writes the state diagram and the table of transitions into docs/explanation/life-of-an-item.md.

They come from reliq.item.TRANSITIONS. `--check` writes nothing and fails where the page is not up to date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reliq.states import TRANSITIONS, ItemState, Transition

PAGE = Path(__file__).parent / "explanation" / "life-of-an-item.md"
BEGIN = "<!-- from here to the end mark: written by docs/make_diagram.py -->"
END = "<!-- end of what docs/make_diagram.py writes -->"


def diagram() -> str:
    """The transitions as a mermaid state diagram, one arrow for each pair of states."""
    verbs: dict[tuple[ItemState | None, ItemState], list[str]] = {}
    for t in TRANSITIONS:
        labels = verbs.setdefault((t.source, t.target), [])
        if t.verb not in labels:
            labels.append(t.verb)
    arrows = [f"    {source or '[*]'} --> {target}: {', '.join(labels)}" for (source, target), labels in verbs.items()]
    ends = [f"    {state} --> [*]: forgotten" for state in (ItemState.FINISHED, ItemState.REMOVED)]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"])


def table() -> str:
    """The transitions as a table, in the order of the source."""
    return "\n".join(["| from | verb | to | when |", "|---|---|---|---|", *map(_row, TRANSITIONS)])


def _row(t: Transition) -> str:
    return f"| {t.source or '(new)'} | `{t.verb}` | {t.target} | {t.when} |"


def filled(page: str) -> str:
    """The page with what stands between its marks made anew."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit("the page has lost its marks")
    return f"{before}{BEGIN}\n\n{diagram()}\n\n{table()}\n\n{END}{after}"


def main() -> None:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8")
    if options.check:
        sys.exit(None if filled(page) == page else f"{options.page} is not up to date: run python docs/make_diagram.py")
    options.page.write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main()
