"""reliq batch: how far batches are."""

from __future__ import annotations

import reliq

from .conftest import Call


def test_show(run: Call, emails: reliq.Queue) -> None:
    """Members in all and those that are awaited, with a bar in a table; 3 when it is through."""
    batch = emails.batch([1, 2, 3, 4], then=reliq.New("done"), id="mailing")
    emails.finish(emails.claim(1))
    assert run("-o", "json", "batch", "show", "emails", batch.id).data == {
        "batch": "mailing",
        "total": 4,
        "awaited": 3,
        "done": 0.25,
    }
    assert "#####............... 25% (1 of 4)" in run("batch", "show", "emails", "mailing").out
    emails.finish(emails.claim(3))
    ran = run("batch", "show", "emails", "mailing")
    assert (ran.code, "through" in ran.err) == (3, True)


def test_show_of_none(run: Call, emails: reliq.Queue) -> None:
    """A batch that was never begun is nothing found."""
    assert run("batch", "show", "emails", "nothing").code == 3
