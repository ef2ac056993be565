"""Looks at a deployment and says what could cost items one day. Nothing is changed; no password is shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from reliq import _admin, _findings_site, _scripts, rights
from reliq._admin import Link, Refused, Reply, Unreachable
from reliq._findings import Finding, Level, ServerReport
from reliq._findings_site import QueueReport, Report
from reliq._keys import REGISTRY, Keys
from reliq._site import SentinelView, Site, most, place_of
from reliq._topology import Address, Sentinel
from reliq.connect import connector, sentinel_of

__all__ = ["Finding", "Level", "examine"]

MOST_QUEUES = 1000
SETTINGS = ("maxmemory-policy", "save", "appendfsync", "min-replicas-to-write", "min-replicas-max-lag")
_FILLERS = 5  # arguments after the key that a command may need to be tried


def examine(url: str | Sentinel, *, queue: str | None = None) -> list[Finding]:
    """Looks at all of it, once.

    Args:
        url: where the queues are; see `Queue`. Behind Sentinels all servers and Sentinels are looked at.
        queue: whose rights are tried; None: of all queues.

    Returns:
        Everything that was looked at, the worst first, also what is in order.

    Raises:
        InvalidURL.
    """
    sentinel = sentinel_of(url)
    return _findings_site.findings(_behind(sentinel, queue) if sentinel else _alone(url, queue))


def _alone(url: str | Sentinel, queue: str | None) -> Report:
    with _admin.to_server(url) as link:
        servers = [_server(link, sentinels=False)]
        return _report(link, servers, queue, connector(url, None).patience)


def _behind(sentinel: Sentinel, queue: str | None) -> Report:
    with Site(sentinel) as site:
        views = site.views()
        master = most(site.named([view.address for view in views]), len(views))
        places = _places(master, [place_of(row) for view in views for row in view.replicas])
        servers = [_server(site.server(place), sentinels=True) for place in places]
        if master is None:
            return Report(servers, views, rights={}, client=_client(), patience=sentinel.socket_timeout)
        return _report(site.server(master), servers, queue, sentinel.socket_timeout, views, master)


def _places(master: Address | None, replicas: Sequence[Address]) -> list[Address]:
    return list(dict.fromkeys([*([master] if master else []), *replicas]))


def _report(
    link: Link,
    servers: Sequence[ServerReport],
    queue: str | None,
    patience: float,
    views: Sequence[SentinelView] = (),
    master: Address | None = None,
) -> Report:
    if servers[0].failure:
        return Report(servers, views, master, client=_client(), patience=patience, rights={})
    user, tried = _rights(link, queue)
    return Report(servers, views, master, user, tried, _queues(link), _client(), patience)


def _server(link: Link, *, sentinels: bool) -> ServerReport:
    try:
        offset = _offset(link)
        info = _asked(link, "INFO")
        config = _asked(link, "CONFIG", "GET", *SETTINGS)
    except Unreachable as error:
        return ServerReport(link.name, failure=str(error), sentinels=sentinels)
    except Refused as error:
        return ServerReport(link.name, failure=error.text, sentinels=sentinels)
    return ServerReport(link.name, info or {}, config, offset, sentinels=sentinels)


def _asked(link: Link, *words: str) -> dict[str, str] | None:
    """None where the user may not ask."""
    try:
        return link.fields(*words)
    except Refused as error:
        if error.text.startswith("NOPERM"):
            return None
        raise


def _offset(link: Link) -> float | None:
    """Seconds that the server's clock is ahead, as of the middle of the round trip. None where we may not ask."""
    before = time.time()
    try:
        reply = link.call("TIME")
    except Refused as error:
        if error.text.startswith("NOPERM"):
            return None
        raise
    seconds, micros = map(int, _texts(reply))
    return seconds + micros / 1e6 - (before + time.time()) / 2


def _rights(link: Link, queue: str | None) -> tuple[str, dict[str, list[str]] | None]:
    """Who we are, and what that user lacks for each role."""
    try:
        user = str(link.call("ACL", "WHOAMI"))
        return user, {role: list(_lacking(link, user, role, queue or "reliq-doctor")) for role in rights.ROLES}
    except (Refused, Unreachable):
        return "", None


def _lacking(link: Link, user: str, role: str, queue: str) -> Iterator[str]:
    keys = Keys(queue)
    for verb in rights.ROLES[role].verbs:
        script = _scripts.load(verb)
        names = [key.decode() for key in keys.of(script.keys)]
        if _tried(link, user, "EVALSHA", script.sha, len(names), *names) != "OK":
            yield f"script {verb}"
    for command in rights.commands(rights.ROLES[role].verbs):
        place = keys["ended" if command == "PUBLISH" else "meta"].decode()
        if not _may(link, user, command, place):
            yield command


def _may(link: Link, user: str, command: str, key: str) -> bool:
    """Whether a user may send a command with this key, however many arguments it needs."""
    for more in range(_FILLERS):
        said = _tried(link, user, command, *([] if command == "TIME" else [key]), *["1"] * more)
        if "wrong number of arguments" not in said:
            return said == "OK"
    return False


def _tried(link: Link, user: str, *words: str | int) -> str:
    """The answer of ACL DRYRUN. Raises Refused where the user may not ask."""
    try:
        return str(link.call("ACL", "DRYRUN", user, *words))
    except Refused as error:
        if error.denied:
            raise
        return error.text


def _queues(link: Link) -> list[QueueReport] | None:
    try:
        names = _texts(link.call("SMEMBERS", REGISTRY.decode()))
        return [_queue(link, name) for name in sorted(names)[:MOST_QUEUES]]
    except (Refused, Unreachable):
        return None


def _queue(link: Link, name: str) -> QueueReport:
    try:
        reply = link.call("HMGET", Keys(name)["meta"].decode(), "layout", "state")
    except Refused as error:
        return QueueReport(name, failure=error.text)
    return QueueReport(name, *_texts(reply))


def _texts(reply: Reply) -> list[str]:
    """A list of texts; what there is not is ''."""
    return [str(part or "") for part in reply] if isinstance(reply, list) else []


def _client() -> dict[str, str]:
    found = {}
    for name, package in (("reliq", "reliq-queue"), ("redis-py", "redis"), ("hiredis", "hiredis")):
        try:
            found[name] = version(package)
        except PackageNotFoundError:  # run from a checkout
            continue
    return found
