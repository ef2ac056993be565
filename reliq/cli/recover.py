"""`reliq recover`: brings a queue back that Redis has lost, and compares one that is live with its mirror."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop, confirm
from reliq.cli._options import F, Options, dry_run_option, duration_option, yes_option
from reliq.errors import InvalidURL

if TYPE_CHECKING:
    from reliq.mirror import Mirror
    from reliq.mirror.rebuild import RebuildPlan, RebuildProgress, Verification
    from reliq.queue import Queue

DSN = "DSN of the mirror's Postgres; or RELIQ_MIRROR."
mirror_option = click.option("--mirror", "dsn", envvar="RELIQ_MIRROR", metavar="DSN", help=DSN)
anew_option = click.option("--anew", is_flag=True, help="Begin again, instead of going on with what was broken off.")


@click.group(cls=Group)
def recover() -> None:
    """Bring a queue back that Redis has lost, from its mirror in Postgres."""


def _command(name: str) -> Callable[[F], Any]:
    """A command with the arguments that all of these have."""

    def make(function: F) -> Any:
        passed = click.pass_obj(function)
        return recover.command(name)(click.argument("name", metavar="QUEUE")(mirror_option(passed)))

    return make


@contextmanager
def _both(options: Options, dsn: str | None, name: str) -> Iterator[tuple[Mirror, Queue]]:
    from reliq.mirror import Mirror

    if not dsn:
        raise InvalidURL("no mirror: pass --mirror postgresql://host/database, or set RELIQ_MIRROR")
    with ExitStack() as stack:
        patience = 30.0 if options.timeout is None else options.timeout
        yield stack.enter_context(Mirror(dsn, timeout=patience)), stack.enter_context(options.queue(name))


@_command("plan")
@anew_option
def plan(options: Options, dsn: str | None, name: str, *, anew: bool) -> None:
    """Show what a rebuild would bring back, and what speaks against it. Changes nothing."""
    with _both(options, dsn, name) as (mirror, queue):
        _show(options, mirror.plan_rebuild(queue, anew=anew))


@_command("apply")
@click.option(
    "--in-progress",
    type=click.Choice(["requeue", "hold"]),
    default="requeue",
    show_default=True,
    help="What becomes of items that somebody held: queued at their place, or orphaned for people who look first.",
)
@click.option("--rate", type=click.FloatRange(min=1), metavar="N", help="Items a second at most.")
@duration_option("--wait", default=0.0, help="Wait for so long while another rebuild of the queue runs.")
@click.option("--wipe", is_flag=True, help="Remove what Redis has of the queue.")
@click.option("--keep-closed", is_flag=True, help="Do not compare and open it: `verify` does that later.")
@anew_option
@dry_run_option
@yes_option
def apply(
    options: Options,
    dsn: str | None,
    name: str,
    *,
    in_progress: str,
    rate: float | None,
    wait: float,
    wipe: bool,
    keep_closed: bool,
    anew: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Fill Redis with a queue from Postgres, compare both, and open the queue. Killed, it goes on when run again."""
    with _both(options, dsn, name) as (mirror, queue):
        found = mirror.plan_rebuild(queue, anew=anew)
        if dry_run:
            return _show(options, found)
        _agree(options, found, wipe=wipe, yes=yes)
        with _progress(options) as told:
            done = mirror.apply(found, rate=rate, on_progress=told, in_progress=in_progress, wipe=wipe, wait=wait)
        options.note(f"{done.done} items and ended ids in {done.seconds:.1f} s ({done.rate:.0f}/s)")
        if keep_closed:
            options.note(f"queue {name!r} is closed until `reliq recover verify {name}`")
            return None
        return _verdict(options, mirror.verify(queue))


@_command("verify")
def verify(options: Options, dsn: str | None, name: str) -> None:
    """Compare a rebuilt queue with Postgres, item by item, and open it where they agree.

    A queue that is open is only compared. Exit code 7 where something differs.
    """
    with _both(options, dsn, name) as (mirror, queue):
        _verdict(options, mirror.verify(queue))


@_command("status")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="The last N.")
def status(options: Options, dsn: str | None, name: str, *, limit: int) -> None:
    """List the rebuilds and repairs of a queue, the last one first: who, when, how far."""
    with _both(options, dsn, name) as (mirror, _):
        columns = ("started", "kind", "state", "done", "total", "epoch", "by")
        found = mirror.recoveries(name, limit=limit)
        rows = ({column: done[column] for column in columns} if options.output == "table" else done for done in found)
        if not options.out().rows(columns, rows):
            raise Stop(Exit.NOTHING_FOUND, f"queue {name!r} was never rebuilt or repaired")


@_command("reconcile")
@click.option("--repair", is_flag=True, help="Put back what Redis has lost, end what had ended, write missing rows.")
@duration_option("--patience", default=30.0, help="Wait for so long until the follower has caught up.")
@yes_option
def reconcile(options: Options, dsn: str | None, name: str, *, repair: bool, patience: float, yes: bool) -> None:
    """Compare a live queue with its mirror, both ways, and name what differs.

    Exit code 7 where something differs and was not put right.
    """
    with _both(options, dsn, name) as (mirror, queue):
        if repair:
            confirm(f"Put back what queue {name!r} has lost, as far as that is safe?", yes=yes)
        report = mirror.reconcile(queue, repair=repair, patience=patience)
        rows = ({"id": d.id or "-", "kind": d.kind, "repaired": d.repaired, "what": d.text} for d in report.differences)
        options.out().rows(("id", "kind", "repaired", "what"), rows)
        sure = "" if report.certain else "; the follower was behind, so some may be no differences"
        options.note(f"{report.looked_at} compared, {report.found} differ, {report.repaired} repaired{sure}")
        if not report.ok:
            raise Stop(Exit.MISMATCH)


def _show(options: Options, found: RebuildPlan) -> None:
    told = found.as_dict()
    if options.output == "table":
        told |= {"counts": ", ".join(f"{count} {state}" for state, count in found.counts.items() if count) or "none"}
        told.pop("hazards")
        _warn(options, found)
    options.out().record(told)


def _warn(options: Options, found: RebuildPlan) -> None:
    for hazard in found.hazards:
        options.note(f"{'STOP ' if hazard.blocks else ''}{hazard.kind}: {hazard.text}")


def _agree(options: Options, found: RebuildPlan, *, wipe: bool, yes: bool) -> None:
    _warn(options, found)
    if found.blocked and not wipe:
        raise Stop(Exit.REFUSED, "Redis is not empty; nothing was done. Pass --wipe to remove what it has")
    what = "Go on with the rebuild of" if found.resumes else "Rebuild"
    epochs = f"epoch {found.epoch_before} becomes {found.epoch_after}"
    removed = " What Redis has of it is removed." if found.blocked else ""
    confirm(f"{what} queue {found.queue!r} with {found.items} items ({epochs})?{removed}", yes=yes)


def _verdict(options: Options, found: Verification) -> None:
    rows = (
        {"state": c.state, "postgres": c.mirrored, "redis": c.found, "same": c.same, "digest": c.found_digest}
        for c in found.checks
    )
    options.out().rows(("state", "postgres", "redis", "same", "digest"), rows)
    for text in found.differences:
        click.echo(text, err=True)
    if not found.ok:
        closed = (
            "" if not found.checks else "; the queue stays closed. `reliq recover apply` goes through all of it again"
        )
        raise Stop(Exit.MISMATCH, f"Postgres and Redis differ{closed}")
    options.note(f"queue {found.queue!r} is open" if found.opened else f"queue {found.queue!r} agrees with its mirror")


@contextmanager
def _progress(options: Options) -> Iterator[Callable[[RebuildProgress], object] | None]:
    """A bar with the time that is left, on a terminal; nothing elsewhere."""
    if options.quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda at: options.note(f"{at.done} of {at.total}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bar = shown.add_task("items")
        yield lambda at: shown.update(bar, completed=at.done, total=at.total, description=at.phase)
