"""Puts the events of all processes together: events in, a `Timeline` out. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from reliq.testing._events import Event
from reliq.testing._timeline import FAULTS, NEVER, SETTLING, Call, Claim, Delivery, Handling, Sent, Timeline


def timeline(events: Iterable[Event]) -> Timeline:
    """Puts events together; they may come in any order."""
    builder = _Builder()
    for event in sorted(events, key=lambda event: event.t):
        take = _TAKE.get(event.kind)
        if take is not None:  # a history may hold notes of its owner
            take(builder, event, event.data)
    return builder.finished()


class _Builder:
    """Finds the question to each answer: by the process and the number of the call."""

    def __init__(self) -> None:
        self.done = Timeline()
        self._sent: dict[tuple[str, int], dict[str, Sent]] = {}
        self._calls: dict[tuple[str, int], list[tuple[str, Call]]] = {}
        self._decisions: dict[tuple[str, int], list[tuple[str, str, float]]] = {}
        self._open: dict[tuple[str, str, str], list[Handling]] = defaultdict(list)

    def enqueue(self, event: Event, data: Any) -> None:
        key = (event.process, data["call"])
        if data["phase"] == "invoke":
            later, groups = set(data.get("later", ())), data.get("groups") or [None] * len(data["ids"])
            self._sent[key] = {
                item_id: Sent(item_id, key, index, event.t, group, item_id in later)
                for index, (item_id, group) in enumerate(zip(data["ids"], groups, strict=True))
            }
            for item_id, sent in self._sent[key].items():
                self.done.sent[item_id].append(sent)
            return
        for item_id in data["ids"]:
            if found := self._sent.get(key, {}).get(item_id):
                found.answered, found.answer = event.t, data["phase"]

    def claim(self, event: Event, data: Any) -> None:
        receipt, asked, deadline = data["receipt"], data["asked"], data["asked"] + data["lease"]
        self.done.claims[receipt].append(Claim(receipt, event.process, asked, event.t, data["ids"]))
        attempts = data.get("attempts") or [1] * len(data["ids"])
        for position, item_id in enumerate(data["ids"]):
            if known := self.done.delivery(item_id, receipt):
                known.deadline = max(known.deadline, deadline)
                continue
            number, attempt, epoch = data["deliveries"][position], attempts[position], data["epoch"]
            delivery = Delivery(
                item_id, receipt, event.process, number, attempt, epoch, position, asked, event.t, deadline
            )
            self.done.deliveries[item_id].append(delivery)

    def call(self, event: Event, data: Any) -> None:
        key = (event.process, data["call"])
        if data["phase"] == "invoke":
            calls = self._calls[key] = []
            for receipt, ids in data["held"].items():
                for item_id in ids:
                    self._renewed(item_id, receipt, data.get("until", {}).get(receipt, -NEVER))
                calls += [(i, self._new_call(i, receipt, event, data)) for i in ids]
            return
        lost, dead = set(data.get("lost", ())), data.get("dead")
        for item_id, call in self._calls.pop(key, ()):
            call.answered, call.answer = event.t, "lost" if item_id in lost else data["phase"]
            call.dead = None if dead is None else item_id in dead

    def _new_call(self, item_id: str, receipt: str, event: Event, data: Any) -> Call:
        call = Call(event.kind, event.t, float(data.get("lease", 0.0)))
        if known := self.done.delivery(item_id, receipt):
            known.calls.append(call)
        return call

    def _renewed(self, item_id: str, receipt: str, until: float) -> None:
        """A lease that its holder knows to end later than the claim said: something renewed it for him."""
        if known := self.done.delivery(item_id, receipt):
            known.deadline = max(known.deadline, until)

    def began(self, event: Event, data: Any) -> None:
        self._renewed(data["id"], data["receipt"], data.get("until", -NEVER))
        handling = Handling(data["id"], data["receipt"], event.process, event.t)
        self.done.handlings[data["id"]].append(handling)
        self._open[event.process, data["id"], data["receipt"]].append(handling)

    def ended(self, event: Event, data: Any) -> None:
        self._renewed(data["id"], data["receipt"], data.get("until", -NEVER))
        if running := self._open.get((event.process, data["id"], data["receipt"])):
            running.pop().ended = event.t

    def process(self, event: Event, data: Any) -> None:
        if data["what"] in FAULTS:
            self.done.faults[data["who"]].append(event.t)
        if data["what"] == "killed":
            self.done.killed[data["who"]] = event.t

    def announce(self, event: Event, _: Any) -> None:
        self.done.announced.append(event.t)

    def decided(self, event: Event, data: Any) -> None:
        key = (event.process, data["call"])
        if event.kind == "purge":
            if data.get("states") != ["finished"]:  # that forgets ids, and removes no item
                self.done.purged.append(event.t)
        elif event.kind == "resolve" and data.get("decision", "finish") != "finish":
            return
        elif data["phase"] == "invoke":
            self._decisions[key] = [(item_id, event.kind, event.t) for item_id in data["ids"]]
        elif data["phase"] == "ok":
            moved = set(data["ids"])
            self._decisions[key] = [told for told in self._decisions.get(key, ()) if told[0] in moved]

    def finished(self) -> Timeline:
        """The whole. Decisions whose answer is missing may have been carried out."""
        for told in self._decisions.values():
            for item_id, kind, at in told:
                self.done.decided[item_id].append((kind, at))
        return self.done

    def final(self, _: Event, data: Any) -> None:
        self.done.looked = True
        for item_id in data["ids"]:
            self.done.states[item_id] = data["state"]

    def counts(self, _: Event, data: Any) -> None:
        self.done.counts = dict(data["counts"])


_TAKE = {
    "enqueue": _Builder.enqueue,
    "claim": _Builder.claim,
    **dict.fromkeys((*SETTLING, "renew"), _Builder.call),
    "began": _Builder.began,
    "ended": _Builder.ended,
    "process": _Builder.process,
    "announce": _Builder.announce,
    **dict.fromkeys(("cancel", "discard", "resolve", "purge"), _Builder.decided),
    "final": _Builder.final,
    "counts": _Builder.counts,
}
