"""`reliq check`, a plugin for Nagios, Icinga and others that read its exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Command
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import F, Options, duration_option
from reliq.cli._queues import age_of, counts_of, is_open, server_info
from reliq.errors import ReliqError

if TYPE_CHECKING:
    from reliq.queue import Queue

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
PATIENCE = 5.0  # seconds; a monitor gives a plugin about ten

# Name: how its option reads a value, the unit in performance data, what it is.
METRICS: dict[str, tuple[str, str, str]] = {
    "length": ("whole", "", "queued items"),
    "age": ("duration", "s", "age of the next item"),
    "dead": ("whole", "", "dead items"),
    "orphaned": ("whole", "", "orphaned items"),
    "memory": ("percent", "%", "used memory, in percent of maxmemory"),
}


@dataclass(frozen=True)
class Metric:
    """One value with its thresholds. It alarms above them."""

    name: str
    value: float | None
    warn: float | None
    crit: float | None

    def level(self) -> int:
        """0 to 3. A value that can't be told is unknown where somebody asked for an alarm on it."""
        if self.value is None:
            return OK if self.warn is None and self.crit is None else UNKNOWN
        if self.crit is not None and self.value > self.crit:
            return CRITICAL
        return WARNING if self.warn is not None and self.value > self.warn else OK

    def perfdata(self) -> str:
        """As the plugin guidelines have it: name=value;warn;crit;min;max."""
        value = "U" if self.value is None else _number(self.value)
        limits = ";".join("" if limit is None else _number(limit) for limit in (self.warn, self.crit))
        unit = "" if self.value is None else METRICS[self.name][1]
        return f"{self.name}={value}{unit};{limits};0{';100' if self.name == 'memory' else ''}"


def _number(value: float) -> str:
    """Up to three decimals, never with an exponent: monitors don't read these."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


class _Unusable(click.UsageError):
    exit_code = UNKNOWN


class Plugin(Command):
    """Usage errors are "unknown" to a monitor; 2 would be critical."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Reads the arguments."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _Unusable(error.format_message(), error.ctx) from error


def _thresholds(function: F) -> F:
    for name, (kind, _, what) in reversed(METRICS.items()):
        for level, word in (("crit", "Critical"), ("warn", "Warning")):
            text = f"{word} above this: {what}."
            function = _threshold(f"--{level}-{name}", kind, text)(function)
    return function


def _threshold(name: str, kind: str, text: str) -> Callable[[F], F]:
    if kind == "duration":
        return duration_option(name, help=text)
    high = 100 if kind == "percent" else None
    return click.option(name, type=click.FloatRange(0, high), metavar="N", help=text)


@click.command(cls=Plugin)
@click.argument("queue")
@_thresholds
@click.pass_obj
def check(options: Options, /, queue: str, **limits: float | None) -> None:
    """Check a queue for Nagios and its kin.

    Prints one line with performance data. Exit codes: 0 ok, 1 warning, 2 critical, 3 unknown, which is also what an
    unreachable server and a queue that does not exist are.
    """
    try:
        with closing(options.queue(queue, timeout=PATIENCE)) as target:
            metrics, notes = _measure(target, limits)
    except (ReliqError, Stop) as error:
        click.echo(f"RELIQ UNKNOWN - {queue}: {' '.join(str(error).split())}".replace("|", "/"))
        raise Stop(Exit(UNKNOWN)) from error
    level = _worst([metric.level() for metric in metrics])
    perfdata = " ".join(metric.perfdata() for metric in metrics)
    click.echo(f"RELIQ {WORDS[level]} - {queue}: {', '.join(_sentence(metrics, notes))} | {perfdata}")
    if level:
        raise Stop(Exit(level))


def _worst(levels: list[int]) -> int:
    """Critical counts above unknown, and unknown above warning."""
    return max(levels, key=(OK, WARNING, UNKNOWN, CRITICAL).index)


def _measure(queue: Queue, limits: dict[str, float | None]) -> tuple[list[Metric], list[str]]:
    counts = counts_of(queue)
    memory, note = _memory(server_info(queue))
    values = {
        "length": counts.queued,
        "age": age_of(queue) or 0.0,
        "dead": counts.dead,
        "orphaned": counts.orphaned,
        "memory": memory,
    }
    metrics = [Metric(name, values[name], limits[f"warn_{name}"], limits[f"crit_{name}"]) for name in METRICS]
    closed = [] if is_open(counts) == "open" else [is_open(counts)]
    return metrics, closed + note


def _memory(info: dict[str, str]) -> tuple[float | None, list[str]]:
    """Percent of maxmemory that is used; without a maxmemory 0, because nothing can be full."""
    if "used_memory" not in info:
        return None, ["no right to read INFO"]
    limit = int(info.get("maxmemory", "0"))
    if not limit:
        return 0.0, ["the server has no maxmemory"]
    return round(100 * int(info["used_memory"]) / limit, 1), []


def _sentence(metrics: list[Metric], notes: list[str]) -> Iterator[str]:
    for metric in metrics:
        value = "unknown" if metric.value is None else _number(metric.value) + METRICS[metric.name][1]
        mark = f" ({WORDS[metric.level()].lower()})" if metric.level() else ""
        yield f"{metric.name} {value}{mark}"
    yield from notes
