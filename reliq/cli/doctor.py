"""`reliq doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reliq.cli._exit import Exit, Stop
from reliq.cli._options import Options
from reliq.cli._output import cell
from reliq.cli.check import CRITICAL, OK, UNKNOWN, WARNING, Plugin

if TYPE_CHECKING:
    from reliq._findings import Finding

CODES = {"ok": OK, "warning": WARNING, "critical": CRITICAL, "unknown": UNKNOWN}
_RANKS = ("ok", "warning", "unknown", "critical")


class Doctor(Plugin):
    """Its exit codes are those of monitoring plugins, as `reliq check`'s are."""


@click.command(cls=Doctor)
@click.argument("server", required=False, metavar="[URL]")
@click.option("--queue", metavar="NAME", help="Try the rights to this queue; any queue by default.")
@click.option("--all", "everything", is_flag=True, help="Show also what is in order.")
@click.pass_obj
def doctor(options: Options, server: str | None, queue: str | None, *, everything: bool) -> None:
    """Look at servers and Sentinels for what could cost items one day.

    Nothing is changed. Exit codes: 0 ok, 1 warnings, 2 something critical, 3 something could not be looked at. A URL
    with a password belongs into RELIQ_URL rather than here.
    """
    from reliq.doctor import examine

    found = examine(server or options.server(), queue=queue)
    shown = [finding for finding in found if everything or finding.level != "ok"]
    if options.output == "table":
        _print(shown)
    else:
        options.out().rows((), map(_row, shown))
    options.note(f"{len(found)} things were looked at, {sum(f.level == 'ok' for f in found)} are in order")
    worst = max((str(finding.level) for finding in found), key=_RANKS.index, default="ok")
    if CODES[worst]:
        raise Stop(Exit(CODES[worst]))


def _print(findings: list[Finding]) -> None:
    """A paragraph for each: what it can cost and what to do do not fit into columns."""
    for finding in findings:
        where = f"{finding.where}: " if finding.where else ""
        click.echo(f"{finding.level:<9} {cell(f'{where}{finding.what}')}")
        for name, text in (("can cost", finding.can_cost), ("do", finding.do)):
            if text:
                click.echo(f"{'':9} {name}: {cell(text)}")


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "level": str(finding.level),
        "where": finding.where,
        "title": finding.title,
        "what": finding.what,
        "can_cost": finding.can_cost,
        "do": finding.do,
    }
