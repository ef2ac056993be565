"""`reliq worker`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from reliq.cli._base import Group
from reliq.cli._options import Options, duration_option


@click.group(cls=Group)
def worker() -> None:
    """Run a function for each item of a queue."""


@worker.command("run")
@click.argument("handler", metavar="MODULE:FUNCTION")
@click.option("--queue", required=True, metavar="QUEUE", help="Where items come from.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Handler threads.")
@duration_option("--lease", default=30.0, help="Items of a worker that died go to others after this: 30s by default.")
@click.option("--prefetch", type=click.IntRange(0, 1000), help="Items claimed ahead; by default 0.1 s of work.")
@click.option("--max-items", type=click.IntRange(1), metavar="N", help="Stop after this many items.")
@click.option("--return-when-empty", is_flag=True, help="Stop when there is nothing to claim.")
@click.pass_obj
def run(
    options: Options,
    handler: str,
    queue: str,
    concurrency: int,
    lease: float,
    prefetch: int | None,
    max_items: int | None,
    return_when_empty: bool,
) -> None:
    """Call MODULE:FUNCTION with each item, until SIGTERM or Ctrl-C.

    An item is finished when the function returns, and tried again as the queue is configured when it raises. On SIGTERM
    running functions end, and what was claimed ahead goes back to the queue. Modules are looked for in the current
    directory first.
    """
    from reliq.worker import Worker

    function = load_handler(handler)
    with closing(options.queue(queue)) as source:
        running = Worker(
            source,
            function,
            lease=lease,
            concurrency=concurrency,
            prefetch=prefetch,
            max_items=max_items,
            return_when_empty=return_when_empty,
        )
        options.note(f"worker of queue {queue!r}: {handler}, {concurrency} at a time, lease {lease:g} s")
        options.out().record(asdict(running.run()))


def load_handler(where: str) -> Callable[[Any], object]:
    """Imports MODULE:FUNCTION.

    Raises:
        click.UsageError: there is no such module or function, or it fails when it is imported.
    """
    module_name, colon, path = where.partition(":")
    if not (module_name and colon and path):
        raise click.UsageError(f"{where!r} is not MODULE:FUNCTION, such as mail:send")
    found: Any = _imported(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise click.UsageError(f"module {module_name!r} has no {path!r}")
        found = getattr(found, name)
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise click.UsageError(f"{where!r} is no function that can be called with an item (async ones can't, here)")
    function: Callable[[Any], object] = found
    return function


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise click.UsageError(f"there is no module {name!r}, neither in {here} nor installed") from error
        raise click.UsageError(f"module {name!r} can't be imported: {error}") from error
    except Exception as error:  # the module is the user's: whatever it raises is about that module
        raise click.UsageError(f"module {name!r} can't be imported: {type(error).__name__}: {error}") from error
