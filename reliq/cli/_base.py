"""The classes of commands: every command takes the shared options, before and after its name."""

from __future__ import annotations

from typing import Any

import click

from reliq.cli._options import F, Options


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Notes a shared option that was given. Called for each of them, also where it was not."""
    if value in (None, 0, False):
        return
    options = ctx.ensure_object(Options)
    setattr(options, str(param.name), value)
    options.start_logging()


def _shared(*, environment: bool) -> list[click.Option]:
    """The options that every command has. The environment is read at the top, so that any option wins over it."""
    common: dict[str, Any] = {"expose_value": False, "callback": _keep}
    return [
        click.Option(
            ["-u", "--url"],
            metavar="URL",
            envvar="RELIQ_URL" if environment else None,
            show_envvar=True,
            help="Server: redis://, rediss://, unix://, redis+sentinel:// or embedded:///directory.",
            **common,
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["table", "json", "jsonl"]),
            help="How data is printed: table by default.",
            **common,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="No messages but errors.", **common),
        click.Option(["-v", "--verbose"], count=True, help="More messages; -vv for all, tracebacks too.", **common),
    ]


def shared_options(function: F) -> F:
    """Gives the top command the shared options."""
    own = getattr(function, "__click_params__", [])  # where click keeps them, last one first
    function.__click_params__ = [*own, *reversed(_shared(environment=True))]  # type: ignore[attr-defined]
    return function


class Command(click.Command):
    """A command with the shared options after its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared(environment=False)


class Group(click.Group):
    """A group whose commands are such ones."""

    command_class = Command
