"""How a worker tells that it is well: vitals, the health file, the probes, systemd."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import wait_until

from reliq import InvalidArgument, health
from reliq._outlets import write_facts
from reliq.health import Monitor, Vitals, check_file


def ask(port: int, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def tired(stuck: float = 600.0) -> Vitals:
    """Vitals of a worker that turned, and claimed, longer ago than 10 ms, its limit."""
    vitals = Vitals(quiet=0.01, stuck=stuck)
    vitals.turned()
    vitals.claimed()
    wait_until(lambda: vitals.facts()["claimed"] > 0.011, "the limits are over")
    return vitals


def test_a_worker_that_has_just_begun() -> None:
    """It is alive, and not ready before its first claim."""
    vitals = Vitals()
    assert (vitals.alive(), vitals.ready()) == (True, False)
    vitals.claimed()
    assert (vitals.alive(), vitals.ready()) == (True, True)


def test_a_worker_that_claims_nothing_is_not_ready() -> None:
    """A loop that goes round without a claim that was answered is alive, and that is all."""
    vitals = tired()
    vitals.turned()
    assert (vitals.alive(), vitals.ready()) == (True, False)


def test_a_worker_whose_handlers_are_all_busy_is_ready() -> None:
    """It has no reason to claim. One free handler is one that should have got something."""
    vitals = tired()
    vitals.holding(5, 1)
    assert vitals.ready()
    vitals.handlers = 2
    assert not vitals.ready()


def test_busy_handlers_whose_leases_are_not_renewed() -> None:
    """Where renewals are told of, and they stop, the busy ones work on what others may have."""
    vitals = Vitals(quiet=0.01, stuck=0.2)
    vitals.holding(1, 1)
    vitals.renewed()
    vitals.turned()
    assert vitals.ready()

    def turned_and_not_ready() -> bool:
        vitals.turned()
        return not vitals.ready()

    wait_until(turned_and_not_ready, "the last renewal is too long ago")
    assert vitals.alive()


def test_a_loop_that_stands_still_is_not_alive() -> None:
    """Whatever else it did."""
    vitals = tired(stuck=0.01)
    vitals.holding(1, 1)
    assert (vitals.alive(), vitals.ready()) == (False, False)


@pytest.mark.parametrize("options", [{"handlers": 0}, {"quiet": 0}, {"stuck": -1}, {"quiet": "soon"}])
def test_limits_out_of_range(options: dict[str, Any]) -> None:
    """They are refused when they are set."""
    with pytest.raises(InvalidArgument):
        Vitals(**options)


# The file


def test_the_health_file(tmp_path: Path) -> None:
    """It is there while the worker runs, has the facts, is written again and again, and is gone afterwards."""
    file, vitals = tmp_path / "beat", Vitals()
    with Monitor(vitals, file=file):
        assert json.loads(file.read_text())["pid"] == os.getpid()
        assert "not ready" in " ".join(check_file(file))
        vitals.claimed()
        wait_until(lambda: check_file(file, 10) == [], "the file says that all is well")
        assert list(tmp_path.iterdir()) == [file]  # no drafts
    assert not file.exists()
    assert "no health file" in check_file(file)[0]


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    """The file is replaced in one step, however often it is written."""
    file, done = tmp_path / "beat", threading.Event()
    facts = Vitals().facts()
    write_facts(file, facts)

    def write() -> None:
        for _ in range(300):
            write_facts(file, facts)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert json.loads(file.read_text())["pid"] == os.getpid()
    writer.join()


def test_an_old_file(tmp_path: Path) -> None:
    """A file that is not written any more is a worker that is gone, or hangs."""
    vitals = Vitals()
    vitals.claimed()
    file = tmp_path / "beat"
    write_facts(file, vitals.facts())
    assert check_file(file, 30) == []
    os.utime(file, (time.time() - 60, time.time() - 60))
    assert check_file(file, 30)[0].startswith("the health file was written 60 s ago")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"alive": true}'])
def test_a_damaged_file_is_a_problem(content: str, tmp_path: Path) -> None:
    """And not an error of the probe."""
    (tmp_path / "beat").write_text(content)
    assert "can't be read" in check_file(tmp_path / "beat")[0]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Said at the start, where somebody reads it."""
    with pytest.raises(InvalidArgument, match="health file"), Monitor(Vitals(), file=tmp_path / "no" / "beat"):
        pass


# The probes


@pytest.fixture
def vitals() -> Vitals:
    return Vitals()


@pytest.fixture
def port(vitals: Vitals) -> Iterator[int]:
    with Monitor(vitals, http=0) as monitor:
        assert monitor.port
        yield monitor.port


def test_probes_of_a_worker_that_is_well(vitals: Vitals, port: int) -> None:
    """200 for both, with the facts."""
    vitals.claimed()
    vitals.holding(3, 1)
    for path in ("/livez", "/readyz", "/readyz?verbose"):
        status, facts = ask(port, path)
        assert status == 200
        assert (facts["held"], facts["busy"], facts["pid"]) == (3, 1, os.getpid())


def test_probes_of_a_worker_that_has_claimed_nothing(port: int) -> None:
    """It lives, and is not ready: 503, with the same facts."""
    assert ask(port, "/livez")[0] == 200
    status, facts = ask(port, "/readyz")
    assert (status, facts["alive"], facts["ready"], facts["claimed"]) == (503, True, False, None)
    assert ask(port, "/")[0] == 404


def test_a_silent_caller_keeps_nobody_waiting(vitals: Vitals, port: int) -> None:
    """A connection on which nothing is asked does not hold up the next one."""
    with socket.create_connection(("127.0.0.1", port)):
        vitals.claimed()
        assert ask(port, "/readyz")[0] == 200


def test_it_listens_on_loopback(vitals: Vitals) -> None:
    """Unless it is told otherwise; and the port is free again at the end."""
    with Monitor(vitals, http=0) as monitor:
        assert monitor._endpoint
        assert monitor._endpoint._server.server_address[0] == "127.0.0.1"
        port = monitor.port
        assert port
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/livez")


def test_a_port_that_is_taken(port: int) -> None:
    """Said at the start."""
    with pytest.raises(InvalidArgument, match=f"can't listen on 127.0.0.1:{port}"), Monitor(Vitals(), http=port):
        pass


# systemd


@pytest.fixture(params=["path", "abstract"])
def notified(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A socket as systemd has it; the environment says where."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0reliq-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield listening


def test_systemd_is_told(notified: socket.socket) -> None:
    """READY when it is, WATCHDOG as long as it lives, STOPPING at the end."""
    vitals = Vitals()
    with Monitor(vitals):
        assert notified.recv(100) == b"WATCHDOG=1"
        vitals.claimed()
        told = {notified.recv(100), notified.recv(100)}
        assert told == {b"READY=1", b"WATCHDOG=1"}
    while notified.recv(100) != b"STOPPING=1":
        pass


def test_systemd_hears_nothing_of_a_loop_that_stands_still(notified: socket.socket) -> None:
    """The watchdog then ends the service."""
    with Monitor(tired(stuck=0.01)):
        notified.settimeout(1.5)  # longer than a beat
        with pytest.raises(TimeoutError):
            notified.recv(100)


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and nothing goes wrong."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not health.notify_systemd("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert not health.notify_systemd("READY=1")
