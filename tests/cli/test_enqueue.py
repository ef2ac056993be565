"""`reliq enqueue`."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
import redis
from servers import wait_until

import reliq
from reliq._keys import Keys

from .conftest import Call, kill


def payloads(queue: reliq.Queue) -> list[object]:
    return [info.payload for info in queue.scan("queued")]


def test_arguments_are_json_payloads(run: Call, emails: reliq.Queue) -> None:
    """Each argument becomes an item, in order, and the counts are printed."""
    ran = run("enqueue", "emails", '{"to": "ann"}', "[1, null]", '"word"')
    assert (ran.code, ran.out) == (0, "3 created, 0 already there\n")
    assert payloads(emails) == [{"to": "ann"}, [1, None], "word"]


@pytest.mark.parametrize("word", ["word", "{to: ann}", "NaN", "[1e999]", "[" * 5000])
def test_what_is_no_json_is_refused_with_a_hint(run: Call, emails: reliq.Queue, word: str) -> None:
    """Nothing is sent, also of the good payloads before it, and the message says how to quote."""
    ran = run("enqueue", "emails", "1", word)
    assert ran.code == 2
    assert "not JSON" in ran.err
    assert "--text" in ran.err
    assert payloads(emails) == []


def test_text_is_taken_as_it_stands(run: Call, emails: reliq.Queue) -> None:
    """With --text an argument is a string, also where it would be JSON."""
    assert run("enqueue", "--text", "emails", "word", "12").code == 0
    assert payloads(emails) == ["word", "12"]


def test_an_id_makes_a_repeat_harmless(run: Call, emails: reliq.Queue) -> None:
    """The second enqueue of an id says that it is there already."""
    assert run("-o", "json", "enqueue", "emails", "1", "--id", "a").data == [{"id": "a", "created": True}]
    assert run("enqueue", "emails", "1", "--id", "a").out == "0 created, 1 already there\n"


def test_delay_and_headers(run: Call, emails: reliq.Queue) -> None:
    """A delayed item is scheduled, and has its headers."""
    assert run("enqueue", "emails", "1", "--id", "a", "--delay", "2h", "--header", "trace=x=y").code == 0
    info = emails.get("a")
    assert info.state == "scheduled"
    assert info.headers == {"trace": "x=y"}
    assert info.at is not None
    assert 7100 < info.at - time.time() < 7300


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "pass payloads"),
        (["1", "--file", "-"], "not from both"),
        (["1", "2", "--id", "a"], "--id is for one payload"),
        (["1", "--envelope"], "--envelope is for --file"),
        (["1", "--header", "x"], "NAME=VALUE"),
        (["--file", "-", "--envelope", "--delay", "5s"], "in the envelopes"),
        (["1", "--delay", "soon"], "not a duration"),
        (["1", "--id", ""], "an id is 1 to 200"),
    ],
)
def test_usage_errors(run: Call, emails: reliq.Queue, args: list[str], message: str) -> None:
    """Options that don't fit together end with 2 and say why; nothing is sent."""
    ran = run("enqueue", "emails", *args)
    assert ran.code == 2
    assert message in ran.err
    assert payloads(emails) == []


def test_lines_of_a_file(run: Call, emails: reliq.Queue, tmp_path: Path) -> None:
    """Every line is an item in order; blank lines and line ends of other systems don't matter."""
    file = tmp_path / "lines"
    file.write_bytes(b'1\r\n\n  \n"\xc3\xa9"\n{"a": 2}')
    assert run("enqueue", "emails", "--file", str(file)).out == "3 created, 0 already there\n"
    assert payloads(emails) == [1, "é", {"a": 2}]


def test_text_lines_lose_only_their_line_end(run: Call, emails: reliq.Queue) -> None:
    """With --text the blanks around a line stay."""
    assert run("enqueue", "emails", "--text", "--file", "-", stdin=" a b \r\nc\n").code == 0
    assert payloads(emails) == [" a b ", "c"]


def test_envelopes_have_options(run: Call, emails: reliq.Queue) -> None:
    """With --envelope a line brings id, delay or time, and headers."""
    lines = [
        {"payload": 1, "id": "a", "headers": {"h": "v"}},
        {"payload": None, "id": "b", "delay": "10m"},
        {"payload": 3, "id": "c", "delay": 600},
        {"payload": 4, "id": "d", "at": "2030-01-01T00:00:00Z"},
        {"payload": 5, "id": "e", "at": 1893456000.5},
    ]
    ran = run("enqueue", "emails", "--envelope", "--file", "-", stdin="\n".join(map(json.dumps, lines)))
    assert ran.code == 0, ran.err
    assert emails.get("a").headers == {"h": "v"}
    assert [emails.get(i).state for i in "abcd"] == ["queued", "scheduled", "scheduled", "scheduled"]
    assert (emails.get("d").at, emails.get("e").at) == (1893456000.0, 1893456000.5)


BAD = [
    (b"word", "not JSON"),
    (b'"\xff"', "not UTF-8"),
    (b'["' + b"x" * 600_000 + b'"]', "the limit is"),
    (b'"' + b"x" * 17_000_000 + b'"', "longer than"),
]
BAD_ENVELOPES = [
    (b"1", "an envelope is an object"),
    (b'{"id": "a"}', "an envelope is an object"),
    (b'{"payload": 1, "dealy": 5}', "'dealy'"),
    (b'{"payload": 1, "id": 5}', "an id is a string"),
    (b'{"payload": 1, "id": "a\\nb"}', "printable"),
    (b'{"payload": 1, "delay": -1}', "delay is"),
    (b'{"payload": 1, "delay": "soon"}', "not a duration"),
    (b'{"payload": 1, "at": "2030-01-01T00:00:00"}', "offset from UTC"),
    (b'{"payload": 1, "at": "tomorrow"}', "at:"),
    (b'{"payload": 1, "delay": 1, "at": 2}', "exclude"),
    (b'{"payload": 1, "headers": []}', "headers"),
    (b'{"payload": 1, "headers": {"a": 1}}', "headers"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_stops_everything(run: Call, emails: reliq.Queue, line: bytes, message: str) -> None:
    """One bad line is named with its number, and nothing is sent."""
    ran = run("enqueue", "emails", "--file", "-", stdin=b"1\n" + line + b"\n3\n")
    assert ran.code == 1
    assert "line 2: " in ran.err
    assert message in ran.err
    assert payloads(emails) == []


@pytest.mark.parametrize(("line", "message"), BAD_ENVELOPES)
def test_a_bad_envelope_stops_everything(run: Call, emails: reliq.Queue, line: bytes, message: str) -> None:
    """What an envelope can't say is found before anything is sent."""
    ran = run("enqueue", "emails", "--envelope", "--file", "-", stdin=b'{"payload": 1}\n' + line)
    assert ran.code == 1
    assert "line 2: " in ran.err
    assert message in ran.err
    assert payloads(emails) == []


def test_all_bad_lines_are_named(run: Call, emails: reliq.Queue) -> None:
    """A file is repaired in one go."""
    ran = run("enqueue", "emails", "--file", "-", stdin="x\n1\ny\n")
    assert [line.split(":")[1].strip() for line in ran.err.splitlines()[:2]] == ["line 1", "line 3"]
    assert "2 of 3 lines" in ran.err


def test_skip_sends_the_good_lines(run: Call, emails: reliq.Queue) -> None:
    """With --on-error skip the good lines are sent, and 6 says that some were not."""
    ran = run("enqueue", "emails", "--on-error", "skip", "--file", "-", stdin="1\nx\n3\n")
    assert (ran.code, ran.out) == (6, "2 created, 0 already there\n")
    assert payloads(emails) == [1, 3]


def test_skip_with_no_good_line_is_a_failure(run: Call, emails: reliq.Queue) -> None:
    """Where nothing could be sent, nothing was done partly."""
    assert run("enqueue", "emails", "--on-error", "skip", "--file", "-", stdin="x\ny\n").code == 1


def test_ids_are_printed_as_json_lines(run: Call, emails: reliq.Queue) -> None:
    """With -o jsonl each item has a line, in the order of the payloads; the counts go to stderr."""
    ran = run("enqueue", "emails", "1", "2", "-o", "jsonl")
    ids = [json.loads(line)["id"] for line in ran.out.splitlines()]
    assert ids == [info.id for info in emails.scan("queued")]
    assert ran.err == "2 created, 0 already there\n"


def test_a_full_queue_says_how_far_it_came(run: Call, emails: reliq.Queue) -> None:
    """Where the queue refuses in the middle, 6 and the first line that is not confirmed are what a script needs."""
    emails.configure(max_length=1500)
    ran = run("enqueue", "emails", "--file", "-", stdin="\n" + "1\n" * 2500)
    assert ran.code == 6
    assert "from line 1002 on" in ran.err
    assert emails.counts().queued == 1000


def test_a_full_queue_refuses(run: Call, emails: reliq.Queue) -> None:
    """Where it refuses at once, that is a refusal."""
    emails.configure(max_length=1)
    ran = run("enqueue", "emails", "1", "2")
    assert ran.code == 5
    assert "at most 1 items" in ran.err


def test_waiting_for_room(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """With --wait it goes on when there is room, and gives up in the end."""
    emails.configure(max_length=1)
    emails.enqueue("first")

    def make_room() -> None:
        wait_until(lambda: redis_client.zcard(Keys("emails")["producers"]), "it waits")
        emails.finish(emails.claim())

    worker = threading.Thread(target=make_room)
    worker.start()
    assert run("enqueue", "emails", "1", "--wait", "20s").code == 0
    worker.join()
    assert payloads(emails) == [1]
    assert run("enqueue", "emails", "1", "--wait", "100ms").code == 5


def test_a_group(run: Call, emails: reliq.Queue) -> None:
    """For all payloads, or in each envelope."""
    assert run("enqueue", "emails", "1", "--group", "ann").code == 0
    assert run("enqueue", "emails", "--envelope", "-f", "-", stdin='{"payload": 2, "group": "bo"}').code == 0
    assert [(item.payload, item.group) for item in emails.claim(5)] == [(1, "ann"), (2, "bo")]
    assert run("enqueue", "emails", "--envelope", "-f", "-", "--group", "ann", stdin="{}").code == 2


def test_a_pipe_is_read_twice(program: Call, emails: reliq.Queue) -> None:
    """Standard input can't be rewound: it is written down first, however long it is."""
    ran = program("enqueue", "emails", "--file", "-", stdin=b'"payload"\n' * 5000)
    assert (ran.code, ran.out) == (0, "5000 created, 0 already there\n"), ran.err
    assert emails.counts().queued == 5000


def test_nothing_is_sent_before_a_pipe_ends(program: Call, emails: reliq.Queue, tmp_path: Path) -> None:
    """A bad last line of a pipe is found while nothing has been sent."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"1\n" * 3000 + b"x\n",))
    writer.start()
    ran = program("enqueue", "emails", "--file", str(pipe))
    writer.join()
    assert ran.code == 1
    assert "line 3001" in ran.err
    assert emails.counts().enqueued == 0


def test_a_second_run_over_envelopes_with_ids_adds_nothing(run: Call, emails: reliq.Queue, tmp_path: Path) -> None:
    """An import that was broken off can be repeated, also when items of it are finished by then."""
    file = tmp_path / "lines"
    file.write_text("".join(f'{{"payload": {n}, "id": "n{n}"}}\n' for n in range(20)))
    assert run("enqueue", "emails", "--envelope", "-f", str(file)).out == "20 created, 0 already there\n"
    emails.finish(emails.claim(20))
    assert run("enqueue", "emails", "--envelope", "-f", str(file)).out == "0 created, 20 already there\n"


def test_enqueue_to_a_dead_id(run: Call, emails: reliq.Queue) -> None:
    """An id among the dead is already there, too."""
    (dead,) = kill(emails, 1)
    assert run("enqueue", "emails", "1", "--id", dead).out == "0 created, 1 already there\n"
