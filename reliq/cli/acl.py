"""`reliq acl`: rights for Redis users."""

from __future__ import annotations

import hashlib
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import F, Options

if TYPE_CHECKING:
    from reliq._admin import Link

FORMS = ("file", "command")


@click.group(cls=Group)
def acl() -> None:
    """Print the rights that a role needs, as lines for an ACL file."""


def _shape(function: F) -> F:
    """The options that all roles share."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option("--queue", metavar="NAME", help="For this queue only; all queues without it."),
    click.option("--user", metavar="NAME", help="The user's name; the role's by default."),
    click.option("--also", multiple=True, metavar="ROLE", help="One more role for the same user; several times."),
    click.option("--as", "form", type=click.Choice(FORMS), default="file", help="A line of a file, or a command."),
    click.option("--any-script", is_flag=True, help="Not only the scripts of this version, and no loading of scripts."),
    click.option(
        "--no-load", is_flag=True, help="No loading of scripts: an administrator does it with `reliq acl load`."
    ),
    click.option("--no-info", is_flag=True, help="No right to INFO."),
    click.option("--waitaof", is_flag=True, help="May wait for the disk; not for Redis 7.0."),
    click.option(
        "--password-stdin", is_flag=True, help="Read a password from stdin, and print its digest in the line."
    ),
)


def _role(name: str, text: str) -> None:
    @acl.command(name, help=text)
    @_shape
    @click.pass_obj
    def command(
        options: Options,
        queue: str | None,
        user: str | None,
        also: tuple[str, ...],
        form: str,
        *,
        any_script: bool,
        no_load: bool,
        no_info: bool,
        waitaof: bool,
        password_stdin: bool,
    ) -> None:
        from reliq import rights

        settings: dict[str, Any] = {"queue": queue, "pinned": not any_script, "load": not no_load}
        settings |= {"info": not no_info, "waitaof": waitaof}
        line = rights.line(user or name, [name, *also], **settings)
        if password_stdin:
            line += " #" + hashlib.sha256(_password().encode()).hexdigest()
        else:
            options.note("no password yet: with --password-stdin, or ACL SETUSER NAME '>...'")
        click.echo(_formed(line, form))


def _password() -> str:
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise Stop(Exit.USAGE, "there is no password on stdin")
    return password


def _formed(line: str, form: str) -> str:
    """The line, or the command that says the same, for a shell."""
    if form == "file":
        return line
    _, *words = line.split(" ")
    return "redis-cli ACL SETUSER " + " ".join(map(shlex.quote, words))


_role("producer", "Rights of those who enqueue items and batches.")
_role("waiter", "Rights of those who wait for the end of items that they enqueued.")
_role("worker", "Rights of workers: claim, renew, finish, fail, release, recover.")
_role("operator", "Rights of those who look after queues: everything but enqueueing and working.")
_role("monitor", "Rights of those who only look.")
_role("mirror", "Rights of the mirror's follower, and of rebuilding.")


@acl.command()
@click.pass_obj
def load(options: Options) -> None:
    """Load all scripts of this version, as an administrator, for users who may not.

    Onto the server, or onto the master and all replicas that Sentinels know, because one that becomes the master needs
    them too. Servers forget scripts when they restart.
    """
    from contextlib import ExitStack

    from reliq import _admin, _scripts

    with ExitStack() as stack:
        links = [stack.enter_context(link) for link in _servers(options)]
        try:
            for link in links:
                for verb in _scripts.names():
                    link.call("SCRIPT", "LOAD", _scripts.load(verb).source)
        except _admin.Unreachable as error:
            raise Stop(Exit.UNREACHABLE, str(error)) from error
        except _admin.Refused as error:
            raise Stop(Exit.REFUSED, str(error)) from error
        options.note(f"{len(_scripts.names())} scripts on {', '.join(link.name for link in links)}")


def _servers(options: Options) -> list[Link]:
    from reliq import _admin, failover
    from reliq.connect import sentinel_of

    sentinel = sentinel_of(options.server())
    if sentinel is None:
        return [_admin.to_server(options.server())]
    ready = failover.readiness(sentinel)
    if ready.master is None:
        raise Stop(Exit.UNREACHABLE, "; ".join(ready.reasons))
    return [_admin.to_server(sentinel, address) for address in (ready.master, *ready.replicas)]
