"""A Sentinel topology as a value, what its Sentinels answer, and which master that makes. No I/O.

A server's own word is not enough: after a planned failover the old master goes on calling itself one for about ten
seconds. So the highest configuration epoch that any Sentinel knows decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from reliq import _policy
from reliq._policy import Applied, Retry
from reliq.errors import AccessDenied, InvalidURL, ReliqError, Unavailable

Address = tuple[str, int]

SCHEMES = ("redis+sentinel", "rediss+sentinel")
PORT = 26379
FORGOTTEN_AFTER = 10.0  # seconds without a Sentinel that knows our epoch, after which a lower one counts: a reset
TROUBLE = frozenset({"s_down", "o_down", "failover_in_progress", "disconnected"})
_DENIED = ("NOAUTH", "NOPERM", "WRONGPASS", "invalid username-password", "Authentication required")


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Where the Sentinels are, and how to reach them and the master that they watch. Goes where a URL goes.

    Args:
        sentinels: `host`, `host:port` or `(host, port)` of each; those that are not listed are learned from these.
        name: what the Sentinels call the master.
        db: database number on the master.
        username: for the master.
        password: for the master.
        sentinel_username: for the Sentinels, which know nothing of the master's users.
        sentinel_password: for the Sentinels.
        ssl: TLS to the master.
        sentinel_ssl: TLS to the Sentinels; None: as to the master.
        ssl_ca_certs: file with the certificates that sign those of servers; None: the system's.
        ssl_certfile: file with the client's certificate.
        ssl_keyfile: file with its key.
        ssl_cert_reqs: `required`, or `none` to verify nothing.
        ssl_check_hostname: whether a server's certificate has to bear the name or address that it is reached by.
        socket_timeout: seconds without an answer of the master, 0.1 to 600.
        socket_connect_timeout: seconds for a connection to the master, 0.1 to 600.
        sentinel_timeout: seconds without an answer of a Sentinel, 0.05 to 60.
        client_name: shown by CLIENT LIST.

    Raises:
        InvalidURL: a part is missing or out of its range.
    """

    sentinels: Sequence[str | Address]
    name: str
    _: KW_ONLY
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    ssl: bool = False
    sentinel_ssl: bool | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True
    socket_timeout: float = 5.0
    socket_connect_timeout: float = 1.0
    sentinel_timeout: float = 0.3
    client_name: str | None = None

    def __post_init__(self) -> None:
        listed = [self.sentinels] if isinstance(self.sentinels, str) else self.sentinels
        object.__setattr__(self, "sentinels", tuple(dict.fromkeys(_address(entry) for entry in listed)))
        if not self.sentinels:
            raise InvalidURL("no Sentinel is listed")
        if not self.name or re.search(r"\s", self.name):
            raise InvalidURL(f"the name of the master is missing or has a blank in it: {self.name!r}")
        try:
            self._check_ranges()
        except ValueError as error:
            raise InvalidURL(str(error)) from None

    def _check_ranges(self) -> None:
        _policy.whole(self.db, "db", low=0, high=2**31)
        _policy.seconds(self.socket_timeout, "socket_timeout", low=0.1, high=600)
        _policy.seconds(self.socket_connect_timeout, "socket_connect_timeout", low=0.1, high=600)
        _policy.seconds(self.sentinel_timeout, "sentinel_timeout", low=0.05, high=60)
        _policy.one_of(self.ssl_cert_reqs, "ssl_cert_reqs", ("required", "optional", "none"))

    @property
    def listed(self) -> tuple[Address, ...]:
        """The Sentinels as host and port."""
        return tuple(entry for entry in self.sentinels if isinstance(entry, tuple))

    @property
    def sentinels_with_tls(self) -> bool:
        """Whether the Sentinels are spoken to in TLS."""
        return self.ssl if self.sentinel_ssl is None else self.sentinel_ssl

    @property
    def url(self) -> str:
        """The same as a URL, passwords included: mask it before you print it."""
        login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        hosts = ",".join(shown(address) for address in self.listed)
        left_out = ("sentinels", "name", "_", "db", "ssl", "password", *(["username"] * bool(login)))
        values = [(each.name, getattr(self, each.name), each.default) for each in fields(self)]
        given = [(name, str(value)) for name, value, usual in values if name not in left_out and value != usual]
        query = urlencode(given)
        scheme = "rediss" if self.ssl else "redis"
        return f"{scheme}+sentinel://{login}{hosts}/{quote(self.name, safe='')}/{self.db}{'?' * bool(query)}{query}"

    def watched(self) -> Sentinel:
        """What of this concerns the Sentinels: equal for all clients that can share one watch."""
        same = {"db": 0, "username": None, "password": None, "client_name": None, "socket_timeout": 5.0}
        tls = {"ssl": False, "sentinel_ssl": self.sentinels_with_tls}
        return replace(self, socket_connect_timeout=1.0, **same, **tls)  # type: ignore[arg-type]


def parse(url: str, shown: str) -> Sentinel:
    """Reads `redis+sentinel://[user:password@]host:port,host:port/name[/db][?option=value&...]`.

    Args:
        url: the URL; `rediss+sentinel` is TLS to master and Sentinels.
        shown: the URL without its passwords, for messages.

    Raises:
        InvalidURL: the text has no password in it.
    """
    match = re.fullmatch(r"(rediss?)\+sentinel://(?:(.*)@)?([^/@?#]*)/([^/?#]+)(?:/(\d*))?/?(?:\?([^#]*))?", url)
    if match is None:
        raise InvalidURL(f"{shown} is not redis+sentinel://[user:password@]host:port,host:port/name-of-the-master[/db]")
    scheme, credentials, hosts, name, db, query = match.groups()
    username, _, password = (credentials or "").partition(":")
    given = {key: value for key, value in (("username", username), ("password", password)) if value}
    if re.search(r"[/?#@]", username + password):
        raise InvalidURL(f"{shown} can't be parsed: the password has one of / ? # @ without percent-encoding")
    try:
        options = {key: unquote(value) for key, value in given.items()} | _options(query or "")
        return Sentinel(
            [_address(host) for host in hosts.split(",")],
            unquote(name),
            db=int(db or 0),
            ssl=scheme == "rediss",
            **options,
        )
    except ValueError as error:
        raise InvalidURL(f"{shown}: {error}") from None


def _options(query: str) -> dict[str, Any]:
    kinds = {each.name: str(each.type) for each in fields(Sentinel)}
    allowed = [name for name in kinds if name not in ("sentinels", "name", "_", "db", "ssl")]
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        _policy.one_of(name, "an option", allowed)
        options[name] = _option(name, kinds[name], value)
    return options


def _option(name: str, kind: str, value: str) -> object:
    if "bool" in kind:
        return _policy.one_of(value.lower(), name, ("true", "false", "1", "0")) in ("true", "1")
    if kind != "float":
        return value
    try:
        return float(value)
    except ValueError:
        raise InvalidURL(f"{name} is a number of seconds, not {value!r}") from None


def _address(entry: object) -> Address:
    if isinstance(entry, str):
        match = re.fullmatch(r"(\[[^\]\s]+\]|[^:\[\]\s@]+)(?::(\d{1,5}))?", entry)
        entry = (match[1].strip("[]"), int(match[2] or PORT)) if match else None
    match entry:
        case (str(host), int(port)) if host and 0 < port < 65536:
            return host, port
    raise InvalidURL("a Sentinel is host, host:port or [IPv6]:port, with a port from 1 to 65535")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one Sentinel said, or why it said nothing.

    Attributes:
        epoch: of its configuration; -1 where it does not tell.
        run_id: its own id, the same under whatever address it is reached.
        others: id and address of the Sentinels that it knows.
        failure: why there is no answer; empty where there is one.
        replicas: of this master that it knows, those that are away included.
    """

    sentinel: Address
    master: Address | None = None
    epoch: int = -1
    flags: frozenset[str] = frozenset()
    run_id: str = ""
    others: tuple[tuple[str, Address], ...] = ()
    failure: str = ""
    replicas: int = 0

    @property
    def denied(self) -> bool:
        """Whether it refuses our credentials."""
        return any(word in self.failure for word in _DENIED)

    def __str__(self) -> str:
        host, port = self.sentinel
        said = self.failure or ("master " + shown(self.master) if self.master else "does not know this master")
        return f"{host}:{port}: {said}"


def questions(name: str) -> list[tuple[str, ...]]:
    """What a Sentinel is asked, in one go.

    The epoch before the address: were the two to straddle a switch, a new address with an old epoch does no harm.
    """
    return [
        ("SENTINEL", "MASTER", name),
        ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name),
        ("SENTINEL", "SENTINELS", name),
        ("SENTINEL", "MYID"),
    ]


def answer_of(sentinel: Address, replies: Sequence[Any]) -> Answer:
    """Reads the replies to `questions`; error replies are exceptions. Only the second has to be there."""
    master, address, others, run_id = replies
    if isinstance(address, Exception):
        return Answer(sentinel, failure=str(address))
    facts = {} if isinstance(master, Exception) else _facts(master)
    known = [] if isinstance(others, Exception) else [_facts(entry) for entry in others]
    return Answer(
        sentinel,
        (address[0].decode(), int(address[1])) if address else None,
        int(facts.get("config-epoch", -1)),
        frozenset(facts["flags"].split(",")) if "flags" in facts else frozenset(),
        "" if isinstance(run_id, Exception) else run_id.decode(),
        tuple((each["runid"], (each["ip"], int(each["port"]))) for each in known if each.get("port", "0") != "0"),
        replicas=int(facts.get("num-slaves", 0)),
    )


def _facts(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Known:
    """The master as it was last decided; `confirmed` is when a Sentinel said so last, on a monotonic clock."""

    master: Address
    epoch: int
    confirmed: float


def judge(answers: Iterable[Answer], known: Known | None, now: float) -> Known | None:
    """The master by the latest answer of each Sentinel, and by what was known before."""
    everyone = list(answers)
    naming = [answer for answer in everyone if answer.master]
    if not naming:
        return known
    top = max(answer.epoch for answer in naming)
    if known and top < known.epoch and not _forgotten(known, now, len(naming), len(everyone)):
        return known
    votes = Counter(answer.master for answer in naming if answer.epoch == top and answer.master)
    if known and top == known.epoch >= 0 and known.master in votes:
        return replace(known, confirmed=now)  # an epoch has one master: who says otherwise has half of the news
    (master, _), *_rest = votes.most_common(1)
    return Known(master, top, now)


def _forgotten(known: Known, now: float, naming: int, everyone: int) -> bool:
    """Whether the Sentinels were set up anew: for long none of them knows our epoch, and most of them know another."""
    return now - known.confirmed > FORGOTTEN_AFTER and naming * 2 > everyone


def unlisted(sentinel: Sentinel, answers: Iterable[Answer]) -> set[Address]:
    """Sentinels that the others know and that nobody asks yet under another address."""
    asked = list(answers)
    ids = {answer.run_id for answer in asked if answer.sentinel in sentinel.listed and answer.run_id}
    found = {address for answer in asked for run_id, address in answer.others if run_id not in ids}
    return found - set(sentinel.listed)


def no_master(name: str, answers: Iterable[Answer]) -> Exception:
    """Why there is no master: `Retry`, or an error where another attempt would get the same answer."""
    everyone = sorted(answers, key=lambda answer: answer.sentinel)
    said = "; ".join(str(answer) for answer in everyone)
    if everyone and all(answer.denied for answer in everyone):
        return AccessDenied(f"the Sentinels of {name!r} refuse the credentials ({said})")
    if everyone and not any(answer.failure for answer in everyone):
        return _unknown_name(name, said)
    return Retry(f"no Sentinel names a master for {name!r} ({said})", Applied.NO)


def _unknown_name(name: str, said: str) -> ReliqError:
    return Unavailable(
        f"all Sentinels answer, and none knows a master called {name!r} ({said})",
        may_have_been_applied=False,
        attempts=1,
        seconds=0.0,
    )


def shown(address: Address | None) -> str:
    """An address for messages."""
    if address is None:
        return "unknown"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
