from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from reliq import InvalidArgument, Queue


def test_settings_are_the_queues(queue: Queue, other: Queue) -> None:
    """Settings hold for all clients; what is not named stays; None puts one back to its default."""
    defaults = queue.settings()
    changed = queue.configure(
        max_length=9,
        max_bytes=10**6,
        max_in_progress=11,
        rate=0.5,
        rate_burst=12,
        group_limit=13,
        max_attempts=2,
        max_deliveries=3,
        expiry="hold",
        retry="tail",
        backoff_base=0.5,
        backoff_cap=dt.timedelta(minutes=1),
        finished_age=7,
        finished_count=8,
    )
    assert dataclasses.astuple(changed) == (9, 10**6, 11, 0.5, 12, 13, 2, 3, "hold", "tail", 0.5, 60.0, 7.0, 8)
    assert other.settings() == changed
    assert other.configure(max_length=None).max_length == 0
    assert queue.configure() == dataclasses.replace(changed, max_length=0)
    names = [field.name for field in dataclasses.fields(defaults)]
    assert queue.configure(**dict.fromkeys(names)) == defaults


@pytest.mark.parametrize(
    "change",
    [
        {"max_speed": 1},
        {"max_length": -1},
        {"max_length": 1.5},
        {"max_bytes": -1},
        {"max_in_progress": True},
        {"rate": -0.1},
        {"rate": float("inf")},
        {"rate": "fast"},
        {"rate_burst": 1.5},
        {"rate_burst": 10**7},
        {"group_limit": 0},
        {"group_limit": 1001},
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_deliveries": 10**7},
        {"expiry": "explode"},
        {"retry": "sideways"},
        {"backoff_base": float("nan")},
        {"backoff_cap": -1},
        {"finished_age": "long"},
        {"finished_count": -1},
    ],
)
def test_a_setting_out_of_range(queue: Queue, change: dict[str, object]) -> None:
    """A wrong setting is refused by its name, and with it the whole call."""
    with pytest.raises(InvalidArgument, match=next(iter(change))):
        queue.configure(retry="head", **change) if "retry" not in change else queue.configure(**change)
    assert queue.settings().retry == "later"
