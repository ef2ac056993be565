"""`reliq server`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import click

from reliq.cli._base import Command
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import Options

LOOK = 0.5  # seconds between looks whether the server still runs


@click.command(cls=Command)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep data here, in an append-only file. Without it they go when the server ends.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Listen on this loopback TCP port too; 0 for one that is free."
)
@click.pass_obj
def server(options: Options, directory: Path | None, port: int | None) -> None:
    """Run a server of one's own in the foreground, and print its URL.

    It ends with SIGTERM or Ctrl-C. For trying things out, and for machines that have no Redis: who can reach the
    port needs no password.
    """
    from reliq.embedded import Server

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = Server(directory, port=port, append_only=directory is not None)
    try:
        running.start()
        _announce(options, running.url)
        while not stop.wait(LOOK):
            if _has_ended(running.pid):
                raise Stop(Exit.FAILURE, f"the server has ended; its log ends: {running.log_tail(5)}")
    finally:
        running.close()


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it is left for its owner to collect."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _announce(options: Options, url: str) -> None:
    if options.output == "table":
        click.echo(url)
    else:
        options.out().record({"url": url})
    options.note("running until SIGTERM or Ctrl-C")
