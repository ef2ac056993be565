"""Histories as files: what a killed process leaves, and what is no history."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import wait_until

from reliq.testing import History, HistoryDamaged, read

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from reliq.testing import History
history = History(sys.argv[1], "writer")
number = 0
while True:
    number += 1
    history.write("note", number=number)
"""


def test_events_come_back_in_the_order_of_time(tmp_path: Path) -> None:
    """Those of several files are put together by their times, and each names its process."""
    one, other = History(tmp_path / "a.jsonl", "one"), History(tmp_path / "b.jsonl", "other")
    for number in range(3):
        one.write("note", number=number)
        other.write("note", number=number)
    events = [event for event in read(tmp_path) if event.kind == "note"]
    assert [event.data["number"] for event in events] == [0, 0, 1, 1, 2, 2]
    assert {event.process for event in events} == {f"one:{os.getpid()}", f"other:{os.getpid()}"}


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    """What was written before a SIGKILL is there, without a gap."""
    path = tmp_path / "killed.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], env=environment)
    wait_until(lambda: path.exists() and path.stat().st_size > 100_000, "some events", timeout=30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    numbers = [event.data["number"] for event in read(path) if event.kind == "note"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 500


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """It is what a killed process was about to write; nothing before it is lost."""
    history = History(tmp_path / "a.jsonl")
    history.write("note", number=1)
    tear(history.path)
    assert [event.kind for event in read(history.path)] == ["process", "note"]


def test_a_file_that_is_opened_again_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    """The torn line is left out, wherever it stands then."""
    tear(History(tmp_path / "a.jsonl").path)
    History(tmp_path / "a.jsonl").write("note", number=2)
    assert [event.kind for event in read(tmp_path / "a.jsonl")] == ["process", "process", "note"]


def test_damage_elsewhere_is_no_history(tmp_path: Path) -> None:
    """A line in the middle that is no event says that the file can't be trusted; the message has file and line."""
    history = History(tmp_path / "a.jsonl")
    tear(history.path)
    with history.path.open("ab") as file:
        file.write(b"\n")
    history.write("note", number=1)
    with pytest.raises(HistoryDamaged, match=r"a\.jsonl, line 2"):
        read(history.path)


@pytest.mark.parametrize("line", ["[]", '{"t": 1}', '{"t": "x", "process": "a", "event": "b"}', "42"])
def test_json_that_is_no_event(line: str, tmp_path: Path) -> None:
    """It needs a time, a process and a kind."""
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(HistoryDamaged, match="line 1"):
        read(path)


def tear(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"t": 12.5, "proc')
