"""Ways to make a good history bad. Each gives the changed events, or None where the history has no place for it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from reliq.testing import Event

Mutation = Callable[[list[Event], random.Random], "list[Event] | None"]


def replaced(events: list[Event], old: Event, *new: Event) -> list[Event]:
    at = next(index for index, event in enumerate(events) if event is old)
    return [*events[:at], *new, *events[at + 1 :]]


def with_data(event: Event, **data: Any) -> Event:
    return dataclasses.replace(event, data={**event.data, **data})


def chosen(events: list[Event], random_: random.Random, test: Callable[[Event], Any]) -> Event | None:
    found = [event for event in events if test(event)]
    return random_.choice(found) if found else None


def accepted(events: list[Event], verb: str) -> list[tuple[Event, Event]]:
    """Calls of one item that were accepted: question and answer."""
    asked = {(e.process, e.data["call"]): e for e in events if e.kind == verb and e.data["phase"] == "invoke"}
    told = [e for e in events if e.kind == verb and e.data["phase"] == "ok" and not e.data.get("lost")]
    return [(asked[e.process, e.data["call"]], e) for e in told]


def drop_a_queued_item(events: list[Event], random_: random.Random) -> list[Event] | None:
    """An item that waits disappears."""
    known = {i for e in events if e.kind == "enqueue" and e.data["phase"] == "ok" for i in e.data["ids"]}
    tried = {i for e in events if e.kind == "finish" and e.data["phase"] == "invoke" for i in only(e)}
    final = chosen(events, random_, lambda e: e.kind == "final" and known & set(e.data["ids"]) - tried)
    if final is None:
        return None
    gone = random_.choice(sorted(known & set(final.data["ids"]) - tried))
    return replaced(events, final, with_data(final, ids=[i for i in final.data["ids"] if i != gone]))


def only(event: Event) -> list[str]:
    return [item_id for ids in event.data["held"].values() for item_id in ids]


def invent_an_item(events: list[Event], random_: random.Random) -> list[Event] | None:
    """A claim brings what nobody enqueued."""
    claim = chosen(events, random_, lambda e: e.kind == "claim")
    if claim is None:
        return None
    more = {"ids": [*claim.data["ids"], "?"], "deliveries": [*claim.data["deliveries"], 1]}
    return replaced(events, claim, with_data(claim, **more))


def forget_a_finish(events: list[Event], random_: random.Random) -> list[Event] | None:
    """An item that was finished is delivered again."""
    if not (finishes := accepted(events, "finish")):
        return None
    asked, told = random_.choice(finishes)
    return [*events, a_claim(told.t + 50, only(asked)[0], number=99)]


def a_claim(t: float, item_id: str, *, number: int) -> Event:
    about = {"receipt": "another", "asked": t - 0.01, "lease": 8.0, "epoch": 1}
    return Event(t, "somebody", "claim", {**about, "ids": [item_id], "deliveries": [number]})


def finish_again(events: list[Event], random_: random.Random) -> list[Event] | None:
    """Somebody else finishes what is finished."""
    if not (finishes := accepted(events, "finish")):
        return None
    asked, told = random_.choice(finishes)
    item_id = only(asked)[0]
    call = {"call": 1, "held": {"another": [item_id]}}
    return [
        *events,
        a_claim(told.t + 20, item_id, number=99),
        Event(told.t + 21, "somebody", "finish", {"phase": "invoke", **call}),
        Event(told.t + 22, "somebody", "finish", {"phase": "ok", "call": 1}),
    ]


def duplicate_a_lease(events: list[Event], random_: random.Random) -> list[Event] | None:
    """Somebody else gets an item that is held, before its holder finishes it."""
    held_long = [
        (claim, asked)
        for asked, _ in accepted(events, "finish")
        for claim in events
        if claim.kind == "claim" and claim.data["receipt"] in asked.data["held"] and asked.t - claim.t > 0.1
    ]
    if not held_long:
        return None
    claim, asked = random_.choice(held_long)
    return [*events, a_claim((claim.t + asked.t) / 2, only(asked)[0], number=99)]


def accept_a_stale_finish(events: list[Event], random_: random.Random) -> list[Event] | None:
    """A finish that was refused because somebody else has the item is accepted."""
    for refused in random_.sample(events, len(events)):
        if refused.kind == "finish" and refused.data.get("lost"):
            (item_id,) = refused.data["lost"]
            asked = next(e for e in events if is_question(e, refused))
            own = next(e for e in events if e.kind == "claim" and e.data["receipt"] in asked.data["held"])
            if any(
                e.kind == "claim" and item_id in e.data["ids"] and own.t < e.data["asked"] < e.t < asked.t
                for e in events
            ):
                return replaced(events, refused, with_data(refused, lost=[]))
    return None


def is_question(event: Event, answer: Event) -> bool:
    same = (event.kind, event.process, event.data.get("call")) == (answer.kind, answer.process, answer.data["call"])
    return same and event.data["phase"] == "invoke"


def refuse_a_good_finish(events: list[Event], random_: random.Random) -> list[Event] | None:
    """A finish well within the lease is refused."""
    early = [
        (asked, told)
        for asked, told in accepted(events, "finish")
        for claim in events
        if claim.kind == "claim" and claim.data["receipt"] in asked.data["held"]
        if told.t < claim.data["asked"] + claim.data["lease"] - 0.1
    ]
    if not early:
        return None
    asked, told = random_.choice(early)
    return replaced(events, told, with_data(told, lost=only(asked)))


def repeat_a_number(events: list[Event], random_: random.Random) -> list[Event] | None:
    """A second delivery is called a first one."""
    numbers = {
        i: n for e in events if e.kind == "claim" for i, n in zip(e.data["ids"], e.data["deliveries"], strict=True)
    }
    claims = [e for e in events if e.kind == "claim"]
    for claim in random_.sample(claims, len(claims)):
        before = [e for e in claims if e.t < claim.data["asked"] and set(e.data["ids"]) & set(claim.data["ids"])]
        if before and set(numbers):
            return replaced(events, claim, with_data(claim, deliveries=[1] * len(claim.data["ids"])))
    return None


def change_a_replay(events: list[Event], random_: random.Random) -> list[Event] | None:
    """A claim that is asked for again at once brings something else."""
    claim = chosen(events, random_, lambda e: e.kind == "claim" and e.t < e.data["asked"] + 7)
    if claim is None:
        return None
    again = {**claim.data, "asked": claim.t, "ids": [claim.data["ids"][0], "i0i"], "deliveries": [1, 1]}
    return [*events, Event(claim.t, claim.process, "claim", again)]


def handle_twice(events: list[Event], random_: random.Random) -> list[Event] | None:
    """A worker handles an item a second time under the same receipt."""
    began = chosen(events, random_, lambda e: e.kind == "began")
    return None if began is None else [*events, dataclasses.replace(began, t=began.t + 0.001)]


def swap_order(events: list[Event], random_: random.Random) -> list[Event] | None:
    """Two items without a group that were enqueued one after the other, and claimed so, are claimed in reverse."""
    sent: dict[str, float] = {}
    answered: dict[str, float] = {}
    for e in events:
        if e.kind == "enqueue" and e.data["phase"] == "invoke" and e.data["groups"][0] is None:
            sent |= dict.fromkeys(e.data["ids"], e.t)
        elif e.kind == "enqueue" and e.data["phase"] == "ok":
            answered |= dict.fromkeys(e.data["ids"], e.t)
    single = [
        e
        for e in events
        if e.kind == "claim" and len(e.data["ids"]) == 1 and e.data["deliveries"] == [1] and e.data["ids"][0] in sent
    ]
    for one in random_.sample(single, len(single)):
        for other in single:
            (a,), (b,) = one.data["ids"], other.data["ids"]
            if answered.get(a, 1e9) < sent[b] and one.t < other.data["asked"] and b in answered:
                swapped = replaced(events, one, with_data(one, ids=[b]))
                return replaced(swapped, other, with_data(other, ids=[a]))
    return None


def miscount(events: list[Event], random_: random.Random) -> list[Event] | None:
    """One more is counted than there is."""
    counts = next(e for e in events if e.kind == "counts")
    name = random_.choice(sorted(counts.data["counts"]))
    more = {**counts.data["counts"], name: counts.data["counts"][name] + 1}
    return replaced(events, counts, with_data(counts, counts=more))


def delay_a_released_item(events: list[Event], random_: random.Random) -> list[Event] | None:
    """After an item was released, somebody gets one that was never delivered before it comes again."""
    for asked, told in random_.sample(found := accepted(events, "release"), len(found)):
        item_id = only(asked)[0]
        group = next(
            e.data["groups"][0]
            for e in events
            if e.kind == "enqueue" and e.data["phase"] == "invoke" and item_id in e.data["ids"]
        )
        again = [
            e for e in events if e.kind == "claim" and item_id in e.data["ids"] and e.data["asked"] > told.t + 0.01
        ]
        if group is None and again:
            new = {"phase": "invoke", "call": 1, "ids": ["new"], "groups": [None]}
            enqueue = Event(told.t + 0.001, "else", "enqueue", new)
            claim = a_claim(told.t + 0.005, "new", number=1)
            between = with_data(claim, asked=told.t + 0.002, receipt="between")
            return [*events, enqueue, between]
    return None


def begin_a_group_early(events: list[Event], random_: random.Random) -> list[Event] | None:
    """An item of a group is handled while an earlier one is."""
    calls = [e for e in events if e.kind == "enqueue" and e.data["phase"] == "invoke"]
    several = [e for e in calls if e.data["groups"][0] and len(e.data["ids"]) > 1]
    known = {i for e in events if e.kind == "enqueue" and e.data["phase"] == "ok" for i in e.data["ids"]}
    begins = {e.data["id"]: e for e in reversed(events) if e.kind == "began"}
    for call in random_.sample(several, len(several)):
        first, second = call.data["ids"][:2]
        if first in begins and second in begins and {first, second} <= known:
            late = begins[first]
            return [*events, dataclasses.replace(begins[second], t=late.t + 1e-6)]
    return None


MUTATIONS: dict[Mutation, tuple[str, ...]] = {
    drop_a_queued_item: ("lost",),
    invent_an_item: ("unexpected",),
    forget_a_finish: ("redelivered",),
    finish_again: ("finished twice", "redelivered"),
    duplicate_a_lease: ("double lease",),
    accept_a_stale_finish: ("stale accepted",),
    refuse_a_good_finish: ("wrongly refused",),
    repeat_a_number: ("delivery number",),
    change_a_replay: ("replay",),
    handle_twice: ("duplicate",),
    swap_order: ("order",),
    delay_a_released_item: ("released order",),
    begin_a_group_early: ("group order",),
    miscount: ("counters",),
}
