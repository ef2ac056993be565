"""The loops, as generators that yield what is to be done and are sent what came of it. They do no I/O themselves.

A driver runs a plan: for a `Command` it sends one and gives its result, for a `Sleep` it waits, for a `Block` it waits
on the queue's wake-up key. Errors of a command are thrown into the plan.
"""

from __future__ import annotations

from reliq._plans.claiming import ClaimRequest, claim, finish_and_claim, set_aside
from reliq._plans.claiming import _receipt as _receipt
from reliq._plans.effects import Block, Clock, Effect, Listen, Plan, Sleep
from reliq._plans.enqueuing import batch, body_of, body_of_one, enqueue, enqueue_many
from reliq._plans.operating import peek, purge, recover, redrive, scan_page
from reliq._plans.repeating import in_batches, persist
from reliq._plans.settling import fail, finish, finish_lost, finish_unseen, finish_with
from reliq._plans.waiting import UNKNOWN, drain, wait_for_end

__all__ = [
    "UNKNOWN",
    "Block",
    "ClaimRequest",
    "Clock",
    "Effect",
    "Listen",
    "Plan",
    "Sleep",
    "batch",
    "body_of",
    "body_of_one",
    "claim",
    "drain",
    "enqueue",
    "enqueue_many",
    "fail",
    "finish",
    "finish_and_claim",
    "finish_lost",
    "finish_unseen",
    "finish_with",
    "in_batches",
    "peek",
    "persist",
    "purge",
    "recover",
    "redrive",
    "scan_page",
    "set_aside",
    "wait_for_end",
]
