"""How a command ends: the exit codes, and the one place that turns exceptions into them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import click

from reliq import errors
from reliq.cli._options import Options


class Exit(IntEnum):
    """What the exit code of every command but `check` means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOTHING_FOUND = 3
    UNREACHABLE = 4
    REFUSED = 5
    PARTLY_DONE = 6
    MISMATCH = 7


class Stop(Exception):
    """Ends the command with an exit code; the message, where there is one, goes to stderr."""

    def __init__(self, code: Exit, message: str = "") -> None:
        super().__init__(message)
        self.code = code


# The first that fits counts.
_CODES: tuple[tuple[type[errors.ReliqError], Exit], ...] = (
    (errors.InvalidArgument, Exit.USAGE),
    (errors.ItemNotFound, Exit.NOTHING_FOUND),
    (errors.NotMirrored, Exit.NOTHING_FOUND),
    (errors.MirrorUnavailable, Exit.UNREACHABLE),
    (errors.MirrorError, Exit.REFUSED),
    (errors.Unavailable, Exit.UNREACHABLE),
    (errors.QueueError, Exit.REFUSED),
    (errors.AccessDenied, Exit.REFUSED),
    (errors.MemoryFull, Exit.REFUSED),
    (errors.ServerTooOld, Exit.REFUSED),
    (errors.UnsafeServer, Exit.REFUSED),
)


def code_of(error: errors.ReliqError) -> Exit:
    """The exit code for an exception of reliq's."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILURE)


def say(message: str) -> None:
    """A message on stderr, as one line."""
    click.echo("reliq: " + " ".join(message.split()), err=True)


@contextmanager
def exit_codes(ctx: click.Context) -> Iterator[None]:
    """Ends the program as `Stop` or an exception of reliq's says; others are bugs and keep their traceback."""
    try:
        yield
    except Stop as stop:
        if str(stop):
            say(str(stop))
        raise click.exceptions.Exit(stop.code) from stop
    except errors.ReliqError as error:
        if ctx.ensure_object(Options).verbose:
            click.echo(traceback.format_exc(), err=True, nl=False)
        say(str(error))
        raise click.exceptions.Exit(code_of(error)) from error
    except KeyboardInterrupt as stopped:
        raise click.exceptions.Exit(130) from stopped


@contextmanager
def partly(done: list[int], what: str) -> Iterator[None]:
    """Ends with 6 where an error comes after a part has been done. `done[0]` counts that part."""
    try:
        yield
    except errors.ReliqError as error:
        if not done[0]:
            raise
        raise Stop(Exit.PARTLY_DONE, f"{error}. Before that, {done[0]} {what}") from error


def confirm(question: str, *, yes: bool) -> None:
    """Asks on stderr, and ends with 5 unless the answer is yes. End of input is no."""
    if yes:
        return
    click.echo(f"{question} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        click.echo(err=True)
    if answer.strip().lower() not in ("y", "yes"):
        raise Stop(Exit.REFUSED, "nothing was done; answer y, or pass --yes in scripts")
