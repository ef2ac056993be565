"""Everything that can happen to a topology, while items are enqueued and handled: no one restarts, nothing is lost.

Nothing: of what was acknowledged as `replicated:all`. What `memory` loses is counted and shown. At the end the history
checker decides on what producers and workers of every kind have written down.
RELIQ_SOAK=1 runs RELIQ_ROUNDS rounds of each (50), and writes their figures to RELIQ_FIGURES where that names a file.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pytest
from failover.arena import SPARE, Arena, Breaking, Round
from failover.conftest import MakeArena
from servers import wait_until

from reliq.testing import Report

ABOVE = 2.0  # seconds without service above the Sentinels' own time; the goal is 0.5, a busy machine gets more
ROUNDS = 3
UNTROUBLED = 1.0  # seconds without service where the master stays who it is


def kill(arena: Arena) -> float:
    """SIGKILL of the master."""
    old = arena.topology.master
    return _switch(arena, arena.faults.kill(old).at, lambda: arena.faults.start(old))


def freeze(arena: Arena) -> float:
    """SIGSTOP: the master's connections stay, and nothing answers."""
    old = arena.topology.master
    return _switch(arena, arena.faults.pause(old).at, lambda: arena.faults.resume(old))


def isolate(arena: Arena) -> float:
    """Nobody reaches the master."""
    old = arena.topology.master
    return _switch(arena, arena.faults.partition(old).at, arena.faults.heal)


def isolate_with_clients(arena: Arena) -> float:
    """All clients are with the old master, and the others make a new one."""
    old = arena.topology.master
    seconds = arena.topology.wait_switched(old, since=arena.faults.partition(old, clients=True).at)
    arena.progress(["memory"])
    with arena.tearing():
        arena.faults.heal()
        wait_until(lambda: old.info()["role"] == "slave", "the old master to follow the new one", 60)
    return seconds


def hand_over(arena: Arena) -> float:
    """SENTINEL FAILOVER."""
    with arena.tearing():
        record = arena.faults.failover()
        arena.progress(["memory"])
    return float(record.details["seconds-1"])


def lose_replica(arena: Arena) -> float:
    """SIGKILL of a replica."""
    victim = arena.topology.replicas[0]
    arena.faults.kill(victim)
    arena.progress(["memory", "replicated:1"])
    arena.faults.start(victim)
    return 0.0


def lose_sentinel(arena: Arena) -> float:
    """SIGKILL of one of three Sentinels."""
    victim = arena.topology.sentinels[0]
    arena.faults.kill(victim)
    arena.progress(["memory", "replicated:1", "replicated:all"])
    arena.faults.start(victim)
    return 0.0


def kill_twice(arena: Arena) -> float:
    """SIGKILL of the master, and of the next one as soon as there is one to take over."""
    first = kill(arena)
    arena.topology.wait_ready(90)
    return max(first, kill(arena))


def _switch(arena: Arena, since: float, mend: object) -> float:
    old = next(node for node in arena.topology.nodes if node.name == arena.faults.records[-1].targets[0])
    seconds = arena.topology.wait_switched(old, since=since)
    arena.progress(["memory"])
    assert callable(mend)
    mend()
    return seconds


FAULTS: dict[str, tuple[Breaking, str]] = {
    "kill": (kill, "loopback"),
    "freeze": (freeze, "loopback"),
    "isolate": (isolate, "auto"),
    "isolate with clients": (isolate_with_clients, "auto"),
    "hand over": (hand_over, "loopback"),
    "lose a replica": (lose_replica, "loopback"),
    "lose a Sentinel": (lose_sentinel, "loopback"),
    "kill twice": (kill_twice, "loopback"),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS)
def test_three_times(fault: str, make_arena: MakeArena) -> None:
    """Producers and workers of every kind ride it out, again and again in one arena: nothing piles up."""
    breaking, network = FAULTS[fault]
    arena = make_arena(network)
    judge(fault, [arena.suffer(breaking) for _ in range(ROUNDS)], ABOVE)
    acquit(arena.report(), arena.torn)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", FAULTS)
def test_many_times(fault: str, make_arena: MakeArena) -> None:
    """The same again and again, in one arena: nothing piles up."""
    breaking, network = FAULTS[fault]
    arena = make_arena(network)
    rounds = [arena.suffer(breaking) for _ in range(int(os.environ.get("RELIQ_ROUNDS") or 50))]
    note(fault, rounds)
    judge(fault, rounds, ABOVE)
    arena.crew.stop()


def judge(fault: str, rounds: list[Round], above: float) -> None:
    for each in rounds:
        print(fault, each)  # shown where the test fails
        assert (each.lost["replicated:all"], each.stale, each.restarts) == (0, 0, 0)
        assert each.threads <= 0
        assert each.connections <= SPARE
        if fault != "isolate with clients":
            bound = each.switched + above if each.switched else UNTROUBLED + above
            assert max(each.silence["memory"]) < bound
            assert each.lost["replicated:1"] == 0 or each.switched


def acquit(report: Report, torn: Sequence[tuple[float, float]]) -> None:
    """Nothing is lost that all replicas had confirmed, no stale finish was accepted, and what else was broken was so
    across a fault: the new master did not know what `memory` had promised."""
    found, excused = [v for v in report.violations if v.rule != "lost"], Counter(v.rule for v in report.excused)
    unexplained = [v for v in found if not any(v.since <= end and v.at >= began for began, end in torn)]
    lost = Counter(v.id.partition("-")[0] for v in report.violations if v.rule == "lost")
    print(report.figures, report.broken(), lost, excused, report.undecided, unexplained[:5])
    assert report.figures.deliveries >= report.figures.handlings > 0, "not all claims are on record"
    assert lost["replicated:all"] == 0
    assert report.count("stale accepted") + excused["stale accepted"] == 0
    assert unexplained == []
    assert report.undecided == {}


def note(fault: str, rounds: list[Round]) -> None:
    silence = [max(each.silence["memory"]) - each.switched for each in rounds]
    print(f"{fault}: above the Sentinels' time {median(silence):.2f} median, {max(silence):.2f} max")
    if path := os.environ.get("RELIQ_FIGURES"):
        with Path(path).open("a") as file:
            file.writelines(json.dumps({"fault": fault, **asdict(each)}) + "\n" for each in rounds)
