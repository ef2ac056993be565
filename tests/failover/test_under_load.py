"""Everything that can happen to a topology, while items are enqueued and handled: no one restarts, nothing is lost.

Nothing: of what was acknowledged as `replicated:all`. What `memory` loses is counted and shown.
RELIQ_SOAK=1 runs RELIQ_ROUNDS rounds of each (50), and writes their figures to RELIQ_FIGURES where that names a file.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pytest
from failover.arena import SPARE, Arena, Breaking, Round
from failover.conftest import MakeArena

ABOVE = 2.0  # seconds without service above the Sentinels' own time; the goal is 0.5, a busy machine gets more
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
    arena.faults.heal()
    return seconds


def hand_over(arena: Arena) -> float:
    """SENTINEL FAILOVER."""
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
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
def test_once(fault: str, make_arena: MakeArena) -> None:
    """Producers and workers of every kind ride it out."""
    breaking, network = FAULTS[fault]
    arena = make_arena(network)
    judge(fault, [arena.suffer(breaking)], ABOVE)
    arena.crew.stop()


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


def note(fault: str, rounds: list[Round]) -> None:
    silence = [max(each.silence["memory"]) - each.switched for each in rounds]
    print(f"{fault}: above the Sentinels' time {median(silence):.2f} median, {max(silence):.2f} max")
    if path := os.environ.get("RELIQ_FIGURES"):
        with Path(path).open("a") as file:
            file.writelines(json.dumps({"fault": fault, **asdict(each)}) + "\n" for each in rounds)
