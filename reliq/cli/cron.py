"""`reliq cron`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop, confirm, say
from reliq.cli._options import Options, yes_option
from reliq.cli._output import Shown, instant
from reliq.cli._queues import counts_of
from reliq.info import Cron

if TYPE_CHECKING:
    from reliq.queue import Queue

COLUMNS = ("name", "expression", "time_zone", "next", "last", "missed", "group", "paused", "payload", "problem")


@click.group(cls=Group)
def cron() -> None:
    """List, set, pause and remove recurring items."""


@cron.command("ls")
@click.argument("name", metavar="QUEUE")
@click.pass_obj
def ls(options: Options, name: str) -> None:
    """List the recurring items of a queue, those whose tick comes first ahead."""
    with closing(options.queue(name)) as target:
        counts_of(target)
        found = options.out().rows(COLUMNS, (_row(entry) for entry in target.crons()))
    if not found:
        raise Stop(Exit.NOTHING_FOUND, f"queue {name!r} has no recurring items")


def _row(entry: Cron) -> dict[str, Any]:
    return {
        "name": entry.name,
        "expression": entry.expression,
        "time_zone": entry.time_zone,
        "next": instant(entry.next_at),
        "last": instant(entry.last_at),
        "missed": entry.missed,
        "group": entry.group,
        "paused": entry.paused,
        "payload": Shown(entry.payload),
        "problem": Shown(entry.problem, as_json=False),
    }


@cron.command("add")
@click.argument("queue", metavar="QUEUE")
@click.argument("name", metavar="NAME")
@click.argument("expression", metavar="EXPRESSION")
@click.argument("payload", metavar="[PAYLOAD]", default="null")
@click.option("--text", is_flag=True, help="The payload is text as it stands, not JSON.")
@click.option("--time-zone", default="UTC", show_default=True, metavar="ZONE", help="In which the expression counts.")
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="Travels beside the payload.")
@click.option("--group", metavar="GROUP", help="Items of one group are handled one at a time.")
@click.option(
    "--missed",
    type=click.Choice(["one", "all", "skip"]),
    default="one",
    show_default=True,
    help="Ticks that nobody saw: an item for the last, for each, for none.",
)
@click.pass_obj
def add(
    options: Options,
    queue: str,
    name: str,
    expression: str,
    payload: str,
    text: bool,
    time_zone: str,
    headers: tuple[str, ...],
    group: str | None,
    missed: str,
) -> None:
    """Have an item enqueued at each tick of a cron EXPRESSION, or change one that has this NAME.

    Quote the expression: '30 4 * * 1-5'. With six fields the first one is seconds.
    """
    from reliq.cli._lines import Reader, argument, pairs
    from reliq.item import New

    with closing(options.queue(queue)) as target:
        new = argument(payload, Reader(target._session, New(None, headers=pairs(headers), group=group), text))
        made = target.set_cron(
            name, expression, new.payload, time_zone=time_zone, headers=new.headers, group=group, missed=missed
        )
        options.out().record(_row(made))
        if made.paused:
            options.note(f"{name} is paused; `reliq cron resume` gives it its ticks back")


@cron.command("rm")
@click.argument("queue", metavar="QUEUE")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@yes_option
@click.pass_obj
def rm(options: Options, queue: str, names: tuple[str, ...], yes: bool) -> None:
    """Remove recurring items. What they have enqueued stays."""
    confirm(f"remove {len(names)} recurring items of queue {queue!r}: {', '.join(names)}?", yes=yes)
    _each(options, queue, names, lambda target, name: target.remove_cron(name), "removed")


@cron.command("pause")
@click.argument("queue", metavar="QUEUE")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def pause(options: Options, queue: str, names: tuple[str, ...]) -> None:
    """Take the ticks of recurring items away until they are resumed."""
    _each(options, queue, names, lambda target, name: target.pause_cron(name), "paused")


@cron.command("resume")
@click.argument("queue", metavar="QUEUE")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def resume(options: Options, queue: str, names: tuple[str, ...]) -> None:
    """Give recurring items their ticks back, from now on."""
    _each(options, queue, names, lambda target, name: target.resume_cron(name), "resumed")


def _each(
    options: Options, queue: str, names: Sequence[str], act: Callable[[Queue, str], bool], done_word: str
) -> None:
    """Acts on each; ends with 3 where the queue has none of them, 6 where it has only some."""
    done = 0
    with closing(options.queue(queue)) as target:
        counts_of(target)
        for name in dict.fromkeys(names):
            if act(target, name):
                done += 1
            else:
                say(f"queue {queue!r} has no recurring item {name!r}")
    options.out().record({done_word: done})
    if done < len(set(names)):
        raise Stop(Exit.PARTLY_DONE if done else Exit.NOTHING_FOUND)
