"""A run as the user sees it: malformed lines, progress, the account, and whether all is well."""

from __future__ import annotations

import json
import signal

from reliq import connect
from reliq.demo.processes import ChildFailed
from reliq.demo.progress import Display, print_table
from reliq.demo.recipients import Recipients
from reliq.demo.report import Report, reconcile
from reliq.demo.scenario import Plan, Scenario
from reliq.info import Counts

__all__ = ["ChildFailed", "Plan", "show"]


def show(found: Recipients, plan: Plan, *, as_json: bool, keep: bool) -> bool:
    """Runs the demo and prints its account on stdout, everything else on stderr.

    Args:
        found: the recipients file.
        plan: what to run.
        as_json: print the account as JSON, not as a table.
        keep: leave everything up afterwards, until Ctrl-C.

    Returns:
        Whether nothing was lost and every line was delivered or reported.

    Raises:
        ChildFailed: a process ended that should not.
        ReliqError: the server can't be used.
        KeyboardInterrupt: Ctrl-C; what was started is gone.
    """
    with Display() as display:
        reported = _report_malformed(found, display)
        if not found.recipients:
            return _account(reconcile(found, reported, [], None, Counts(), 0.0), display, as_json=as_json)
        with Scenario(found, plan, display) as scenario:
            report = scenario.run(reported)
            display.end()
            well = _account(report, display, as_json=as_json)
            if keep:
                display.say(f"queue {scenario.queue.name} stays at {connect.mask(scenario.url)} until Ctrl-C")
                _wait_for_ctrl_c()
        return well


def _report_malformed(found: Recipients, display: Display) -> int:
    reported = 0
    for line in found.malformed:
        display.say(f"line {line.line} is malformed: {line.reason}")
        reported += 1
    return reported


def _account(report: Report, display: Display, *, as_json: bool) -> bool:
    if as_json:
        print(json.dumps(report.figures()))
    else:
        print_table(report)
    for problem in report.problems:
        display.say(f"not well: {problem}")
    return not report.problems


def _wait_for_ctrl_c() -> None:
    """Ctrl-C is the way out here, and no error."""
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass
