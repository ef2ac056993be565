from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pure.held import item

from reliq import BatchProgress, ItemState, _commands, _scripts
from reliq._commands import Body, Failure
from reliq._session import Command, Session

CLAIM: dict[str, Any] = {"lease": 1.0, "receipt": b"r" * 16, "asked_at": 0.0}
SPEC = _commands.BatchSpec(b"b", "settled", Body(b"t", b"2", "+5", b"g"))
STORED = _commands.StoredCron("c", 1000, None, b"ab", b"\x90")
MAKE: dict[str, Callable[[], Command[Any]]] = {
    "enqueue": lambda: _commands.enqueue([Body(b"a", b"1")]),
    "claim": lambda: _commands.claim(Session("q"), 1, **CLAIM),
    "finish_and_claim": lambda: _commands.finish_and_claim(Session("q"), [item()], 1, **CLAIM),
    "finish": lambda: _commands.finish([item()]),
    "finish_unseen": lambda: _commands.finish_unseen([(item(), b"\x02")], [Body(b"b", b"1")]),
    "finish_with": lambda: _commands.finish_with([(item(), b"\x02")], [Body(b"b", b"1")]),
    "checkpoint": lambda: _commands.checkpoint(item(), b"\xc0", 1.0),
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
    "batch": lambda: _commands.batch(SPEC, [Body(b"a", b"1")], sealed=True),
    "batch_progress": lambda: _commands.batch_progress(b"b"),
    "watch": lambda: _commands.watch(b"a", 1.0),
    "await_room": lambda: _commands.await_room(b"p", 1.0, 1, 20),
    "beat": lambda: _commands.beat("w", b"\x80", 5.0),
    "workers": _commands.workers,
    "crons": lambda: _commands.crons("all"),
    "cron_set": lambda: _commands.cron_set("c", b"", b"ab", b"\x90", "inf"),
    "cron_tick": lambda: _commands.cron_tick(STORED, 2, 1, [Body(b"a", b"1")]),
}


def test_every_script_has_a_command() -> None:
    """A script without its function, or a function without its script, has no place here. The mirror has its own."""
    assert (
        sorted({*MAKE, "end_again", "mirror", "put_back", "put_back_batch", "rebuild", "restore", "restore_batch"})
        == _scripts.names()
    )


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


def test_a_known_epoch_is_not_forgotten() -> None:
    """A late reply to a call that found no queue any more leaves it alone, so that the next call is refused."""
    session = Session("q")
    session.accept(_commands.resume(), [b"ok", b"42"])
    session.accept(_commands.resume(), [b"ok", b""])
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


def test_groups_are_sent_only_where_there_are_some() -> None:
    """Four parts for each item of a call where one is of a group."""
    mixed = _commands.enqueue([Body(b"a", b"1"), Body(b"b", b"2", "+5", b"g")])
    assert [str(mixed.args[0]), *mixed.args[1:]] == ["4", b"a", b"1", "", b"", b"b", b"2", "+5", b"g"]
    assert list(_commands.enqueue([Body(b"a", b"1", group=b"g")]).args) == [4, b"a", b"1", "", b"g"]


def test_where_a_failure_goes() -> None:
    """To be discarded comes before to be dead, and that before a time."""
    words = [Failure(item(), "", after=1.0, dead=True, discard=True), Failure(item(), "", after=1.0, dead=True)]
    assert [failure.word for failure in [*words, Failure(item(), "", after=0.0)]] == ["discard", "dead", 0]
    outcomes = _commands.fail([Failure(item(), "", discard=True)]).decode([b"ok", b"1", [b"removed"]])
    assert [outcome and outcome.state for _, outcome in outcomes] == [ItemState.REMOVED]


def test_endings_with_results() -> None:
    """Each ending is a receipt, an id and a result; what comes next follows; indexes of the reply are of endings."""
    following = [Body(b"c", b"3"), Body(b"d", b"4", "+5", b"g")]
    command = _commands.finish_with([(item("a"), b""), (item("b"), b"\x02")], following)
    first, second = (b"r" * 16, b"a", b""), (b"r" * 16, b"b", b"\x02")
    assert list(command.args) == [2, *first, *second, b"c", b"3", "", b"", b"d", b"4", "+5", b"g"]
    assert command.decode([b"ok", b"1", [1]]) == ["b"]


def test_a_batch() -> None:
    """A batch, what follows it, and four parts for each member; the reply says which of them were there."""
    command = _commands.batch(SPEC, [Body(b"a", b"1"), Body(b"a", b"9"), Body(b"c", b"3")], sealed=False)
    assert list(command.args[:7]) == [b"b", "settled", 0, b"t", "+5", b"g", b"2"]
    assert list(command.args[7:]) == [b"a", b"1", "", b"", b"c", b"3", "", b""]
    assert command.decode([b"ok", b"1", [1]]) == {b"c"}


def test_how_far_a_batch_is() -> None:
    """Its members and those that are awaited; -1 says that it is through."""
    command = _commands.batch_progress(b"b")
    assert command.decode([b"ok", b"1", 5, 3]) == BatchProgress(5, 3)
    assert command.decode([b"ok", b"1", -1, -1]) is None


def test_a_beat() -> None:
    """Whether this worker sweeps, and in how many seconds time brings something; -1 for never."""
    command = _commands.beat("w", b"", 2.5)
    assert list(command.args) == ["w", b"", 2500]
    assert command.decode([b"ok", b"1", 1, 1500, 0]) == _commands.Beat(sweeps=True, next_event=1.5, tick_due=True)
    assert command.decode([b"ok", b"1", 0, -1, -1]) == _commands.Beat(sweeps=False, next_event=None)


def test_what_a_watcher_is_told() -> None:
    """The state of the item, None where the queue does not know it."""
    command = _commands.watch(b"a", 0.5)
    assert list(command.args) == [b"a", 500]
    assert command.decode([b"ok", b"1", b"dead"]) is ItemState.DEAD
    assert command.decode([b"ok", b"1", b""]) is None
