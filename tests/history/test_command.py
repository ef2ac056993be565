"""`python -m reliq.testing.check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from history.bad import BAD
from history.simulation import simulate

from reliq.testing import RULES, Event

ROOT = Path(__file__).parents[2]


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "reliq.testing.check", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def written(path: Path, events: list[Event]) -> Path:
    path.write_bytes(b"".join(event.line() for event in events))
    return path


def test_a_good_history(tmp_path: Path) -> None:
    """Ends with 0, and names every rule as kept."""
    ran = check(written(tmp_path / "good.jsonl", simulate(seed=3, items=100)))
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert [line for line in lines if line.endswith(" ok")] == [f"{rule:17}ok" for rule in RULES]


def test_a_broken_promise(tmp_path: Path) -> None:
    """Ends with 7, and says which rule, which item and what was seen."""
    ran = check(written(tmp_path / "bad.jsonl", BAD["double lease"].events))
    assert ran.returncode == 7
    assert "double lease     BROKEN 1 times" in ran.stdout
    assert "double lease: a at 2.000: held by w1 up to 11.000, and claimed by w2" in ran.stdout


def test_json(tmp_path: Path) -> None:
    """The whole report, for programs; a time that never came is null."""
    ran = check("-o", "json", written(tmp_path / "bad.jsonl", BAD["lost"].events))
    assert ran.returncode == 7
    report = json.loads(ran.stdout)
    assert (report["ok"], report["figures"]["enqueued"]) == (False, 1)
    (violation,) = report["violations"]
    assert (violation["rule"], violation["id"], violation["at"]) == ("lost", "a", None)


def test_a_folder_of_histories(tmp_path: Path) -> None:
    """Events of all processes belong together: each file by itself would be wrong."""
    events = simulate(seed=3, items=100)
    for process in {event.process for event in events}:
        written(tmp_path / f"{process}.jsonl", [event for event in events if event.process == process])
    assert check(tmp_path).returncode == 0


def test_a_part_of_a_history(tmp_path: Path) -> None:
    """What a part can't decide is not decided."""
    path = written(tmp_path / "part.jsonl", BAD["unexpected"].events)
    assert check(path).returncode == 7
    ran = check("--part", path)
    assert ran.returncode == 0
    assert "unexpected       undecided" in ran.stdout


@pytest.mark.parametrize("arguments", [[], ["nowhere.jsonl"], ["-o", "xml", "."], ["--tolerance", "-1", "."]])
def test_usage(arguments: list[str]) -> None:
    """Ends with 2 and a message."""
    ran = check(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Error" in ran.stderr


def test_a_file_that_is_no_history(tmp_path: Path) -> None:
    """Ends with 2: nothing can be said."""
    (tmp_path / "x.jsonl").write_text("hello\nworld\n")
    ran = check(tmp_path / "x.jsonl")
    assert ran.returncode == 2
    assert "x.jsonl, line 1: not an event" in ran.stderr
