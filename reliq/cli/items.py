"""`reliq item`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop, say
from reliq.cli._options import F, Options, dry_run_option, duration_option, yes_option
from reliq.cli._queues import counts_of, server_time
from reliq.cli._selection import COLUMNS, Ids, act, agree, chosen, details, listed, preview
from reliq.info import ItemInfo
from reliq.outcomes import Moved
from reliq.states import ItemState, sources

if TYPE_CHECKING:
    from reliq.queue import Queue

Verb = Callable[["Queue", Sequence[str]], Moved]
older_option = duration_option("--older-than", help="Only items that have been in the state for longer than this.")


@click.group(cls=Group)
def item() -> None:
    """Look at items, and decide on those that are stuck."""


@item.command("ls")
@click.argument("name", metavar="QUEUE")
@click.option(
    "--state", type=click.Choice([s.value for s in ItemState]), default="queued", show_default=True, help="Their state."
)
@older_option
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="Items at most.")
@click.pass_obj
def ls(options: Options, name: str, state: str, older_than: float | None, limit: int) -> None:
    """List the items of one state, oldest first; with -o json or jsonl all that is known of each."""
    with closing(options.queue(name)) as target:
        counts_of(target)
        now = server_time(target)
        infos = chosen(target, state, older_than=older_than, limit=limit, now=now)
        found = options.out().rows(COLUMNS, (listed(options, info, now) for info in infos))
    if not found:
        raise Stop(Exit.NOTHING_FOUND, f"queue {name!r} has no such items in state {state}")
    if found == limit:
        options.note(f"the first {limit}; --limit shows more")


@item.command("show")
@click.argument("name", metavar="QUEUE")
@click.argument("item_id", metavar="ID")
@click.pass_obj
def show(options: Options, name: str, item_id: str) -> None:
    """Show everything that the queue knows about an item."""
    with closing(options.queue(name)) as target:
        options.out().record(details(target.get(item_id)))


@item.command("wait")
@click.argument("name", metavar="QUEUE")
@click.argument("item_id", metavar="ID")
@duration_option("--timeout", default=60.0, help="Give up after this: 60s by default.")
@click.pass_obj
def wait(options: Options, name: str, item_id: str, timeout: float) -> None:
    """Wait until an item has come to an end, and show it: 0 finished, 1 dead, removed, or not at an end in time."""
    with closing(options.queue(name)) as target:
        info = target.wait(item_id, timeout)
        options.out().record(details(info))
    if info.state is not ItemState.FINISHED:
        raise Stop(Exit.FAILURE, f"item {item_id} is {info.state}")


def _filters(verb: str) -> Callable[[F], F]:
    """The arguments of verbs that take ids, or the items of a state."""
    states = sorted(state.value for state in sources(verb))

    def add(function: F) -> F:
        for option in (
            yes_option,
            dry_run_option,
            click.option("--limit", type=click.IntRange(1), metavar="N", help="The N oldest of them at most."),
            older_option,
            click.option("--state", type=click.Choice(states), help="The items of this state, instead of IDs."),
            click.argument("ids", metavar="[ID]...", nargs=-1),
            click.argument("name", metavar="QUEUE"),
        ):
            function = option(function)
        passed: Any = click.pass_obj(function)
        return passed  # type: ignore[no-any-return]  # what it passes is no argument any more

    return add


@item.command("requeue")
@_filters("requeue")
def requeue(
    options: Options,
    name: str,
    ids: tuple[str, ...],
    state: str | None,
    older_than: float | None,
    limit: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Put scheduled, orphaned or dead items at the tail of the queue. Dead ones start their attempts afresh."""
    choice = _Choice(options, name, ids, state, older_than, limit, dry_run)
    choice.run("requeue", "requeued", lambda queue, batch: queue.requeue(*batch), yes=yes or bool(ids))


@item.command("finish")
@_filters("resolve")
def finish(
    options: Options,
    name: str,
    ids: tuple[str, ...],
    state: str | None,
    older_than: float | None,
    limit: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Finish orphaned or dead items, because somebody has seen that their work was done."""
    choice = _Choice(options, name, ids, state, older_than, limit, dry_run)
    choice.run("finish", "finished", lambda queue, batch: queue.resolve(batch, "finish"), yes=yes, verb="resolve")


@item.command("discard")
@_filters("discard")
def discard(
    options: Options,
    name: str,
    ids: tuple[str, ...],
    state: str | None,
    older_than: float | None,
    limit: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove orphaned or dead items for good."""
    choice = _Choice(options, name, ids, state, older_than, limit, dry_run)
    choice.run("discard", "discarded", lambda queue, batch: queue.discard(*batch), yes=yes)


@item.command("cancel")
@click.argument("name", metavar="QUEUE")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@dry_run_option
@yes_option
@click.pass_obj
def cancel(options: Options, name: str, ids: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove queued or scheduled items that nobody has started."""
    choice = _Choice(options, name, ids, None, None, None, dry_run)
    choice.run("cancel", "cancelled", lambda queue, batch: queue.cancel(*batch), yes=yes)


@item.command("redrive")
@click.argument("name", metavar="QUEUE")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The N that died first; all by default.")
@dry_run_option
@yes_option
@click.pass_obj
def redrive(options: Options, name: str, limit: int | None, dry_run: bool, yes: bool) -> None:
    """Put dead items back at the tail of the queue, those first that died first, with their attempts afresh."""
    with closing(options.queue(name)) as target:
        dead = counts_of(target).dead
        count = min(dead, limit or dead)
        if not count:
            raise Stop(Exit.NOTHING_FOUND, f"queue {name!r} has no dead items")
        if dry_run:
            preview(options, target, chosen(target, "dead", older_than=None, limit=count, now=0), "redrive")
            return
        agree(options, f"redrive {count} of {dead} dead items of queue {name!r}", yes=yes)
        options.out().record({"redriven": target.redrive(count)})


class _Choice:
    """The items that were asked for, by id or by a filter, and what is done with them."""

    def __init__(
        self,
        options: Options,
        name: str,
        ids: Sequence[str],
        state: str | None,
        older_than: float | None,
        limit: int | None,
        dry_run: bool,
    ) -> None:
        if bool(ids) == bool(state):
            raise click.UsageError("pass ids, or --state (with --older-than, --limit)")
        if ids and (older_than is not None or limit):
            raise click.UsageError("--older-than and --limit go with --state")
        self.options, self.name, self.dry_run = options, name, dry_run
        self.ids, self.state, self.older_than, self.limit = dict.fromkeys(ids), state, older_than, limit

    def run(self, what: str, done_word: str, act_on: Verb, *, yes: bool, verb: str = "") -> None:
        """Finds the items, shows or asks, and acts."""
        with closing(self.options.queue(self.name)) as queue, closing(Ids()) as ids:
            counts_of(queue)
            if self.dry_run:
                preview(self.options, queue, self._infos(queue, sources(verb or what)), what)
                return
            self._find(queue, ids)
            state = f" {self.state}" if self.state else ""
            agree(self.options, f"{what} {ids.count}{state} items of queue {self.name!r}", yes=yes)
            act(self.options, ids, lambda batch: act_on(queue, batch), done_word)

    def _find(self, queue: Queue, ids: Ids) -> None:
        for item_id in self.ids:
            ids.add(item_id)
        if self.state:
            for info in self._selected(queue):
                ids.add(info.id)
        if not ids.count:
            raise Stop(Exit.NOTHING_FOUND, f"queue {self.name!r} has no such items in state {self.state}")

    def _selected(self, queue: Queue) -> Iterator[ItemInfo]:
        now = server_time(queue)
        return chosen(queue, str(self.state), older_than=self.older_than, limit=self.limit, now=now)

    def _infos(self, queue: Queue, good: frozenset[ItemState]) -> Iterator[ItemInfo]:
        """What the verb would act on. Says which ids it would skip."""
        from reliq.errors import ItemNotFound

        if self.state:
            yield from self._selected(queue)
        for item_id in self.ids:
            try:
                info = queue.get(item_id)
            except ItemNotFound:
                say(f"would skip {item_id}: unknown")
                continue
            if info.state in good:
                yield info
            else:
                say(f"would skip {item_id}: {info.state}")
