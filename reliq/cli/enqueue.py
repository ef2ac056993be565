"""`reliq enqueue`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import click

from reliq.cli._base import Command
from reliq.cli._exit import Exit, Stop, partly, say
from reliq.cli._options import Options, duration_option
from reliq.item import New
from reliq.outcomes import Enqueued

if TYPE_CHECKING:
    from reliq.cli._lines import Reader
    from reliq.queue import Queue

BATCH = 1000  # items of one round trip
LONG = 10_000  # lines from which on progress is shown


@click.command(cls=Command)
@click.argument("queue")
@click.argument("payloads", metavar="[PAYLOAD]...", nargs=-1)
@click.option("--text", is_flag=True, help="Payloads are text as it stands, not JSON.")
@click.option("-f", "--file", "source", type=click.File("rb"), help="One payload on each line; - for stdin.")
@click.option("--envelope", is_flag=True, help="Lines are objects: payload, and perhaps id, delay, at, headers, group.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="With a bad line in the file: send nothing, or send the good ones.",
)
@click.option("--id", "item_id", metavar="ID", help="Id of the one payload: enqueueing it again changes nothing.")
@duration_option("--delay", help="The items are due after this time.")
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="Travels beside the payloads.")
@click.option("--group", metavar="GROUP", help="Items of one group are handled one at a time and in their order.")
@duration_option("--wait", default=0.0, help="Wait so long for room where the queue is full; not at all by default.")
@click.pass_obj
def enqueue(
    options: Options,
    queue: str,
    payloads: tuple[str, ...],
    text: bool,
    source: IO[bytes] | None,
    envelope: bool,
    on_error: str,
    item_id: str | None,
    delay: float | None,
    headers: tuple[str, ...],
    group: str | None,
    wait: float,
) -> None:
    """Add items to a queue: each PAYLOAD is JSON, or comes from a line of a file.

    All payloads are checked before the first is sent. Says how many items were created, and how many were there
    already; with -o json or jsonl also their ids.
    """
    from reliq.cli._lines import Reader, argument, pairs, rewindable

    common = delay is not None or bool(headers) or group is not None
    _check_usage(payloads, source, item_id=item_id, envelope=envelope, text=text, common=common)
    with closing(options.queue(queue)) as target:
        reader = Reader(target._session, New(None, item_id, delay, None, pairs(headers), group), text, envelope)
        if source is None:
            news = [argument(payload, reader) for payload in payloads]
            _send(options, target, enumerate(news, 1), "payload", wait)
        else:
            with rewindable(source) as file:
                _send_file(options, target, file, reader, skip=on_error == "skip", wait=wait)


def _check_usage(
    payloads: Sequence[str], source: object, *, item_id: str | None, envelope: bool, text: bool, common: bool
) -> None:
    problems = {
        "pass payloads, or --file NAME (- for stdin)": not payloads and source is None,
        "payloads come from arguments or from a file, not from both": bool(payloads) and source is not None,
        "--id is for one payload; in a file, use --envelope": item_id is not None and len(payloads) != 1,
        "--envelope is for --file": envelope and source is None,
        "--envelope and --text exclude each other": envelope and text,
        "--delay, --header and --group are in the envelopes": envelope and common,
    }
    for problem, there in problems.items():
        if there:
            raise click.UsageError(problem)


def _send_file(options: Options, queue: Queue, source: IO[bytes], reader: Reader, *, skip: bool, wait: float) -> None:
    """Checks the whole file, then sends it."""
    start = source.tell()
    good, bad = _check(source, reader)
    if bad and not (skip and good):
        raise Stop(Exit.FAILURE, f"{bad} of {good + bad} lines can't be enqueued: nothing was sent")
    end = source.tell()
    source.seek(start)
    with _progress(options, good) as seen:
        _send(options, queue, seen(_entries(source, end, reader, skip=skip)), "line", wait)
    if bad:
        raise Stop(Exit.PARTLY_DONE, f"{bad} of {good + bad} lines were left out")


def _check(source: IO[bytes], reader: Reader) -> tuple[int, int]:
    from reliq.cli._lines import BadLine, numbered, read

    good = bad = 0
    for number, line in numbered(source):
        try:
            read(line, reader)
            good += 1
        except BadLine as error:
            say(f"line {number}: {error}")
            bad += 1
    return good, bad


def _entries(source: IO[bytes], end: int, reader: Reader, *, skip: bool) -> Iterator[tuple[int, New]]:
    """The items of a file that has been checked. A line that was good then and is bad now ends it."""
    from reliq.cli._lines import BadLine, numbered, read

    for number, line in numbered(source, end):
        try:
            yield number, read(line, reader)
        except BadLine as error:
            if not skip:
                raise Stop(Exit.PARTLY_DONE, f"line {number} changed while it was sent: {error}") from error


def _send(options: Options, queue: Queue, entries: Iterable[tuple[int, New]], kind: str, wait: float) -> None:
    """Sends items a batch at a time, and prints what became of them."""
    created, done = [0], [0]
    sent = _sent(queue, iter(entries), kind, created, done, wait)
    with partly(done, "had been enqueued"):
        if options.output == "table":
            for _ in sent:
                pass
        else:
            options.out().rows(("id", "created"), ({"id": e.id, "created": e.created} for e in sent))
    counts = f"{created[0]} created, {done[0] - created[0]} already there"
    if options.output == "table":
        click.echo(counts)
    else:
        options.note(counts)


def _sent(
    queue: Queue, entries: Iterator[tuple[int, New]], kind: str, created: list[int], done: list[int], wait: float
) -> Iterator[Enqueued]:
    from reliq.errors import ReliqError

    while batch := list(islice(entries, BATCH)):
        try:
            results: Sequence[Enqueued] = queue.enqueue_many([new for _, new in batch], wait=wait)
        except ReliqError as error:
            done[0] += len(error.enqueued)
            if done[0]:
                say(f"from {kind} {batch[len(error.enqueued)][0]} on, nothing is confirmed")
            raise
        done[0] += len(results)
        created[0] += sum(result.created for result in results)
        yield from results


@contextmanager
def _progress(options: Options, total: int) -> Iterator[Any]:
    """Something that counts what passes through it, on a terminal and for long files."""
    if options.quiet or total < LONG or not sys.stderr.isatty():
        yield iter
        return
    with click.progressbar(length=total, label="enqueue", file=sys.stderr, update_min_steps=BATCH) as bar:

        def seen(entries: Iterable[Any]) -> Iterator[Any]:
            for entry in entries:
                yield entry
                bar.update(1)

        yield seen
