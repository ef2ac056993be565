"""Levels of durability, and what a confirmation means."""

from __future__ import annotations

import pytest

from reliq import InvalidArgument
from reliq._durability import judge, parse, question


@pytest.mark.parametrize(
    "text", ["memory", "replicated:1", "replicated:100", "replicated:all", "fsynced", "checkpointed"]
)
def test_levels(text: str) -> None:
    """Each level is known by its text, and parsing it twice changes nothing."""
    level = parse(text)
    assert level.text == text
    assert parse(level) is level


@pytest.mark.parametrize("text", ["", "replicated", "replicated:0", "replicated:101", "replicated:-1", "disk", 3, None])
def test_unknown_levels(text: object) -> None:
    """What is none is refused, with the words that there are."""
    with pytest.raises(InvalidArgument, match="replicated:all"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "known", "words"),
    [
        ("replicated:2", 5, ("WAIT", 2, 1500)),
        ("replicated:all", 3, ("WAIT", 3, 1500)),
        ("replicated:all", 0, ("WAIT", 1, 1500)),
        ("fsynced", 0, ("WAITAOF", 1, 0, 1500)),
    ],
)
def test_the_question(text: str, known: int, words: tuple[object, ...]) -> None:
    """`all` asks for every replica that is known, and never for none."""
    assert question(parse(text), known, 1.5) == words


@pytest.mark.parametrize(
    ("text", "reply", "known", "verdict"),
    [
        ("replicated:2", 2, 2, ("replicated:2", True)),
        ("replicated:2", 3, 3, ("replicated:2", True)),
        ("replicated:2", 1, 2, ("replicated:1", False)),
        ("replicated:2", 0, 2, ("memory", False)),
        ("replicated:all", 2, 2, ("replicated:all", True)),
        ("replicated:all", 1, 2, ("replicated:1", False)),
        ("replicated:all", 0, 0, ("memory", False)),
        ("fsynced", [1, 0], 0, ("fsynced", True)),
        ("fsynced", [0, 0], 0, ("memory", False)),
        ("fsynced", [], 0, ("memory", False)),
    ],
)
def test_the_verdict(text: str, reply: object, known: int, verdict: tuple[str, bool]) -> None:
    """What was reached is what the server said, and a master without replicas never counts as replicated to all."""
    assert judge(parse(text), reply, known) == verdict
