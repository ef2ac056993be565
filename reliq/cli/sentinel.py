"""`reliq sentinel`: what Sentinels say, and a planned failover."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Group
from reliq.cli._exit import Exit, Stop, confirm
from reliq.cli._options import Options, yes_option

if TYPE_CHECKING:
    from reliq._ready import Readiness
    from reliq.failover import FailoverReport

PATIENCE = 30.0  # seconds


@click.group(cls=Group)
def sentinel() -> None:
    """Look at the Sentinels of a deployment, and fail over as planned."""


@sentinel.command()
@click.pass_obj
def status(options: Options) -> None:
    """Show what each Sentinel says, and whether a planned failover could begin.

    Exit code 1 where it could not; the reasons are on stderr.
    """
    ready = _look(options)
    options.out().rows(("kind", "address", "state", "detail"), _rows(ready))
    if ready.reasons:
        raise Stop(Exit.FAILURE, "no failover now: " + "; ".join(ready.reasons))


@sentinel.command()
@click.option(
    "--method",
    type=click.Choice(["auto", "coordinated", "pause"]),
    default="auto",
    help="How: by the servers themselves (Valkey 9), or by pausing writes. By default the first that there is.",
)
@yes_option
@click.pass_obj
def failover(options: Options, method: str, *, yes: bool) -> None:
    """Make a replica the master, without losing a write.

    Writes wait for about two seconds. Ctrl-C lets them go on, at the old master or the new one.
    """
    from reliq.failover import FailoverRefused, run

    ready = _look(options)
    if ready.reasons:
        raise Stop(Exit.REFUSED, "nothing was done: " + "; ".join(ready.reasons))
    confirm(f"Make one of {_list(ready)} the master instead of {_place(ready.master)}?", yes=yes)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        limit = PATIENCE if options.timeout is None else options.timeout
        report = run(options.server(), timeout=limit, method=method, on_progress=options.note)
    except FailoverRefused as error:
        raise Stop(Exit.REFUSED, str(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    options.out().record(_record(report))


def _look(options: Options) -> Readiness:
    from reliq.failover import readiness

    ready = readiness(options.server())
    if all(view.failure for view in ready.views):
        raise Stop(Exit.UNREACHABLE, "no Sentinel answers: " + "; ".join(view.failure for view in ready.views))
    return ready


def _rows(ready: Readiness) -> Iterator[dict[str, Any]]:
    for view in ready.views:
        detail = view.failure or f"names {_place(view.master)}, epoch {view.epoch}; {view.quorum}"
        yield _row("sentinel", view.address, "down" if view.failure else "up", detail)
    for place in ready.replicas:
        yield _row("replica", place, "up", "may become the master")
    if ready.master:
        flags = sorted({flag for view in ready.views for flag in view.flags if flag} - {"master"})
        yield _row("master", ready.master, ", ".join(flags) or "up", "")


def _row(kind: str, address: tuple[str, int], state: str, detail: str) -> dict[str, Any]:
    return {"kind": kind, "address": _place(address), "state": state, "detail": detail}


def _record(report: FailoverReport) -> dict[str, Any]:
    return {**asdict(report), "old": _place(report.old), "new": _place(report.new)}


def _list(ready: Readiness) -> str:
    return ", ".join(map(_place, ready.replicas))


def _place(address: tuple[str, int] | None) -> str:
    from reliq._topology import shown

    return shown(address)
