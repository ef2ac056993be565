"""docker-compose.yml does not rot: what it runs is run here, without Docker."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import server_binary, wait_until

from reliq import Queue, doctor, failover
from reliq.testing.control import Control, fields

from .composed import ROOT, Composed, docker_compose, document

SERVERS = ("redis-1", "redis-2", "redis-3")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
WORKERS = ("worker-1", "worker-2")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    """Servers and Sentinels, started in the order that the file says."""
    with Composed(tmp_path, server_binary()) as running:
        running.start("redis-1")
        wait_until(lambda: running.healthy("redis-1"), "redis-1 is healthy")
        running.start("redis-2", "redis-3")
        wait_until(lambda: all(map(running.healthy, SERVERS)), "the servers are healthy")
        running.start(*SENTINELS)
        wait_until(lambda: all(map(running.healthy, SENTINELS)), "the Sentinels are healthy", timeout=30.0)
        yield running


def handled(composed: Composed, *workers: str) -> int:
    """Items that workers have printed."""
    return sum(composed.log(name).count("mail to ann+") for name in workers)


def role(composed: Composed, name: str) -> str:
    """Of a server, by its own word."""
    with Control(composed.address(name)) as control:
        return fields(control.call("INFO", "replication"))["role"]


def ready(composed: Composed) -> bool:
    """Whether a planned failover could begin."""
    return not failover.readiness(composed.url).reasons


@linux
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_items_are_handled_across_failovers(composed: Composed) -> None:
    """A producer and two workers go on when the master is killed and when it is changed as planned."""
    composed.start("producer", *WORKERS)
    wait_until(lambda: handled(composed, *WORKERS) > 1, "items are handled", timeout=20.0)
    wait_until(lambda: all(map(composed.healthy, WORKERS)), "the workers are healthy", timeout=20.0)

    wait_until(lambda: ready(composed), "the Sentinels know everybody", timeout=30.0)
    composed.kill("redis-1")
    wait_until(
        lambda: "master" in {role(composed, name) for name in SERVERS[1:]}, "a replica is the master", timeout=40.0
    )
    known = handled(composed, *WORKERS)
    wait_until(lambda: handled(composed, *WORKERS) > known + 1, "items are handled by the new master", timeout=30.0)

    composed.start("redis-1")  # with the file that it left
    wait_until(lambda: composed.healthy("redis-1") and role(composed, "redis-1") == "slave", "it follows", timeout=40.0)
    wait_until(lambda: ready(composed), "everybody is there again", timeout=60.0)
    report = failover.run(composed.url)
    assert report.agreed >= 2
    known = handled(composed, *WORKERS)
    wait_until(lambda: handled(composed, *WORKERS) > known + 1, "items are handled after the change", timeout=30.0)

    assert composed.stop("producer") in (-15, 143)
    with Queue("emails", composed.url) as queue:
        wait_until(lambda: not queue.counts().queued, "the queue is worked off", timeout=30.0)
    assert [composed.stop(name) for name in WORKERS] == [0, 0]


@linux
def test_the_doctor_has_nothing_critical_to_say(composed: Composed) -> None:
    """Persistence, min-replicas, memory, eviction, quorum: what the page on it recommends is what it has."""
    wait_until(lambda: ready(composed), "the Sentinels know everybody", timeout=30.0)
    found = doctor.examine(composed.url)
    assert [finding for finding in found if finding.level != doctor.Level.OK and finding.title != "security"] == []


def test_every_server_and_sentinel_keeps_its_state() -> None:
    """On a volume of its own: a container that comes back must come back as what it was."""
    loaded = document()
    for name in (*SERVERS, *SENTINELS, "postgres"):
        (volume,) = loaded["services"][name]["volumes"]
        assert volume.startswith(f"{name}:/")
        assert name in loaded["volumes"]


def test_what_somebody_waits_for_has_a_health_check() -> None:
    """`depends_on` names services that there are, and that can tell when they are healthy."""
    services = document()["services"]
    waited = {(name, other) for name, service in services.items() for other in service.get("depends_on", {})}
    assert waited
    for name, other in waited:
        assert services[name]["depends_on"][other] == {"condition": "service_healthy"}
        assert "healthcheck" in services[other], f"{name} waits for {other}"


def test_images_name_no_registry() -> None:
    """The machine's own mirror decides where they come from."""
    services = document()["services"]
    for service in services.values():
        assert "." not in service["image"].partition("/")[0].partition(":")[0], service["image"]
    lines = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").splitlines()
    assert all(
        "." not in line.split()[1].partition("/")[0].partition(":")[0] for line in lines if line.startswith("FROM ")
    )


def test_the_image_is_built_from_files_that_there_are() -> None:
    """Each file that the Dockerfile copies exists, and is let through by its ignore file."""
    build = document()["services"]["producer"]["build"]
    dockerfile = ROOT / build["context"] / build["dockerfile"]
    copied = re.findall(r"^COPY (\S+) ", dockerfile.read_text("utf-8"), re.MULTILINE)
    assert all((ROOT / path).exists() for path in copied)
    ignored = Path(f"{dockerfile}.dockerignore").read_text("utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert all((ROOT / path).exists() for path in kept)
    assert {"pyproject.toml", "README.md", "LICENSE", "reliq", "reliq_pytest.py", "lua"} <= set(kept)


def test_docker_accepts_the_file() -> None:
    """`docker compose config`, where there is Docker."""
    command = docker_compose()
    if command is None:
        pytest.skip("no docker compose here")
    ran = subprocess.run([*command, "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"], check=False)
    assert ran.returncode == 0
