"""URLs, what Sentinels answer, and which master that makes. No server, no clock."""

from __future__ import annotations

import pickle

import pytest

from reliq import AccessDenied, InvalidURL, Queue, Sentinel, Unavailable, _topology
from reliq._policy import Retry
from reliq._topology import Answer, Known

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
S1, S2, S3 = (("s1", 26379), ("s2", 26379), ("s3", 26379))


def parse(url: str) -> Sentinel:
    return _topology.parse(url, "shown")


def test_whole_url() -> None:
    """All parts of a URL arrive where they belong."""
    found = parse(
        "redis+sentinel://ann:p%40ss@s1,s2:26380,[::1]:26381/mymaster/3"
        "?sentinel_username=bo&sentinel_password=x%26y&sentinel_timeout=0.2&socket_timeout=2"
    )
    assert found.listed == (("s1", 26379), ("s2", 26380), ("::1", 26381))
    assert (found.name, found.db, found.username, found.password) == ("mymaster", 3, "ann", "p@ss")
    assert (found.sentinel_username, found.sentinel_password) == ("bo", "x&y")
    assert (found.sentinel_timeout, found.socket_timeout, found.ssl) == (0.2, 2.0, False)


@pytest.mark.parametrize("query", ["", "?sentinel_ssl=false", "?ssl_cert_reqs=none&ssl_check_hostname=false"])
def test_tls(query: str) -> None:
    """rediss is TLS to both, unless the Sentinels have none."""
    found = parse(f"rediss+sentinel://s1/mymaster{query}")
    assert found.ssl
    assert found.sentinels_with_tls == ("sentinel_ssl" not in query)


@pytest.mark.parametrize(
    "sentinel",
    [
        Sentinel(["s1", ("s2", 26380)], "mymaster"),
        Sentinel(
            ["[::1]:26379"], "m/a", db=2, password="p@:/?#", sentinel_password="&=%", ssl=True, sentinel_ssl=False
        ),
        Sentinel("s1", "m", username="ann", password="x", socket_timeout=1.5, client_name="a b"),
    ],
)
def test_object_and_url_say_the_same(sentinel: Sentinel) -> None:
    """What an object says can be written as a URL, and pickled."""
    assert parse(sentinel.url) == sentinel
    assert pickle.loads(pickle.dumps(sentinel)) == sentinel


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://s1:26379",
        "redis+sentinel:///mymaster",
        "redis+sentinel://s1:0/mymaster",
        "redis+sentinel://s1:x/mymaster",
        "redis+sentinel://s1,,s2/mymaster",
        "redis+sentinel://s1/mymaster/x",
        "redis+sentinel://s1/my%20master",
        "redis+sentinel://s1/mymaster?nonsense=1",
        "redis+sentinel://s1/mymaster?sentinel_timeout=soon",
        "redis+sentinel://s1/mymaster?sentinel_timeout=1000",
        "redis+sentinel://s1/mymaster?sentinel_ssl=perhaps",
        "redis+sentinel://:secret@s1/",
        "redis+sentinel://:sec/ret@s1/mymaster",
        "redis+sentinel://:secret@s1/mymaster?sentinel_password=secret&db=1",
    ],
)
def test_bad_urls(url: str) -> None:
    """Each says that it can't be used, and none shows a password."""
    with pytest.raises(InvalidURL) as caught:
        Queue("q", url)
    assert "secret" not in str(caught.value)
    assert "ret@" not in str(caught.value)


def test_no_password_is_shown() -> None:
    """The representation of a topology has no password in it."""
    shown = repr(Sentinel(["s1"], "mymaster", password="hidden1", sentinel_password="hidden2"))
    assert "hidden" not in shown


# Which master it is


def test_highest_epoch_wins_over_votes() -> None:
    """One Sentinel that knows of a newer configuration is right, two that do not are late."""
    answers = [Answer(S1, A, 4), Answer(S2, A, 4), Answer(S3, B, 5)]
    assert _topology.judge(answers, Known(A, 4, 0.0), 1.0) == Known(B, 5, 1.0)


def test_votes_where_no_epoch_is_told() -> None:
    """Without the right to ask for the epoch the greater number counts."""
    answers = [Answer(S1, A), Answer(S2, B), Answer(S3, B)]
    assert _topology.judge(answers, Known(A, -1, 0.0), 1.0) == Known(B, -1, 1.0)


def test_what_was_known_stays() -> None:
    """Nobody answers, or only those who are behind: the known master stays, and is not confirmed by that."""
    known = Known(B, 5, 100.0)
    assert _topology.judge([Answer(S1, failure="refused")], known, 101.0) is known
    assert _topology.judge([Answer(S1, A, 4), Answer(S2, A, 4)], known, 101.0) is known
    assert _topology.judge([Answer(S1, A, 5), Answer(S2, A, 5), Answer(S3, B, 5)], known, 101.0) == Known(B, 5, 101.0)


def test_sentinels_that_were_set_up_anew() -> None:
    """A lower epoch counts when most Sentinels have it, and none has confirmed ours for long."""
    known, late = Known(B, 5, 100.0), 100.0 + _topology.FORGOTTEN_AFTER + 1
    assert _topology.judge([Answer(S1, A, 0), Answer(S2, A, 0)], known, late) == Known(A, 0, late)
    assert _topology.judge([Answer(S1, A, 0), Answer(S2), Answer(S3)], known, late) is known


def test_reading_an_answer() -> None:
    """Epoch, flags, address, id and the other Sentinels are read from what a Sentinel sends."""
    replies = [
        [b"name", b"mymaster", b"flags", b"master,o_down", b"config-epoch", b"7"],
        [b"10.0.0.1", b"6379"],
        [[b"ip", b"s2", b"port", b"26379", b"runid", b"b" * 40], [b"ip", b"s3", b"port", b"0", b"runid", b"c"]],
        b"a" * 40,
    ]
    answer = _topology.answer_of(S1, replies)
    assert (answer.master, answer.epoch, answer.flags) == (A, 7, frozenset({"master", "o_down"}))
    assert (answer.run_id, answer.others) == ("a" * 40, (("b" * 40, S2),))


def test_a_user_with_few_rights() -> None:
    """Of the four questions only that for the address has to be answered."""
    no = ValueError("NOPERM")
    assert _topology.answer_of(S1, [no, [b"10.0.0.1", b"6379"], no, no]) == Answer(S1, A, -1)
    assert _topology.answer_of(S1, [no, no, no, no]).denied


def test_who_is_not_listed() -> None:
    """Others that a Sentinel knows are asked too, unless they are asked already under another address."""
    listed = Sentinel([S1, S2], "mymaster")
    answers = [
        Answer(S1, A, 1, run_id="1", others=(("2", ("10.0.0.102", 26379)), ("3", S3))),
        Answer(S2, A, 1, run_id="2"),
    ]
    assert _topology.unlisted(listed, answers) == {S3}


def test_why_there_is_no_master() -> None:
    """Refused by all: at once. Unknown to all: at once. Anything else may pass."""
    refused = Answer(S1, failure="WRONGPASS invalid username-password pair or user is disabled.")
    assert isinstance(_topology.no_master("m", [refused]), AccessDenied)
    assert isinstance(_topology.no_master("m", [Answer(S1), Answer(S2)]), Unavailable)
    mixed = _topology.no_master("m", [refused, Answer(S2), Answer(S3, failure="no answer in 0.3 s")])
    assert isinstance(mixed, Retry)
    assert all(text in str(mixed) for text in ("s1:26379", "s2:26379: does not know", "s3:26379: no answer"))
