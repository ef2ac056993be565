"""The configuration files of servers and Sentinels, as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reliq.testing.network import Seat

Address = tuple[str, int]


@dataclass(frozen=True)
class Service:
    """What a Sentinel is told of a master; times in ms."""

    name: str
    master: Address
    replicas: Sequence[Address]
    quorum: int
    down_after: int
    failover_timeout: int
    password: str


def server(seat: Seat, master: Address | None, password: str, more: Mapping[str, str]) -> list[str]:
    """Lines of a server; `master`: whose replica it is; lines of `more` win."""
    lines = {
        "save": '""',
        "maxmemory-policy": "noeviction",
        "replica-announce-ip": seat.host,
        "replica-announce-port": str(seat.port),
        "repl-diskless-sync-delay": "0",  # else a replica waits 5 s for others to come
        "repl-ping-replica-period": "1",
    }
    if seat.source:
        lines["bind-source-addr"] = seat.source
    if password:
        lines |= {"requirepass": _quoted(password), "masterauth": _quoted(password)}
    if master is not None:
        lines["replicaof"] = f"{master[0]} {master[1]}"
    return [f"{name} {value}" for name, value in (lines | dict(more)).items()]


def sentinel(
    seat: Seat, myid: str, password: str, services: Sequence[Service], others: Sequence[tuple[str, int, str]]
) -> list[str]:
    """Lines of a Sentinel. It is told of the `others` (with their ids), which spares the seconds until it finds out."""
    lines = [f"sentinel myid {myid}", f"sentinel announce-ip {seat.host}", f"sentinel announce-port {seat.port}"]
    if seat.source:
        lines.append(f"bind-source-addr {seat.source}")
    if password:
        lines += [f"requirepass {_quoted(password)}", f"sentinel sentinel-pass {_quoted(password)}"]
    for service in services:
        lines += _watched(service)
        lines += [f"sentinel known-sentinel {service.name} {host} {port} {other}" for host, port, other in others]
    return lines


def _watched(service: Service) -> list[str]:
    name = service.name
    return [
        f"sentinel monitor {name} {service.master[0]} {service.master[1]} {service.quorum}",
        f"sentinel down-after-milliseconds {name} {service.down_after}",
        f"sentinel failover-timeout {name} {service.failover_timeout}",
        *([f"sentinel auth-pass {name} {_quoted(service.password)}"] if service.password else []),
        *(f"sentinel known-replica {name} {host} {port}" for host, port in service.replicas),
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
