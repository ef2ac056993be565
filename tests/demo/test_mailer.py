"""The mails that go out, up to the SMTP server's log."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import default
from pathlib import Path

import pytest

from reliq import _ids
from reliq._reading import held_under
from reliq.demo import smtplog
from reliq.demo.command import SAMPLE
from reliq.demo.mailer import Mailer, compose, message_id_of
from reliq.demo.processes import Child
from reliq.demo.recipients import Recipient, read
from reliq.item import Item

ANN = Recipient(2, "Zoë Ångström, 李", "zoe@example.org", "A-1")


@dataclass
class Smtp:
    """A running SMTP server of the demo."""

    child: Child
    port: int
    log: Path


@pytest.fixture
def smtp(tmp_path: Path) -> Iterator[Smtp]:
    log = tmp_path / "accepted.jsonl"
    with Child("smtp", "reliq.demo.smtp", str(log)) as child:
        yield Smtp(child, json.loads(child.greeting())["port"], log)


STAMP = ((1_750_000_000 - 1_735_689_600) * 200_000).to_bytes(6)  # of an item of June 2025, see lua/_stamp.lua


def item_for(recipient: Recipient, delivery: int = 1) -> Item:
    history = f"p {delivery - 1} 0 0 ".encode() if delivery != 1 else None
    return Item(held_under("q", b""), _ids.pack(recipient.item_id), recipient.payload, {}, STAMP, history)


def test_a_mail_is_in_the_log_when_its_sender_hears_that_it_was_accepted(smtp: Smtp) -> None:
    """With Message-ID, recipient, worker and delivery."""
    with closing(Mailer(smtp.port, "worker-7")) as mailer:
        mailer(item_for(ANN, delivery=3))
    (mail,) = smtplog.read(smtp.log)
    assert (mail.message_id, mail.recipient) == (message_id_of(ANN.item_id), "zoe@example.org")
    assert (mail.worker, mail.delivery) == ("worker-7", 3)


def test_a_repeated_delivery_has_the_same_message_id(smtp: Smtp) -> None:
    """So that a receiver can tell a repeat from a second mail."""
    for worker in ("worker-1", "worker-2"):
        with closing(Mailer(smtp.port, worker)) as mailer:
            mailer(item_for(ANN))
    assert [mail.message_id for mail in smtplog.read(smtp.log)] == [message_id_of(ANN.item_id)] * 2


def test_a_mail_that_is_not_of_the_demo_is_refused_and_not_logged(smtp: Smtp) -> None:
    """The log holds what can be accounted for."""
    mail = compose(item_for(ANN), "worker-1")
    del mail["Message-ID"]
    with smtplib.SMTP("127.0.0.1", smtp.port) as client, pytest.raises(smtplib.SMTPDataError, match="not a mail"):
        client.send_message(mail, "orders@example.com", ["zoe@example.org"])
    assert not smtplog.read(smtp.log)


def test_a_mailer_goes_on_after_a_refused_mail(smtp: Smtp) -> None:
    """The next delivery has a new connection."""
    with closing(Mailer(smtp.port, "worker-1")) as mailer:
        with pytest.raises(smtplib.SMTPException):
            mailer(item_for(ANN, delivery=-1))
        mailer(item_for(ANN))
    assert [mail.recipient for mail in smtplog.read(smtp.log)] == ["zoe@example.org"]


def test_a_delivery_to_a_server_that_is_gone_fails(smtp: Smtp) -> None:
    """The item must not be finished."""
    with closing(Mailer(smtp.port, "worker-1")) as mailer:
        mailer(item_for(ANN))
        smtp.child.kill()
        with pytest.raises((smtplib.SMTPException, OSError)):
            mailer(item_for(ANN))


def test_the_text_and_headers_arrive_as_they_were_meant() -> None:
    """UTF-8 in name and text, and a date from the item, so that a repeat is the same mail."""
    mail = message_from_bytes(compose(item_for(ANN), "worker-1").as_bytes(), policy=default)
    assert mail["To"].addresses[0].display_name == ANN.name
    assert mail["Subject"] == "Your order A-1"
    assert mail["Date"].datetime.timestamp() == 1_750_000_000.0
    assert mail.get_content().startswith(f"Hello {ANN.name},")


def test_the_names_of_the_sample_survive_their_encoding() -> None:
    """Decoded by RFC 2047 the display name is the name, and the address stays an address of its own."""
    for recipient in read(SAMPLE).recipients[::5]:
        raw = compose(item_for(recipient), "worker-1").as_bytes()
        header = raw.decode("ascii", "replace").replace("\r\n ", " ").split("To: ")[1].split("\r\n")[0]
        phrase, _, address = header.rpartition(" ")
        assert address == f"<{recipient.email}>"
        assert str(make_header(decode_header(phrase))).strip('"').replace('\\"', '"') == recipient.name


def test_the_log_is_read_on_while_it_grows(tmp_path: Path) -> None:
    """Each mail comes once, and a line that is half written is left for the next time."""
    path = tmp_path / "log"
    first, second = (smtplog.Accepted(1.0, f"<{n}@example.org>", "a@example.org", "w", 1) for n in (1, 2))
    with path.open("wb", buffering=0) as log:
        tail = smtplog.Tail(path)
        assert list(tail.fresh()) == []
        smtplog.write(log, first)
        log.write(b'{"at": 2.0, "message')
        assert list(tail.fresh()) == [first]
        log.seek(-20, 2)
        log.truncate()
        smtplog.write(log, second)
        assert list(tail.fresh()) == [second]
    assert smtplog.read(path) == [first, second]


def test_the_smtp_server_ends_with_its_standard_input(tmp_path: Path) -> None:
    """Its temporary log goes with it."""
    with Child("smtp", "reliq.demo.smtp", environment={"TMPDIR": str(tmp_path)}) as child:
        log = Path(json.loads(child.greeting())["log"])
        assert log.is_relative_to(tmp_path)
        assert log.exists()
    assert not list(tmp_path.iterdir())
