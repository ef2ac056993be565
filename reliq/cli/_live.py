"""A live screen in a terminal, until q is pressed."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from reliq.errors import Unavailable

QUIT = b"qQ\x04"  # and Ctrl-D
STOPS = (signal.SIGTERM, signal.SIGINT)


def show(frame: Callable[[], Any], interval: float) -> None:
    """Draws frames until q is pressed, the input ends, or SIGTERM comes. The terminal is left as it was."""
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError as error:
        raise click.ClickException(
            "the live screen needs rich: pip install 'reliq-queue[cli]', or pass --once"
        ) from error
    console = Console()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        shown: Any = Text("")
        while True:
            began = time.monotonic()
            try:
                shown = frame()
            except Unavailable as error:  # it may come back: the screen stays, and says so
                shown = Text(f"{time.strftime('%H:%M:%S')}   {error}", style="red")
            live.update(shown, refresh=True)
            if pressed(began + interval):
                return


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Reads single keys. What it gives waits until an instant for one that ends the screen, and tells if it came."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    handlers = {number: signal.signal(number, lambda *_: os.write(woken, b"q")) for number in STOPS}

    def pressed(until: float) -> bool:
        while (left := until - time.monotonic()) > 0:
            for ready in select.select([descriptor, wake], [], [], left)[0]:
                keys = os.read(ready, 100)
                if not keys or any(key in QUIT for key in keys):
                    return True
        return False

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(wake)
        os.close(woken)
