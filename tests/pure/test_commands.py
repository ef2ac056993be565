from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pure.held import item

from reliq import ItemState, _commands, _scripts
from reliq._commands import Body, Failure
from reliq._session import Command, Session

CLAIM: dict[str, Any] = {"lease": 1.0, "receipt": b"r" * 16, "asked_at": 0.0}
MAKE: dict[str, Callable[[], Command[Any]]] = {
    "enqueue": lambda: _commands.enqueue([Body(b"a", b"1")]),
    "claim": lambda: _commands.claim(Session("q"), 1, **CLAIM),
    "finish_and_claim": lambda: _commands.finish_and_claim(Session("q"), [item()], 1, **CLAIM),
    "finish": lambda: _commands.finish([item()]),
    "release": lambda: _commands.release([item()]),
    "renew": lambda: _commands.renew([item()], 1.0),
    "fail": lambda: _commands.fail([Failure(item(), "no")]),
    "recover": lambda: _commands.recover(5),
    "requeue": lambda: _commands.requeue(["a"]),
    "resolve": lambda: _commands.resolve(["a"], "finish"),
    "cancel": lambda: _commands.cancel(["a"]),
    "discard": lambda: _commands.discard(["a"]),
    "redrive": lambda: _commands.redrive(5, b"token"),
    "purge": lambda: _commands.purge(ItemState.DEAD, 5),
    "configure": lambda: _commands.configure({"retry": "head"}),
    "pause": lambda: _commands.pause(claim=True, enqueue=False),
    "resume": _commands.resume,
    "inspect": _commands.inspect,
    "oldest": lambda: _commands.oldest(ItemState.DEAD),
    "scan": lambda: _commands.scan(ItemState.DEAD, b"", 5),
    "get": lambda: _commands.get(Session("q"), [b"a"]),
}


def test_every_script_has_a_command() -> None:
    """A script without its function, or a function without its script, has no place here."""
    assert sorted(MAKE) == _scripts.names()


@pytest.mark.parametrize("verb", MAKE)
def test_the_arguments_are_those_of_the_script(verb: str) -> None:
    """A command passes as many arguments as its script binds, and more only where the script takes more."""
    command = MAKE[verb]()
    script = command.script
    assert script.name == verb
    bound = len(script.args) - 2  # the epoch and the time come from the session
    assert len(command.args) > bound if script.open_ended else len(command.args) == bound


@pytest.mark.parametrize("verb", MAKE)
def test_the_whole_command(verb: str) -> None:
    """On the wire: the script's digest, its keys in order, all under the queue's hash tag, the epoch and the time."""
    session, command = Session("q"), MAKE[verb]()
    session.epoch, session.now_ms = b"7", b"1800000000000"
    name, sha, count, *rest = session.wire(command)
    assert (name, sha, count) == ("EVALSHA", command.script.sha, len(command.script.keys))
    assert isinstance(count, int)
    assert rest[:count] == [b"reliq:{q}:" + key.encode() for key in command.script.keys]
    assert rest[count:] == [b"7", b"1800000000000", *command.args]
    assert all(isinstance(part, bytes | str | int) for part in rest)


def test_the_epoch_is_learnt_from_every_reply() -> None:
    """A session takes the epoch from a reply, and sends it from then on."""
    session = Session("q")
    session.accept(_commands.resume(), [b"ok", b"42"])
    assert session.wire(_commands.resume())[-2] == b"42"


def test_items_go_out_in_runs_of_one_receipt() -> None:
    """Items are grouped by receipt: receipt, number of ids, ids; the reply's indexes are in that order."""
    a, b, c = item("a", b"1"), item("b", b"2"), item("c", b"1")
    command = _commands.finish([a, b, c])
    assert list(command.args) == [b"1", 2, b"a", b"c", b"2", 1, b"b"]
    assert command.decode([b"ok", b"1", [1, 2]]) == ["c", "b"]


def test_failures_in_runs() -> None:
    """A failure is an id, when to try again, a random number and the error's text, cut to 4 KiB."""
    command = _commands.fail(
        [Failure(item("a"), "x" * 9000, after=1.5), Failure(item("b"), "y", dead=True), Failure(item("c"), "z")]
    )
    receipt, size, *rest = command.args
    assert (receipt, size) == (b"r" * 16, 3)
    ids, afters, jitters, errors = (rest[n::4] for n in range(4))
    assert ids == [b"a", b"b", b"c"]
    assert afters == [1500, "dead", ""]
    assert all(0 <= float(jitter) <= 1 for jitter in jitters)
    assert errors == [b"x" * 4096, b"y", b"z"]
    outcomes = command.decode([b"ok", b"1", [b"1800000000500", b"dead", b"lost"]])
    assert [outcome and (outcome.state, outcome.due_at) for _, outcome in outcomes] == [
        (ItemState.SCHEDULED, 1800000000.5),
        (ItemState.DEAD, None),
        None,
    ]


def test_times_are_sent_only_where_there_are_some() -> None:
    """Two parts for an item, three for all of a call where one of them is due later."""
    assert list(_commands.enqueue([Body(b"a", b"1"), Body(b"b", b"2")]).args)[1:] == [b"a", b"1", b"b", b"2"]
    mixed = _commands.enqueue([Body(b"a", b"1"), Body(b"b", b"2", "+5")])
    assert [str(mixed.args[0]), *mixed.args[1:]] == ["3", b"a", b"1", "", b"b", b"2", "+5"]


def test_an_id_twice_is_sent_once() -> None:
    """The first of two counts, at its place; the answer is for both."""
    command = _commands.enqueue([Body(b"a", b"1"), Body(b"b", b"2"), Body(b"a", b"3")])
    assert list(command.args)[1:] == [b"a", b"1", b"b", b"2"]
    results = command.decode([b"ok", b"1", [1]])
    assert [(result.id, result.created) for result in results] == [("a", True), ("b", False), ("a", False)]


def test_ids_twice_are_asked_once() -> None:
    """Verbs that go by ids send each once, and tell what is not as was asked."""
    command = _commands.requeue(["a", "b", "a", "c"])
    assert command.args == (b"a", b"b", b"c")
    moved = command.decode([b"ok", b"1", [b"dead", b"finished", b""]])
    assert moved.ids == ("a",)
    assert moved.skipped == {"b": ItemState.FINISHED, "c": None}
    assert not moved
