"""`python -m reliq.testing.check history.jsonl ...`: decides on recorded histories.

Exit codes are those of `reliq`: 0 nothing was broken, 7 something was, 2 an argument is wrong or a file is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from reliq.testing._events import HistoryDamaged, read
from reliq.testing._report import Figures, Report, Violation
from reliq.testing._timeline import TOLERANCE
from reliq.testing._verdict import RULES, check_history

MISMATCH = 7
SHOWN = 20  # violations in a table

__all__ = ["RULES", "Report", "Violation", "check_history", "read"]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE...")
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", help="How it is printed."
)
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=TOLERANCE, show_default=True, help="Seconds between clocks."
)
@click.option("--part", is_flag=True, help="The files lack some of what was enqueued or finished.")
@click.option("--several-of-a-group", is_flag=True, help="The queue allows more than one item of a group at a time.")
def main(paths: tuple[Path, ...], form: str, tolerance: float, *, part: bool, several_of_a_group: bool) -> None:
    """Decides whether recorded histories show a queue that kept its promises.

    FILE is a history, or a folder with *.jsonl files of them. Give all files of one run together.

    Exit codes: 0 nothing was broken, 7 something was, 2 usage.
    """
    try:
        events = read(*paths)
    except HistoryDamaged as error:
        raise click.UsageError(str(error)) from error
    report = check_history(events, tolerance=tolerance, whole=not part, strict_groups=not several_of_a_group)
    if form == "json":
        click.echo(json.dumps(_finite(report.as_dict()), indent=2))
    else:
        click.echo("\n".join(_table(report)))
    raise click.exceptions.Exit(0 if report else MISMATCH)


def _finite(value: object) -> object:
    """JSON has no infinity: a time that never came is null."""
    match value:
        case dict():
            return {name: _finite(part) for name, part in value.items()}
        case list():
            return [_finite(part) for part in value]
        case float() if value in (float("inf"), float("-inf")):
            return None
    return value


def _table(report: Report) -> Iterator[str]:
    width = max(map(len, (*RULES, *Figures.__slots__))) + 2
    for name in Figures.__slots__:
        yield f"{name.replace('_', ' '):{width}}{getattr(report.figures, name)}"
    yield ""
    for rule in RULES:
        yield f"{rule:{width}}{_verdict(report, rule)}"
    for violation in report.violations[:SHOWN]:
        yield f"\n{violation.rule}: {violation.id or 'the queue'} at {violation.at:.3f}: {violation.text}"
    if len(report.violations) > SHOWN:
        yield f"\n... and {len(report.violations) - SHOWN} more"


def _verdict(report: Report, rule: str) -> str:
    if rule in report.undecided:
        return f"undecided: {report.undecided[rule]}"
    excused = sum(violation.rule == rule for violation in report.excused)
    apart = f" ({excused} more across a failover or a change of epoch)" if excused else ""
    broken = report.count(rule)
    return (f"BROKEN {broken} times" if broken else "ok") + apart


if __name__ == "__main__":
    main()
