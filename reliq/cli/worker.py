"""`reliq worker`."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import Options, duration_option
from reliq.cli._output import Age
from reliq.cli._queues import counts_of
from reliq.info import WorkerInfo

COLUMNS = tuple("host pid kind since handlers holding busy finished failed lost seen sweeps".split())


@click.group(cls=Group)
def worker() -> None:
    """Run a function for each item of a queue; see who works."""


@worker.command("run")
@click.argument("handler", metavar="MODULE:FUNCTION")
@click.option(
    "--queue", "queues", required=True, multiple=True, metavar="QUEUE", help="Where items come from; several: in order."
)
@click.option("--weight", "weights", multiple=True, metavar="QUEUE=N", help="Items of each queue to take in turn.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Handlers at once.")
@click.option("--processes", type=click.IntRange(1, 1000), default=1, show_default=True, help="Each with its handlers.")
@click.option("--async", "tasks", is_flag=True, help="Tasks of one event loop: so it is for coroutine functions.")
@duration_option("--lease", default=30.0, help="Items of a worker that died go to others after this: 30s by default.")
@click.option("--prefetch", type=click.IntRange(0, 1000), help="Items claimed ahead; by default 0.1 s of work.")
@click.option("--results", is_flag=True, help="Store what the function returns as the item's result.")
@duration_option("--time-limit", help="An attempt that takes longer has failed.")
@duration_option("--shutdown-timeout", help="Wait no longer than this for functions that run when it is stopped.")
@click.option(
    "--renewals",
    type=click.Choice(["thread", "process"]),
    default="thread",
    show_default=True,
    help="process: for functions that keep the interpreter to themselves.",
)
@click.option("--heartbeat-file", type=click.Path(path_type=Path, dir_okay=False), help="For `reliq worker check`.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="Serve /livez and /readyz here; 0: any free port.")
@click.option("--health-host", default="127.0.0.1", show_default=True, help="The address that it listens on.")
@click.option("--max-items", type=click.IntRange(1), metavar="N", help="Stop after this many items.")
@duration_option("--max-seconds", help="Stop after this time.")
@click.option("--return-when-empty", is_flag=True, help="Stop when there is nothing to claim.")
@click.pass_obj
def run(options: Options, /, handler: str, **given: Any) -> None:
    """Call MODULE:FUNCTION with each item, until SIGTERM or Ctrl-C.

    An item is finished when the function returns, and tried again as the queue is configured when it raises. On SIGTERM
    running functions end, and what was claimed ahead goes back to the queue. Modules are looked for in the current
    directory first.
    """
    from reliq.cli._running import run_worker

    run_worker(options, handler, load_handler(handler), **given)


@worker.command("ls")
@click.argument("name", metavar="QUEUE")
@click.pass_obj
def ls(options: Options, name: str) -> None:
    """List the workers of a queue, those seen last first. Who was not seen for an hour is forgotten."""
    with closing(options.queue(name)) as target:
        counts_of(target)
        now = time.time()
        found = options.out().rows(COLUMNS, (_row(info, now) for info in target.workers()))
    if not found:
        raise Stop(Exit.NOTHING_FOUND, f"no worker of queue {name!r} was seen within an hour")


def _row(info: WorkerInfo, now: float) -> dict[str, Any]:
    return {
        "host": info.host,
        "pid": info.pid,
        "kind": info.kind,
        "since": Age(max(0.0, now - info.since)) if info.since else None,
        "handlers": info.concurrency,
        "holding": info.holding,
        "busy": info.busy,
        "finished": info.finished,
        "failed": info.failed,
        "lost": info.lost,
        "seen": Age(info.age),
        "sweeps": info.sweeps,
    }


@worker.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@duration_option("--max-age", default=30.0, help="It is to be no older than this: 30s by default.")
@click.pass_obj
def check(options: Options, file: Path, max_age: float) -> None:
    """Look at the FILE of a worker's --heartbeat-file: 0 where it is well, 1 where it is not. Needs no server."""
    from reliq.health import check_file

    if problems := check_file(file, max_age):
        raise Stop(Exit.FAILURE, "; ".join(problems))
    options.note("ok")


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
    if not callable(found) or inspect.isclass(found):
        raise click.UsageError(f"{where!r} is no function that can be called with an item")
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
