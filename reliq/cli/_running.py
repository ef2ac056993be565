"""What `reliq worker run` does when its arguments have been read."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reliq._ledger import WorkerReport
from reliq.cli._options import Options
from reliq.cli._output import Shown
from reliq.health import Monitor, Vitals

Handler = Callable[[Any], object]


def run_worker(
    options: Options,
    where: str,
    handler: Handler,
    *,
    queues: Sequence[str],
    weights: Sequence[str],
    tasks: bool,
    heartbeat_file: Path | None,
    health_port: int | None,
    health_host: str,
    processes: int,
    **given: Any,
) -> None:
    """Runs a worker until it is stopped, and prints what it did."""
    if tasks and processes > 1:
        raise click.UsageError("--async has one process; without it a coroutine function runs in any number of them")
    shares = _weights(queues, weights)
    given["health"] = Vitals(given["concurrency"] * processes)
    with Monitor(given["health"], file=heartbeat_file, http=health_port, host=health_host) as monitor:
        options.note(_greeting(where, queues, processes, given, monitor.port))
        if tasks or (processes == 1 and _is_coroutine(handler)):
            report = asyncio.run(_run_tasks(options, queues, shares, handler, given))
        else:
            report = _run_threads(options, queues, shares, handler, {**given, "processes": processes})
    options.out().record({**asdict(report), "abandoned": Shown(list(report.abandoned), width=0)})


def _greeting(where: str, queues: Sequence[str], processes: int, given: dict[str, Any], port: int | None) -> str:
    many = f"{processes} processes, each " if processes > 1 else ""
    health = "" if port is None else f", health on port {port}"
    names = ", ".join(map(repr, queues))
    return (
        f"worker of queue {names}: {where}, {many}{given['concurrency']} at a time, lease {given['lease']:g} s{health}"
    )


def _is_coroutine(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _weights(queues: Sequence[str], pairs: Sequence[str]) -> list[int] | None:
    """The weight of each queue, in their order; None where there are no weights."""
    if len(set(queues)) < len(queues):
        raise click.UsageError("each --queue is another one")
    if not pairs:
        return None
    found: dict[str, int] = {}
    for pair in pairs:
        name, equals, number = pair.rpartition("=")
        if not equals or name not in queues or not number.isdecimal() or not 1 <= int(number) <= 1000:
            raise click.UsageError(f"--weight takes QUEUE=N, N from 1 to 1000, for one of the queues; not {pair!r}")
        found[name] = int(number)
    if missing := [name for name in queues if name not in found]:
        raise click.UsageError(f"--weight is for all queues or none; {missing[0]!r} has none")
    return [found[name] for name in queues]


def _run_threads(
    options: Options, names: Sequence[str], shares: list[int] | None, handler: Handler, given: dict[str, Any]
) -> WorkerReport:
    from reliq.worker import Worker

    with ExitStack() as stack:
        queues = [stack.enter_context(closing(options.queue(name))) for name in names]
        weights = None if shares is None else dict(zip(queues, shares, strict=True))
        return Worker(queues, handler, weights=weights, **given).run()


async def _run_tasks(
    options: Options, names: Sequence[str], shares: list[int] | None, handler: Handler, given: dict[str, Any]
) -> WorkerReport:
    from reliq.worker_async import AsyncWorker

    queues = [options.queue_async(name) for name in names]
    weights = None if shares is None else dict(zip(queues, shares, strict=True))
    try:
        return await AsyncWorker(queues, handler, weights=weights, **given).run()
    finally:
        for queue in queues:
            await queue.close()
