"""Histories told by hand: each call adds the events of one step, at the time that is given in seconds."""

from __future__ import annotations

from typing import Any

from reliq.testing import Event

LEASE = 10.0


class Story:
    """A history in the making. Calls take no time unless `took` says so."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._number = 0

    def add(self, t: float, process: str, kind: str, **data: Any) -> Story:
        self.events.append(Event(t, process, kind, data))
        return self

    def call(self, t: float, process: str, kind: str, took: float, answer: dict[str, Any], **asked: Any) -> Story:
        """A question and its answer; without an answer the process died in between."""
        self._number += 1
        self.add(t, process, kind, phase="invoke", call=self._number, **asked)
        return self.add(t + took, process, kind, call=self._number, **answer) if answer else self

    def enqueue(
        self, t: float, *ids: str, phase: str = "ok", took: float = 0.0, group: str | None = None, later: bool = False
    ) -> Story:
        asked: dict[str, Any] = {"ids": list(ids), "groups": [group] * len(ids)}
        asked |= {"later": list(ids)} if later else {}
        return self.call(t, "producer", "enqueue", took, {"phase": phase, "ids": list(ids)} if phase else {}, **asked)

    def claim(
        self,
        t: float,
        process: str,
        receipt: str,
        *ids: str,
        number: int = 1,
        lease: float = LEASE,
        took: float = 0.0,
        epoch: int = 1,
    ) -> Story:
        return self.add(
            t + took,
            process,
            "claim",
            receipt=receipt,
            asked=t,
            lease=lease,
            epoch=epoch,
            ids=list(ids),
            deliveries=[number] * len(ids),
        )

    def settle(
        self, t: float, process: str, verb: str, receipt: str, *ids: str, answer: str = "ok", took: float = 0.0
    ) -> Story:
        """`answer`: ok, lost, info, dead (ok, and it was the last attempt), or nothing."""
        told: dict[str, Any] = {"phase": "info" if answer == "info" else "ok"}
        told |= {"lost": list(ids)} if answer == "lost" else {}
        told |= {"dead": list(ids) if answer == "dead" else []} if verb == "fail" else {}
        lease = {"lease": LEASE} if verb == "renew" else {}
        return self.call(t, process, verb, took, told if answer else {}, held={receipt: list(ids)}, **lease)

    def finish(self, t: float, process: str, receipt: str, *ids: str, answer: str = "ok") -> Story:
        return self.settle(t, process, "finish", receipt, *ids, answer=answer)

    def handle(self, t: float, process: str, receipt: str, item_id: str, until: float | None = None) -> Story:
        self.add(t, process, "began", id=item_id, receipt=receipt)
        return self if until is None else self.add(until, process, "ended", id=item_id, receipt=receipt)

    def signal(self, t: float, what: str, who: str) -> Story:
        return self.add(t, "injector", "process", what=what, who=who)

    def final(self, t: float, **states: list[str]) -> Story:
        for state, ids in states.items():
            self.add(t, "injector", "final", state=state, ids=ids)
        return self

    def counts(self, t: float, **counts: int) -> Story:
        return self.add(t, "injector", "counts", counts=counts)
