"""When ticks are: cronsim's rules, also where a clock is changed, as instants that only go forward."""

from __future__ import annotations

import datetime as dt
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from reliq._schedule import BadSchedule, Schedule, schedule

DAY = 86400


def unix(text: str, zone: str = "UTC") -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def ticks(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The first ticks from a time of the zone on, in UTC."""
    found = islice(Schedule(expression, zone).after(unix(start, zone) - 1), count)
    return [dt.datetime.fromtimestamp(tick, dt.UTC).strftime("%d %H:%M") for tick in found]


def between(made: Schedule, start: int, end: int) -> list[int]:
    return list(takewhile(lambda tick: tick < end, made.after(start)))


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        # Berlin, 28 March 2027: 02:00 -> 03:00. What would be in the gap comes at its end.
        ("30 2 * * *", "Europe/Berlin", "2027-03-27 00:00", ["27 01:30", "28 01:00", "29 00:30"]),
        ("0,30 2 * * *", "Europe/Berlin", "2027-03-28 00:00", ["28 01:00", "29 00:00", "29 00:30"]),
        # ... and what comes every hour or half hour goes on as time does.
        ("0 * * * *", "Europe/Berlin", "2027-03-28 00:00", ["27 23:00", "28 00:00", "28 01:00", "28 02:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2027-03-28 01:30", ["28 00:30", "28 01:00", "28 01:30"]),
        # 31 October 2027: 03:00 -> 02:00. What has a time of day comes once, in the first of the two hours.
        ("30 2 * * *", "Europe/Berlin", "2027-10-30 00:00", ["30 00:30", "31 00:30", "01 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2027-10-31 01:00", ["30 23:00", "31 00:00", "31 01:00", "31 02:00"]),
        # New York and Lord Howe Island, where the clock is changed by half an hour.
        ("30 2 * * *", "America/New_York", "2027-03-13 00:00", ["13 07:30", "14 07:00", "15 06:30"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-02 00:00", ["01 15:45", "02 15:30", "03 15:15"]),
        # Havana changes it at midnight.
        ("0 0 * * *", "America/Havana", "2027-03-13 00:00", ["13 05:00", "14 05:00", "15 04:00"]),
    ],
)
def test_change_of_the_clock(expression: str, zone: str, start: str, expected: list[str]) -> None:
    """Daily ticks come once a day, hourly ones every hour."""
    assert ticks(expression, zone, start, len(expected)) == expected


CHANGES = {
    "Europe/Berlin": ("2027-03-28", "2027-10-31"),
    "America/New_York": ("2027-03-14", "2027-11-07"),
    "Australia/Lord_Howe": ("2027-04-04", "2027-10-03"),
    "America/Havana": ("2027-03-14", "2027-11-07"),
}


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("expression", ["*/20 * * * *", "10,40 1-3 * * *", "0 0 * * *", "0 * * * *", "30 */10 * * * *"])
def test_the_same_ticks_wherever_one_begins_to_look(expression: str, zone: str) -> None:
    """Two schedulers that look at different instants agree on every tick of the days of a change."""
    made = Schedule(expression, zone)
    for day in CHANGES[zone]:
        first = unix(f"{day} 00:00")
        whole = between(made, first - DAY, first + 2 * DAY)
        assert whole == sorted(set(whole))
        for start in range(first, first + DAY, 5417):
            following = next(tick for tick in whole if tick > start)
            assert made.next(start) == following


@pytest.mark.parametrize(("most", "expected"), [(1, [180]), (2, [120, 180]), (3, [60, 120, 180]), (9, [60, 120, 180])])
def test_the_latest_ticks(most: int, expected: list[int]) -> None:
    """As many as are wanted, as far back as the first that has no item yet."""
    assert Schedule("* * * * *", "UTC").latest(60, 239.9, most) == expected


def test_looking_back_over_a_year_takes_no_year() -> None:
    """Every second of a year in which nobody looked: the last thousand are found at once."""
    found = Schedule("* * * * * *", "Europe/Berlin").latest(unix("2026-06-01 00:00"), unix("2027-06-01 00:00"), 1000)
    assert found == list(range(unix("2027-06-01 00:00") - 999, unix("2027-06-01 00:00") + 1))


def test_a_tick_of_another_zone_table_counts() -> None:
    """Where the stored tick is none here, because rules of a zone differ, it is done all the same."""
    assert Schedule("0 4 * * *", "UTC").latest(unix("2027-01-01 05:00"), unix("2027-01-01 06:00"), 1) == [
        unix("2027-01-01 05:00")
    ]


def test_skipping_what_is_late() -> None:
    """The last tick counts for a minute."""
    made = Schedule("0 * * * *", "UTC")
    assert made.due(3600, 7200 + 60, "skip") == [7200]
    assert made.due(3600, 7200 + 61, "skip") == []


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* * 30 2 *",
        "@daily",
        "a b c d e",
        "1-0 * * * *",
        "*" * 201,
        5,
        None,
    ],
)
def test_no_expression(expression: object) -> None:
    """What cronsim can't read, or what has no tick, is refused by a message that has it."""
    with pytest.raises(BadSchedule):
        schedule(expression, "UTC")


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "Europe", None, 3])
def test_no_zone(zone: object) -> None:
    """A zone that the system does not have is refused."""
    with pytest.raises(BadSchedule, match="time zone"):
        schedule("* * * * *", zone)
