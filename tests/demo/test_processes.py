"""Child processes: they start, say why they did not, and never outlive the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from demo.runs import is_alive
from servers import wait_until

from reliq.demo.processes import Child, ChildFailed, Crew
from reliq.embedded import Server


def parent_of_a_child(module: str, *arguments: str, frozen: bool) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A process with a child of the demo, which is stopped where `frozen`."""
    program = f"""
        import signal
        from reliq.demo.processes import Child
        child = Child("child", {module!r}, *{arguments!r})
        child.greeting()
        if {frozen}:
            child.freeze()
        print(child.pid, flush=True)
        signal.pause()
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        return parent, psutil.Process(int(parent.stdout.readline()))


def test_the_smtp_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """It sees the end of its standard input."""
    parent, child = parent_of_a_child("reliq.demo.smtp", str(tmp_path / "log"), frozen=False)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child), "the child has ended")


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_a_worker_ends_when_its_parent_is_killed(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, frozen: bool
) -> None:
    """Also one that is frozen in that moment, as the victim is before it is killed."""
    monkeypatch.setenv("RELIQ_URL", server.socket_url)
    parent, child = parent_of_a_child("reliq.demo.workers", "no-items", "1", "1.0", "worker-1", frozen=frozen)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child), "the child has ended")


def test_a_child_that_does_not_start_says_why() -> None:
    """The end of what it wrote to stderr is in the error."""
    with Child("worker-9", "reliq.demo.workers", "queue", "no-port") as child, pytest.raises(ChildFailed) as failure:
        child.greeting()
    assert "worker-9 did not start" in str(failure.value)
    assert "invalid int value: 'no-port'" in str(failure.value)


def test_a_child_that_ended_is_noticed(tmp_path: Path) -> None:
    """With its status."""
    with Child("smtp", "reliq.demo.smtp", str(tmp_path / "log")) as child:
        child.greeting()
        child.check()
        child.kill()
        with pytest.raises(ChildFailed, match=rf"smtp \(pid \d+\) ended with status -{signal.SIGKILL}"):
            child.check()


def test_a_crew_closes_all_children_also_frozen_and_killed_ones(tmp_path: Path) -> None:
    """Whatever state they are in."""
    with Crew() as crew:
        for n in range(3):
            crew.add(Child(crew.next_name(), "reliq.demo.smtp", str(tmp_path / f"log{n}")))
        processes = [psutil.Process(child.pid) for child in crew.living]
        for child in crew.living:
            child.greeting()
        crew.living[0].freeze()
        crew.living[1].kill()
    assert not any(is_alive(process) for process in processes)
