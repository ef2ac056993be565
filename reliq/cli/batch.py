"""`reliq batch`."""

from __future__ import annotations

from contextlib import closing

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import Options
from reliq.cli._output import Bar


@click.group(cls=Group)
def batch() -> None:
    """See how far batches are."""


@batch.command("show")
@click.argument("name", metavar="QUEUE")
@click.argument("batch_id", metavar="ID")
@click.pass_obj
def show(options: Options, name: str, batch_id: str) -> None:
    """Show how many items of a batch are awaited. 3 where it is through, or was never begun."""
    with closing(options.queue(name)) as target:
        progress = target.batch_progress(batch_id)
    if progress is None:
        raise Stop(Exit.NOTHING_FOUND, f"batch {batch_id!r} of queue {name!r} is through, or was never begun")
    done = progress.total - progress.awaited
    options.out().record(
        {"batch": batch_id, "total": progress.total, "awaited": progress.awaited, "done": Bar(done, progress.total)}
    )
