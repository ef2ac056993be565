"""One pure function per script: arguments in, a `Command` out that knows how to read the reply. No I/O."""

from __future__ import annotations

from reliq._commands.claiming import ClaimReply, claim, finish_and_claim
from reliq._commands.enqueuing import BatchSpec, Body, await_room, batch, enqueue
from reliq._commands.fleet import Beat, beat, workers
from reliq._commands.looking import batch_progress, get, inspect, oldest, scan, watch
from reliq._commands.operating import (
    cancel,
    configure,
    discard,
    pause,
    purge,
    recover,
    redrive,
    requeue,
    resolve,
    resume,
)
from reliq._commands.recurring import CronsReply, StoredCron, cron_set, cron_tick, crons
from reliq._commands.settling import (
    MAX_ERROR,
    Failure,
    checkpoint,
    cut,
    fail,
    finish,
    finish_unseen,
    finish_with,
    release,
    renew,
)

__all__ = [
    "MAX_ERROR",
    "BatchSpec",
    "Beat",
    "Body",
    "ClaimReply",
    "CronsReply",
    "Failure",
    "StoredCron",
    "await_room",
    "batch",
    "batch_progress",
    "beat",
    "cancel",
    "checkpoint",
    "claim",
    "configure",
    "cron_set",
    "cron_tick",
    "crons",
    "cut",
    "discard",
    "enqueue",
    "fail",
    "finish",
    "finish_and_claim",
    "finish_unseen",
    "finish_with",
    "get",
    "inspect",
    "oldest",
    "pause",
    "purge",
    "recover",
    "redrive",
    "release",
    "renew",
    "requeue",
    "resolve",
    "resume",
    "scan",
    "watch",
    "workers",
]
