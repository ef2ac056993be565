"""A deployment behind Sentinels as it is now: what each of them says, and what the servers say of themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from reliq import _admin, _topology
from reliq._admin import Link, Refused, Unreachable
from reliq._topology import Address, Sentinel

_AWAY = frozenset({"s_down", "o_down", "disconnected"})


@dataclass(frozen=True, slots=True)
class SentinelView:
    """One Sentinel's word.

    Attributes:
        failure: why there is none; empty where there is.
        master: which server it names.
        facts: of SENTINEL MASTER.
        replicas: of SENTINEL REPLICAS, one dictionary each.
        others: the Sentinels that it knows, by their id.
        run_id: its own id.
        quorum: what SENTINEL CKQUORUM says.
        server: its own INFO: version and the like.
    """

    address: Address
    failure: str = ""
    master: Address | None = None
    facts: dict[str, str] = field(default_factory=dict)
    replicas: tuple[dict[str, str], ...] = ()
    others: tuple[dict[str, str], ...] = ()
    run_id: str = ""
    quorum: str = ""
    server: dict[str, str] = field(default_factory=dict)

    @property
    def flags(self) -> frozenset[str]:
        """What it sees of the master: `master`, `s_down`, `failover_in_progress` ..."""
        return frozenset(self.facts.get("flags", "").split(","))

    @property
    def epoch(self) -> int:
        """Of its configuration; -1 where it does not tell."""
        return int(self.facts.get("config-epoch", -1))

    @property
    def coordinated(self) -> bool:
        """Whether its program knows a failover that the master hands over in: Valkey 9."""
        return int(self.server.get("valkey_version", "0").partition(".")[0]) >= 9


class Site:
    """The Sentinels of a topology, and its servers. Its connections are closed by `close`. Not for two threads."""

    def __init__(self, sentinel: Sentinel) -> None:
        self.sentinel = sentinel
        self._links: dict[tuple[str, Address], Link] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        for link in self._links.values():
            link.close()

    def server(self, address: Address) -> Link:
        """The link to one of the servers."""
        return self._links.setdefault(("server", address), _admin.to_server(self.sentinel, address))

    def at_sentinel(self, address: Address) -> Link:
        """The link to one of the Sentinels."""
        return self._links.setdefault(("sentinel", address), _admin.to_sentinel(self.sentinel, address))

    def views(self) -> list[SentinelView]:
        """What every Sentinel says, those that the listed ones tell of included. One that is away says `failure`."""
        found = [self._view(address) for address in self.sentinel.listed]
        ids = {view.run_id for view in found if view.run_id}
        told = {row["runid"]: (row["ip"], int(row["port"])) for view in found for row in view.others if _placed(row)}
        asked = {view.address for view in found}
        return found + [self._view(place) for run_id, place in told.items() if run_id not in ids and place not in asked]

    def named(self, addresses: list[Address]) -> Counter[Address]:
        """Which master these Sentinels name, and how many of them; those that do not answer are left out."""
        return Counter(place for place in map(self._named, addresses) if place)

    def _named(self, address: Address) -> Address | None:
        try:
            reply = self.at_sentinel(address).call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.sentinel.name)
        except (Refused, Unreachable):
            return None
        return (str(reply[0]), int(str(reply[1]))) if isinstance(reply, list) else None

    def _view(self, address: Address) -> SentinelView:
        link, name = self.at_sentinel(address), self.sentinel.name
        try:
            facts = link.fields("SENTINEL", "MASTER", name)
            return SentinelView(
                address,
                master=self._named(address),
                facts=facts,
                replicas=_rows(link.call("SENTINEL", "REPLICAS", name)),
                others=_rows(link.call("SENTINEL", "SENTINELS", name)),
                run_id=str(link.call("SENTINEL", "MYID")),
                quorum=_said(link, "SENTINEL", "CKQUORUM", name),
                server=_admin.as_fields(_said(link, "INFO", "server")),
            )
        except (Refused, Unreachable) as error:
            return SentinelView(address, failure=str(error))


def is_away(row: dict[str, str]) -> bool:
    """Whether a Sentinel sees this replica or Sentinel as down."""
    return bool(_AWAY & set(row.get("flags", "").split(",")))


def place_of(row: dict[str, str]) -> Address:
    """The address in a row of SENTINEL REPLICAS or SENTINELS."""
    return row["ip"], int(row["port"])


def most(votes: Counter[Address], sentinels: int) -> Address | None:
    """The address that more than half of all Sentinels name; None where there is no such one."""
    first = [address for address, count in votes.most_common(1) if count * 2 > sentinels]
    return first[0] if first else None


def shown(address: Address | None) -> str:
    """An address for messages."""
    return _topology.shown(address)


def _placed(row: dict[str, str]) -> bool:
    return row.get("port", "0") != "0" and "runid" in row


def _rows(reply: _admin.Reply) -> tuple[dict[str, str], ...]:
    return tuple(_admin.as_fields(row) for row in reply) if isinstance(reply, list) else ()


def _said(link: Link, *words: str) -> str:
    """A reply as text, an error too."""
    try:
        return str(link.call(*words))
    except Refused as error:
        return error.text
