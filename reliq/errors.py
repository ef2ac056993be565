"""Every exception that reliq raises. Those of redis-py and psycopg never leave the package bare: they are the cause.

ReliqError
|- InvalidArgument          also a ValueError: nothing was sent
|  |- PayloadError          the payload can't be encoded, or is over the limit
|  '- InvalidURL            the connection URL can't be parsed; its password is masked
|- CodecError               stored bytes can't be decoded
|- QueueError               the queue refuses, nothing has changed
|  |- LeaseLost             some items are not held under their receipt any more
|  |- ItemNotFound
|  |- QueueFull
|  |- QueuePaused
|  |- StateLost             the server forgot a queue that this client knows
|  |- StaleEpoch            the queue was rebuilt, or the server is older than the queue
|  |- Rebuilding
|  |- UnknownLayout         written by a newer reliq
|  '- CorruptState          a key has a type that reliq never writes
|- ServerError              this server can't be used
|  |- ServerTooOld
|  |- UnsafeServer          its eviction policy deletes items
|  |- AccessDenied          password or rights
|  |- MemoryFull            nothing was added
|  |- ServerNotFound        no binary for embedded://
|  '- ScriptFailed          a bug in reliq: tell us
|- MirrorError              the Postgres side of a mirrored queue
|  |- MirrorUnavailable     Postgres does not answer
|  |- MirrorConflict        Postgres and Redis hold different generations of the queue, or somebody else follows it
|  |- MirrorSchema          the tables are missing, of another version, or this user lacks a right
|  '- NotMirrored           Postgres knows no such queue
|- TimeLimit                a handler ran longer than its worker allows; raised inside the handler
|- Unavailable              no answer within the deadline; may have been applied
|- DurabilityNotReached     the write is there, and less safe than was asked for
|- WaitTimeout              also a TimeoutError: an item that was waited for has not ended
'- DrainTimeout
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ReliqError(Exception):
    """Base of all reliq exceptions."""

    enqueued: tuple[Any, ...] = ()
    """On an error out of `enqueue_many`: what had been enqueued before it, in order."""


class InvalidArgument(ReliqError, ValueError):
    """An argument is out of its range. Nothing was sent."""


class PayloadError(InvalidArgument):
    """A payload can't be stored. `path` says which part of it, such as `payload['to'][3]`."""

    def __init__(self, message: str, *, path: str = "payload") -> None:
        super().__init__(message)
        self.path = path


class InvalidURL(InvalidArgument):
    """A connection URL can't be used."""


class CodecError(ReliqError):
    """Stored bytes can't be decoded: damaged, or written by a codec that this queue was not given."""


class QueueError(ReliqError):
    """The queue refuses a call. Unless the class says otherwise nothing has changed."""

    def __init__(self, message: str, *, queue: str) -> None:
        super().__init__(message)
        self.queue = queue


class LeaseLost(QueueError):
    """Items are not held under their receipt any more; others of the same call have been dealt with.

    Their lease ended and they were recovered, or somebody resolved them. Whoever claims them next starts over: undo or
    discard what was done for them.
    """

    def __init__(self, queue: str, ids: Sequence[str]) -> None:
        super().__init__(f"queue {queue!r}: lease lost on {_some(ids)}; their work will be done again", queue=queue)
        self.ids = tuple(ids)


class ItemNotFound(QueueError):
    """No item has this id: never enqueued, removed, or finished and forgotten."""

    def __init__(self, queue: str, item_id: str) -> None:
        super().__init__(f"queue {queue!r} knows no item {item_id!r}", queue=queue)
        self.id = item_id


class QueueFull(QueueError):
    """The queue's `max_length` or `max_bytes` would be exceeded. None of the items of this call were added."""

    def __init__(self, queue: str, *, length: int, max_length: int, size: int = 0, max_bytes: int = 0) -> None:
        bounds = [f"{length} of at most {max_length} items"] if max_length else [f"{length} items"]
        bounds += [f"{size} of at most {max_bytes} bytes"] if max_bytes else []
        super().__init__(
            f"queue {queue!r} has {' and '.join(bounds)}; slow down, wait for room with wait=, or raise its limits",
            queue=queue,
        )
        self.length = length
        self.max_length = max_length
        self.size = size
        self.max_bytes = max_bytes


class QueuePaused(QueueError):
    """Enqueueing is paused or the queue is draining; `resume()` ends that."""


class StateLost(QueueError):
    """The server has no trace of a queue that this client knows: it was flushed, restarted empty, or replaced.

    An empty server is not an empty queue, so nothing goes on by itself. Rebuild the queue, or accept the loss with
    `queue.adopt()`.
    """

    def __init__(self, queue: str, *, epoch: int, older: bool = False) -> None:
        gone = "is on the server as it was before what its mirror has seen" if older else "is gone from the server"
        super().__init__(
            f"queue {queue!r} (epoch {epoch}) {gone}; rebuild it, or accept the loss with adopt()", queue=queue
        )
        self.epoch = epoch
        self.older = older


class StaleEpoch(QueueError):
    """The queue on the server is of another epoch than the one this client knows.

    The queue was rebuilt since, or the server is an old master. `queue.adopt()` accepts the server's epoch.
    """

    def __init__(self, queue: str, *, known: int, found: int) -> None:
        super().__init__(
            f"queue {queue!r} has epoch {found}, this client knows epoch {known}; adopt() accepts the server's",
            queue=queue,
        )
        self.known = known
        self.found = found


class Rebuilding(QueueError):
    """The queue is being rebuilt and is closed until that is verified."""


class UnknownLayout(QueueError):
    """The queue's data layout is newer than this library. Upgrade before touching it."""

    def __init__(self, queue: str, *, layout: str) -> None:
        super().__init__(
            f"queue {queue!r} has data layout {layout}; this reliq knows layout 1, upgrade it", queue=queue
        )
        self.layout = layout


class CorruptState(QueueError):
    """A key of the queue holds something that reliq never writes there. Nothing is lost by the refusal."""


class ServerError(ReliqError):
    """The server can't be used for queues as it is."""


class ServerTooOld(ServerError):
    """Redis before 7.0 or Valkey before 7.2."""

    def __init__(self, *, server: str, version: str) -> None:
        super().__init__(f"{server} {version} is too old: reliq needs Redis 7.0, Valkey 7.2 or newer")
        self.server = server
        self.version = version


class UnsafeServer(ServerError):
    """The server's `maxmemory-policy` lets it delete items when memory is full."""

    def __init__(self, *, policy: str) -> None:
        super().__init__(
            f"maxmemory-policy is {policy}: the server would delete items when memory is full; "
            "set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
        )
        self.policy = policy


class AccessDenied(ServerError):
    """The server refuses the credentials, or the user lacks a right. Trying again won't help."""


class MemoryFull(ServerError):
    """The server's memory is full. Claim, finish, release, fail and recover still work, so that the queue drains."""


class ServerNotFound(ServerError):
    """`embedded://` found no server binary."""


class ScriptFailed(ServerError):
    """A script broke off, or the server answered what no script says: a bug in reliq or in the server."""


class MirrorError(ReliqError):
    """Something is wrong on the Postgres side of a mirrored queue. The queue in Redis goes on."""


class MirrorUnavailable(MirrorError):
    """Postgres does not answer, or can't take anything now (its disk is full, it is being shut down).

    An enqueue with `durability="checkpointed"` that raises this has enqueued nothing, unless `may_have_been_applied`
    is true: then a commit was sent whose answer is missing, and the row may be there and be enqueued later. Repeating
    the call with the same ids is safe either way.
    """

    def __init__(self, message: str, *, may_have_been_applied: bool = False, ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.may_have_been_applied = may_have_been_applied
        self.ids = tuple(ids)


class MirrorConflict(MirrorError):
    """Postgres and Redis hold different generations of the queue, or another program follows it. Nothing was written.

    Rebuild the queue from Postgres, or accept what Redis holds with `mirror.adopt(queue)`.
    """


class MirrorSchema(MirrorError):
    """The mirror's tables are missing or of another version, or this user lacks a right to them."""


class NotMirrored(MirrorError):
    """Postgres knows no queue of this name: nobody has followed it into this database yet."""


class TimeLimit(ReliqError):
    """A handler ran longer than its worker's `time_limit`. Raised inside the handler; the attempt has failed."""


class Unavailable(ReliqError):
    """The server did not answer within the deadline.

    `may_have_been_applied` is true where a request was sent whose reply is missing. Repeating the call with the same
    ids (`ids`) is safe, whatever happened.
    """

    def __init__(
        self,
        message: str,
        *,
        may_have_been_applied: bool,
        attempts: int,
        seconds: float,
        ids: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.may_have_been_applied = may_have_been_applied
        self.attempts = attempts
        self.seconds = seconds
        self.ids = tuple(ids)


class DurabilityNotReached(ReliqError):
    """A write was applied, and not confirmed as far as was asked for: by as many replicas, or by the disk.

    It is there and may survive; a failover at this moment could lose it. Repeating the call with the same ids (`ids`)
    is safe, and asks for the confirmation again.
    """

    def __init__(self, queue: str, ids: Sequence[str], *, wanted: str, achieved: str, why: str = "") -> None:
        super().__init__(
            f"queue {queue!r}: {_some(ids) or 'the call'} applied with durability {achieved}, not {wanted}; "
            f"repeating it is safe{f' ({why})' if why else ''}"
        )
        self.queue = queue
        self.ids = tuple(ids)
        self.wanted = wanted
        self.achieved = achieved


class WaitTimeout(ReliqError, TimeoutError):
    """The item that was waited for had not come to an end when the time was up."""

    def __init__(self, queue: str, item_id: str, seconds: float) -> None:
        super().__init__(f"queue {queue!r}: item {item_id!r} has not come to an end within {seconds:g} s")
        self.queue = queue
        self.id = item_id
        self.seconds = seconds


class DrainTimeout(ReliqError):
    """A drained queue still had items when the time was up. It stays closed for new items."""

    def __init__(self, queue: str, left: Mapping[str, int]) -> None:
        super().__init__(f"queue {queue!r} still holds {dict(left)}")
        self.queue = queue
        self.left = dict(left)


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:3])
    return shown if len(ids) <= 3 else f"{shown} and {len(ids) - 3} more"
