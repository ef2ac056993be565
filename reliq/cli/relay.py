"""`reliq mirror relay`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from reliq.cli._base import Command
from reliq.cli._options import Options


@click.command("relay", cls=Command)
@click.argument("names", metavar="QUEUE...", nargs=-1, required=True)
@click.option("--mirror", "dsn", envvar="RELIQ_MIRROR", required=True, help="DSN of the mirror; or RELIQ_MIRROR.")
@click.option("--once", is_flag=True, help="Carry what is there, and end.")
@click.pass_obj
def relay(options: Options, names: tuple[str, ...], dsn: str, *, once: bool) -> None:
    """Carry what was enqueued in transactions from Postgres to Redis, until SIGTERM or Ctrl-C.

    For queues whose payloads go through codecs, call `Mirror.relay` from a program that has them.
    """
    from reliq.mirror import Mirror

    with ExitStack() as stack, _stopped_by_signals() as stop:
        mirror = stack.enter_context(Mirror(dsn))
        queues = [stack.enter_context(options.queue(name)) for name in dict.fromkeys(names)]
        options.note(f"relay of {', '.join(map(repr, names))}")
        count = mirror.relay(queues, stop=stop, once=once)
        if once:
            options.out().record({"carried": count})


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
