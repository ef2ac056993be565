"""`reliq doctor`."""

from __future__ import annotations

from typing import Any

import click

from reliq.cli._base import Command
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import Options
from reliq.cli.check import CRITICAL, OK, UNKNOWN, WARNING, Plugin

CODES = {"ok": OK, "warning": WARNING, "critical": CRITICAL, "unknown": UNKNOWN}
_RANKS = ("ok", "warning", "unknown", "critical")


class Doctor(Plugin, Command):
    """Its exit codes are those of monitoring plugins, as `reliq check`'s are."""


@click.command(cls=Doctor)
@click.argument("url", required=False)
@click.option("--queue", metavar="NAME", help="Try the rights to this queue; any queue by default.")
@click.option("--all", "everything", is_flag=True, help="Show also what is in order.")
@click.pass_obj
def doctor(options: Options, url: str | None, queue: str | None, *, everything: bool) -> None:
    """Look at servers and Sentinels for what could cost items one day.

    Nothing is changed. Exit codes: 0 ok, 1 warnings, 2 something critical, 3 something could not be looked at. Put a URL
    with a password into RELIQ_URL rather than here.
    """
    from reliq.doctor import examine

    found = examine(url or options.server(), queue=queue)
    shown = [_row(finding) for finding in found if everything or finding.level != "ok"]
    options.out().rows(("level", "where", "title", "what", "can cost", "do"), shown)
    options.note(f"{len(found)} findings, {len(found) - sum(f.level != 'ok' for f in found)} of them in order")
    worst = max((str(finding.level) for finding in found), key=_RANKS.index, default="ok")
    if CODES[worst]:
        raise Stop(Exit(CODES[worst]))


def _row(finding: Any) -> dict[str, Any]:
    return {
        "level": str(finding.level),
        "where": finding.where,
        "title": finding.title,
        "what": finding.what,
        "can_cost": finding.can_cost,
        "do": finding.do,
    }
