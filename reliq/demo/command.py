"""`reliq demo`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from reliq.demo.recipients import Recipients, UnusableFile, read

SAMPLE = Path(__file__).with_name("recipients.csv")


@click.command()
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    default=SAMPLE,
    help="Recipients: CSV in UTF-8 with the columns name, email, order. Default: a sample of 2,000 lines.",
)
@click.option("--url", help="Redis or Valkey to use, RELIQ_URL is not. Default: a server of its own.")
@click.option("--workers", type=click.IntRange(1, 32), default=3, show_default=True, help="Worker processes.")
@click.option("--lease", type=click.FloatRange(0.5, 60.0), default=3.0, show_default=True, help="Seconds of a lease.")
@click.option("--report", type=click.Choice(["table", "json"]), default="table", show_default=True, help="On stdout.")
@click.option("--smtp-log", type=click.Path(dir_okay=False, path_type=Path), help="Keep the SMTP server's log here.")
@click.option("--keep-server", is_flag=True, help="Leave server and queue up after the report, until Ctrl-C.")
@click.option(
    "--lose-redis", is_flag=True, help="Lose Redis and its data on the way; the queue comes back from Postgres."
)
def demo(
    *,
    file: Path,
    url: str | None,
    workers: int,
    lease: float,
    report: str,
    smtp_log: Path | None,
    keep_server: bool,
    lose_redis: bool,
) -> None:
    """Sends a shop's mails through a queue, kills a worker on the way, and accounts for every mail.

    Each line of the recipients file becomes an item; worker processes deliver them to a real SMTP server on this
    machine. One worker is killed (SIGKILL) between delivering a mail and finishing its item. At the end the SMTP
    server's own log is held against the file. Exit status 0: nothing was lost, and every malformed line was reported.

    With --lose-redis the server is killed as well, in mid-delivery, and its data are removed. That needs Postgres: the
    database that RELIQ_DEMO_POSTGRES names, or one of the demo's own where its programs are installed.
    """
    _check_installed()
    if lose_redis:
        _check_losable(url)
    from reliq.demo import show  # noqa: PLC0415  needs what was just looked for

    found = _read(file)
    plan = show.Plan(url, workers, lease, smtp_log, lose_redis)
    with _sigterm_as_ctrl_c():
        try:
            ok = show.show(found, plan, as_json=report == "json", keep=keep_server)
        except show.ChildFailed as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted; everything that was started is gone", err=True)
            raise click.exceptions.Exit(130) from None
    raise click.exceptions.Exit(0 if ok else 1)


def _check_installed() -> None:
    if missing := [name for name in ("aiosmtpd", "rich") if find_spec(name) is None]:
        raise click.ClickException(f"the demo needs {' and '.join(missing)}: pip install 'reliq-queue[demo]'")


def _check_losable(url: str | None) -> None:
    if url is not None:
        raise click.UsageError("--lose-redis is for a server of the demo's own: leave --url out")
    if find_spec("psycopg_pool") is None:
        raise click.ClickException("--lose-redis needs psycopg: pip install 'reliq-queue[demo,postgres]'")
    from reliq.demo import loss, postgres  # noqa: PLC0415  they need what was just looked for

    if not os.environ.get(loss.POSTGRES) and postgres.programs() is None:
        raise click.ClickException(
            "--lose-redis needs Postgres 15 or newer: install it (apt-get install postgresql), or set "
            f"{loss.POSTGRES} to the DSN of a database"
        )


def _read(file: Path) -> Recipients:
    try:
        return read(file)
    except UnusableFile as error:
        raise click.BadParameter(str(error), param_hint="--file") from None


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that the demo takes its children and directories with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
