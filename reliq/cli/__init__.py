"""The command `reliq`. Each group of commands has a module, which is imported when it is called for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from reliq import __version__
from reliq.cli._base import Group, shared_options
from reliq.cli._exit import exit_codes
from reliq.cli._options import Options, duration_option

# Name: where it is, and what it does in a line. The lines are here so that `reliq --help` imports none of them.
COMMANDS = {
    "enqueue": ("reliq.cli.enqueue:enqueue", "Add items to a queue."),
    "worker": ("reliq.cli.worker:worker", "Run a function for each item of a queue; see who works."),
    "queue": ("reliq.cli.queues:queue", "List, watch, pause, drain, empty and configure queues."),
    "item": ("reliq.cli.items:item", "Look at items, and decide on those that are stuck."),
    "batch": ("reliq.cli.batch:batch", "See how far batches are."),
    "cron": ("reliq.cli.cron:cron", "List, set, pause and remove recurring items."),
    "top": ("reliq.cli.top:top", "Watch queues on a live screen."),
    "check": ("reliq.cli.check:check", "Check a queue for Nagios and its kin."),
    "mirror": ("reliq.cli.mirror:mirror", "Keep queues in Postgres, and see how far that is."),
    "sentinel": ("reliq.cli.sentinel:sentinel", "Look at Sentinels, and fail over as planned."),
    "doctor": ("reliq.cli.doctor:doctor", "Look for what could cost items one day."),
    "acl": ("reliq.cli.acl:acl", "Print the rights that a role needs."),
    "recover": ("reliq.cli.recover:recover", "Bring a queue back that Redis has lost, from its mirror."),
    "server": ("reliq.cli.server:server", "Run a server of one's own in the foreground."),
    "demo": ("reliq.demo.command:demo", "See reliq at work, with a server of its own."),
}


class Root(Group):
    """The top of the commands: finds them by name, and turns what they raise into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        """Imports a command; None where there is no such one."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  as above
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        with exit_codes(ctx):
            return super().invoke(ctx)


def load(name: str) -> click.Command:
    """The command with this name. Where its module can't be imported, one that says what to install."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    try:
        command: click.Command = getattr(import_module(module), attribute)
    except ImportError as error:
        if name != "demo":
            raise
        return _not_installed(name, error)
    return command


def _not_installed(name: str, error: ImportError) -> click.Command:
    def refuse() -> None:
        raise click.ClickException(f"{name} can't be loaded ({error}): pip install 'reliq-queue[{name}]'")

    return click.Command(
        name, callback=refuse, help=COMMANDS[name][1], add_help_option=False, context_settings=_ANYTHING
    )


_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@shared_options
@duration_option("--timeout", help="Give up when the server has not answered for this long: 30s by default.")
@click.version_option(__version__, prog_name="reliq")
@click.pass_context
def main(ctx: click.Context, timeout: float | None) -> None:
    """Reliable FIFO queues in Redis or Valkey.

    Data goes to stdout, messages to stderr. Exit codes: 0 ok, 1 failure, 2 usage, 3 nothing found, 4 server
    unreachable, 5 refused, 6 partly done, 7 two sides differ.
    """
    options = ctx.ensure_object(Options)
    options.timeout = timeout
    options.start_logging()
