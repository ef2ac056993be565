"""Requests packed, and what redis-py raises turned into words: the same for both drivers. No I/O."""

from __future__ import annotations

from typing import Any

import hiredis
from redis import exceptions as theirs

from reliq import _ids
from reliq._durability import MEMORY
from reliq._policy import Applied, Retry, ScriptMissing, verdict
from reliq._session import Command, Session, Wire
from reliq.connect import endpoint, mask
from reliq.errors import AccessDenied, DurabilityNotReached

# redis-py cuts the first word off the errors that it has a class for. Put it back, so that one table reads them all.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (theirs.NoScriptError, "NOSCRIPT"),
    (theirs.ReadOnlyError, "READONLY"),
    (theirs.BusyLoadingError, "LOADING"),
    (theirs.MasterDownError, "MASTERDOWN"),
    (theirs.OutOfMemoryError, "OOM"),
    (theirs.NoPermissionError, "NOPERM"),
    (theirs.TryAgainError, "TRYAGAIN"),
    (theirs.ClusterDownError, "CLUSTERDOWN"),
    (theirs.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (theirs.AuthenticationError, "NOAUTH"),
    (theirs.AuthorizationError, "NOAUTH"),
)


def pack(parts: Wire) -> bytes:
    """A command in the server's protocol. hiredis does it in C, in a tenth of the time of redis-py's packer."""
    packed: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]  # its stub wants a tuple of one
    return packed


def error_reply(error: Exception) -> str:
    """An error reply as the server sent it, with its first word."""
    for kind, word in _WORDS:
        if isinstance(error, kind):
            return str(error) if str(error).startswith(word) else f"{word} {error}"
    return str(error)


def is_reply(error: Exception) -> bool:
    """Whether the server answered, and the answer is an error. The connection can go on."""
    replies = (theirs.ResponseError, theirs.BusyLoadingError, theirs.AuthenticationError, theirs.AuthorizationError)
    return isinstance(error, replies)


def ends_connection(error: Exception) -> bool:
    """Whether a connection is of no use after an error reply: redis-py has closed it, or it goes to no master."""
    closed = isinstance(error, theirs.ConnectionError)  # LOADING, NOAUTH
    return closed or error_reply(error).startswith(("READONLY", "MASTERDOWN", "UNBLOCKED"))


def from_reply(error: Exception, command: Command[Any], session: Session, connection: object) -> Exception:
    """The exception for an error reply to a command."""
    return verdict(
        error_reply(error),
        queue=session.queue,
        script=command.script,
        epoch=session.epoch,
        endpoint=endpoint(connection),
    )


def refusal(error: Exception, command: Command[Any], session: Session, connection: object) -> Exception:
    """As `from_reply`, where the script was just loaded: a server that lacks it still is one that may have it soon."""
    found = from_reply(error, command, session, connection)
    return Retry("the server forgot the script again", Applied.NO) if isinstance(found, ScriptMissing) else found


def not_reached(command: Command[Any], session: Session, achieved: str, why: str = "") -> DurabilityNotReached:
    """The exception for a write that is less safe than was asked for."""
    ids = [_ids.unpack(key) for key in command.keys]
    return DurabilityNotReached(session.queue, ids, wanted=command.durability.text, achieved=achieved, why=why)


def unconfirmed(error: Exception, command: Command[Any], session: Session, connection: object) -> Exception:
    """The exception for an error reply to the question for a confirmation. The write before it was applied."""
    text, where = error_reply(error), endpoint(connection)
    if ends_connection(error) or "replica instances" in text:  # it is no master any more, and may drop what it took
        return Retry(f"{where}: {text}", Applied.MAYBE)
    if "unknown command" in text:
        text = "it is too old for this level, which begins with Redis 7.2 and Valkey 7.2"
    return not_reached(command, session, MEMORY.text, f"{where}: {text}")


def from_connect(error: Exception, connection: object) -> Exception:
    """The exception for a connection that could not be made. Nothing was sent."""
    where = endpoint(connection)
    if isinstance(error, theirs.AuthenticationError | theirs.AuthorizationError | theirs.NoPermissionError):
        return AccessDenied(f"{where} refuses the credentials: {mask(str(error))}")
    if isinstance(error, theirs.ResponseError) and not isinstance(error, theirs.MasterDownError):
        word = str(error).partition(" ")[0]
        if word in ("NOAUTH", "WRONGPASS", "NOPERM"):
            return AccessDenied(f"{where} refuses the credentials: {mask(str(error))}")
    return Retry(f"{where}: {error}", Applied.NO)


def from_loss(error: Exception, connection: object) -> Retry:
    """The exception for a connection that broke, or fell silent, after something was sent."""
    return Retry(f"{endpoint(connection)}: {error}", Applied.MAYBE)
