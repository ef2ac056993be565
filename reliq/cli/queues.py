"""`reliq queue`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop, confirm, partly, say
from reliq.cli._options import Options, dry_run_option, duration_option, parse_duration, yes_option
from reliq.cli._output import Age
from reliq.cli._queues import LIMITS, STATES, age_of, counts_of, is_open, limits_reached
from reliq.states import ItemState

PURGEABLE = [state.value for state in STATES if state is not ItemState.IN_PROGRESS]
COLUMNS = ("queue", *(state.value for state in STATES), "oldest", "open")


@click.group(cls=Group)
def queue() -> None:
    """List, watch, pause, drain, empty and configure queues."""


@queue.command("ls")
@click.pass_obj
def ls(options: Options) -> None:
    """List the queues of the server: items by state, age of the next item, and whether it is open."""
    from reliq.queue import queues

    failed: list[str] = []
    names = queues(options.server(), timeout=30.0 if options.timeout is None else options.timeout)
    found = options.out().rows(COLUMNS, _overview(options, names, failed))
    if failed:
        raise Stop(Exit.PARTLY_DONE, f"{len(failed)} of {len(names)} queues can't be read")
    if not found:
        raise Stop(Exit.NOTHING_FOUND, "the server has no queues")


def _overview(options: Options, names: list[str], failed: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each queue. One that is damaged, or was made by a newer reliq, does not hide the others."""
    from reliq.errors import QueueError

    for name in names:
        with closing(options.queue(name)) as target:
            try:
                counts = target.counts()
                row = {state.value: getattr(counts, state.value) for state in STATES}
                shown = is_open(counts) if target._session.epoch else "lost"
                yield {"queue": name, **row, "oldest": age_of(target), "open": shown}
            except QueueError as error:
                failed.append(name)
                say(str(error))


@queue.command("stats")
@click.argument("name", metavar="QUEUE")
@click.pass_obj
def stats(options: Options, name: str) -> None:
    """Show the counts of a queue, its totals and limits, and the age of the first item of each state."""
    with closing(options.queue(name)) as target:
        counts, settings = counts_of(target), target.settings()
        ages = {f"oldest_{state.value}": age_of(target, state) for state in STATES}
        limits = {limit: getattr(settings, limit) or None for limit in LIMITS}
        reached = ", ".join(limits_reached(counts, settings)) or None
        options.out().record({"queue": name, **asdict(counts), **ages, **limits, "limits_reached": reached})


@queue.command("pause")
@click.argument("name", metavar="QUEUE")
@click.option("--claim", is_flag=True, help="Close it for claims; so it is without options.")
@click.option("--enqueue", is_flag=True, help="Close it for new items.")
@click.pass_obj
def pause(options: Options, name: str, claim: bool, enqueue: bool) -> None:
    """Close a queue for claims, for new items, or both, until it is resumed. Items in progress go on."""
    with closing(options.queue(name)) as target:
        counts_of(target)
        target.pause(claim=claim or not enqueue, enqueue=enqueue)
        options.note(f"queue {name!r}: {is_open(target.counts())}")


@queue.command("resume")
@click.argument("name", metavar="QUEUE")
@click.pass_obj
def resume(options: Options, name: str) -> None:
    """Open a queue for claims and new items."""
    with closing(options.queue(name)) as target:
        counts_of(target)
        target.resume()
        options.note(f"queue {name!r}: open")


@queue.command("drain")
@click.argument("name", metavar="QUEUE")
@duration_option("--timeout", default=60.0, help="Give up waiting after this: 60s by default.")
@click.pass_obj
def drain(options: Options, name: str, timeout: float) -> None:
    """Close a queue for new items and wait until its workers have emptied it.

    It stays closed for new items, also when the time is up (exit code 1); `reliq queue resume` opens it.
    """
    with closing(options.queue(name)) as target:
        counts_of(target)
        options.out().record({"queue": name, **asdict(target.drain(timeout))})


@queue.command("purge")
@click.argument("name", metavar="QUEUE")
@click.option(
    "--state",
    "states",
    type=click.Choice([*PURGEABLE, ItemState.FINISHED.value]),
    multiple=True,
    help="Only items of this state; may be given several times. finished: forget their ids.",
)
@dry_run_option
@yes_option
@click.pass_obj
def purge(options: Options, name: str, states: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove all items of a queue for good, but those in progress, and forget their ids."""
    chosen = dict.fromkeys(states or PURGEABLE)
    with closing(options.queue(name)) as target:
        counts = asdict(counts_of(target))
        found = {state: counts["remembered" if state == ItemState.FINISHED else state] for state in chosen}
        if not any(found.values()):
            raise Stop(Exit.NOTHING_FOUND, f"queue {name!r} has no {' or '.join(chosen)} items")
        if dry_run:
            options.out().record(found)
            return
        parts = ", ".join(f"{count} {state}" for state, count in found.items() if count)
        confirm(f"remove {parts} items of queue {name!r} for good?", yes=yes)
        removed, done = {}, [0]
        with partly(done, "items had been removed"):
            for state in chosen:
                removed[state] = target.purge(state)
                done[0] += removed[state]
        options.out().record(removed)


@queue.command("configure")
@click.argument("name", metavar="QUEUE")
@click.argument("changes", metavar="[SETTING=VALUE]...", nargs=-1)
@click.pass_obj
def configure(options: Options, name: str, changes: tuple[str, ...]) -> None:
    """Change settings of a queue, which is made where there is none, and print all of them.

    Settings are max_length, max_bytes, max_in_progress, rate, rate_burst, group_limit, max_attempts, max_deliveries,
    expiry, retry, backoff_base, backoff_cap, finished_age and finished_count. Times are durations such as 5m, the rate
    is items a second. `SETTING=` puts one back to its default.
    """
    wanted = dict(_setting(change) for change in changes)
    with closing(options.queue(name)) as target:
        if not wanted:
            counts_of(target)
        settings = asdict(target.configure(**wanted) if wanted else target.settings())
        options.out().record({"queue": name, **{key: _aged(key, value) for key, value in settings.items()}})


def _setting(change: str) -> tuple[str, object]:
    """A setting's name and value; None is the default."""
    from reliq._policy import SETTINGS

    name, equals, text = change.partition("=")
    if not equals or name not in SETTINGS:
        raise click.UsageError(f"{change!r} is not SETTING=VALUE with one of {', '.join(SETTINGS)}")
    kind = SETTINGS[name][1]
    try:
        return name, None if not text else text if kind == "word" else _number(kind, text)
    except ValueError as error:
        raise click.UsageError(f"{name}: {error}") from error


def _number(kind: str, text: str) -> float | int:
    return int(text) if kind == "whole" else float(text) if kind == "number" else parse_duration(text)


def _aged(name: str, value: Any) -> Any:
    from reliq._policy import SETTINGS

    return Age(value) if SETTINGS[name][1] == "seconds" else value
