"""`reliq mirror`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import F, Options, duration_option
from reliq.cli._output import Age
from reliq.cli.relay import _stopped_by_signals, relay

if TYPE_CHECKING:
    from reliq.mirror import MirrorStatus
    from reliq.mirror.relay import OutboxStatus

MISMATCH = 7  # the exit code where Redis and Postgres differ
COLUMNS = (
    *("queue", "state", "lag_seconds", "lag_items", "followed_ago", "journal_entries", "journal_max", "rows"),
    *("pending", "epoch", "outbox", "outbox_age", "refused", "relayed"),
)


def dsn_option(function: F) -> F:
    """Where the mirror is."""
    return click.option(
        "--mirror", "dsn", envvar="RELIQ_MIRROR", required=True, help="DSN of the mirror; or RELIQ_MIRROR."
    )(function)


@click.group(cls=Group)
def mirror() -> None:
    """Keep queues in Postgres, and see how far that is."""


mirror.add_command(relay)


@mirror.command("init")
@dsn_option
@click.pass_obj
def init(options: Options, dsn: str) -> None:
    """Make the mirror's tables, or bring them to this version. Where they are there it does nothing."""
    from reliq.mirror import Mirror

    with Mirror(dsn) as target:
        target.init()
        options.note("the mirror's tables are there")


@mirror.command("run")
@click.argument("names", metavar="QUEUE...", nargs=-1, required=True)
@dsn_option
@click.option("--once", is_flag=True, help="End when all that is there now is mirrored.")
@click.option("--journal-max", type=click.IntRange(100, 10**9), help="Entries that a queue's journal may have.")
@duration_option("--settle", default=0.2, help="Let a change wait this long, for items that end soon: 200ms.")
@duration_option("--remember", default=86400.0, help="Keep ids of ended items this long: 1d.")
@click.option("--adopt", is_flag=True, help="Accept the queues as Redis has them, and what it lost as lost.")
@click.option("--no-follow", is_flag=True, help="Only relay the outbox: another process follows the queues.")
@click.option(
    "--no-relay", is_flag=True, help="Only follow the queues: another process relays their outbox, or none is used."
)
@click.pass_obj
def run(
    options: Options,
    /,
    names: tuple[str, ...],
    dsn: str,
    *,
    once: bool,
    adopt: bool,
    no_follow: bool,
    no_relay: bool,
    **pace: Any,
) -> None:
    """Follow queues into Postgres, and relay their outbox from there, until SIGTERM or Ctrl-C.

    Of several followers or relays of a queue one is active. For queues whose payloads go through codecs, relay from a
    program that has them: `Mirror.relay`.
    """
    from reliq.mirror import Mirror

    if no_follow and no_relay:
        raise click.UsageError("--no-follow and --no-relay leave nothing to do")

    with ExitStack() as stack, _stopped_by_signals() as stop:
        target = stack.enter_context(Mirror(dsn, **pace))
        queues = [stack.enter_context(options.queue(name)) for name in dict.fromkeys(names)]
        for queue in queues if adopt else ():
            target.adopt(queue)
        options.note(f"{'relay' if no_follow else 'mirror'} of {', '.join(map(repr, names))}")
        tasks: list[Callable[[], object]] = []
        if not no_relay:
            tasks.append(lambda: target.relay(queues, stop=stop, once=once))
        if not no_follow:
            tasks.append(lambda: target.follow(queues, stop=stop, once=once))
        _run(tasks, stop, once=once)


def _run(tasks: Sequence[Callable[[], object]], stop: threading.Event, *, once: bool) -> None:
    """Beside each other; with `once` one behind the other: what was relayed is mirrored then."""
    from reliq.mirror._running import together

    if not once:
        together(tasks, stop)
        return
    for task in tasks:
        task()


@mirror.command("status")
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@dsn_option
@duration_option("--max-lag", help="End with 1 where a queue or its outbox is further behind, or is not followed.")
@click.pass_obj
def status(options: Options, names: tuple[str, ...], dsn: str, max_lag: float | None) -> None:
    """Show how the mirrored queues stand, and their outboxes, by what Postgres knows."""
    from reliq.mirror import Mirror
    from reliq.mirror.relay import OutboxStatus

    with Mirror(dsn) as target:
        found = target.status(names or None)
        relayed = target.store.rows("relayed", queues=[entry.queue for entry in found])
        outboxes = {name: OutboxStatus(name, 0, 0.0, 0, is_relayed) for name, is_relayed in relayed}
        outboxes |= {outbox.queue: outbox for outbox in target.outbox()}
    options.out().rows(COLUMNS, [_row(entry) | _outbox(outboxes[entry.queue]) for entry in found])
    if missing := sorted({*names} - {entry.queue for entry in found}):
        raise Stop(Exit.NOTHING_FOUND, f"not mirrored: {', '.join(missing)}")
    if not found:
        raise Stop(Exit.NOTHING_FOUND, "no queue is mirrored there")
    late = [entry.queue for entry in found if max_lag is not None and _is_late(entry, outboxes[entry.queue], max_lag)]
    if late:
        raise Stop(Exit.FAILURE, f"behind: {', '.join(late)}")


def _is_late(entry: MirrorStatus, outbox: OutboxStatus, max_lag: float) -> bool:
    return entry.lag_seconds > max_lag or entry.state == "stopped" or outbox.oldest_age > max_lag


def _outbox(found: OutboxStatus) -> dict[str, Any]:
    return {
        "outbox": found.waiting,
        "outbox_age": Age(found.oldest_age),
        "refused": found.refused,
        "relayed": found.relayed,
    }


def _row(entry: MirrorStatus) -> dict[str, Any]:
    return {
        "queue": entry.queue,
        "state": entry.state,
        "lag_seconds": Age(entry.lag_seconds),
        "lag_items": entry.lag_items,
        "followed_ago": None if entry.followed_ago is None else Age(entry.followed_ago),
        "journal_entries": entry.journal_entries,
        "journal_max": entry.journal_max,
        "rows": entry.rows,
        "pending": entry.pending,
        "epoch": entry.epoch,
    }


@mirror.command("verify")
@click.argument("name", metavar="QUEUE")
@dsn_option
@duration_option("--patience", default=30.0, help="Wait this long for the follower to catch up: 30s.")
@click.pass_obj
def verify(options: Options, name: str, dsn: str, patience: float) -> None:
    """Compare a queue with its mirror, item by item, while both are in use. Exit code 7 where they differ."""
    from reliq.mirror import Mirror

    with Mirror(dsn) as target, closing(options.queue(name)) as queue:
        found = target.reconcile(queue, patience=patience)
    rows = [{"kind": entry.kind, "id": entry.id, "difference": entry.text} for entry in found.differences]
    options.out().rows(("kind", "id", "difference"), rows)
    options.note(f"{found.looked_at} items compared in {found.seconds:.1f} s, {found.found} differ")
    if not found.ok:
        raise click.exceptions.Exit(MISMATCH)
