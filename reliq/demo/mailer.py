"""The handler: makes a mail of an item and delivers it over SMTP."""

from __future__ import annotations

import smtplib
import threading
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from reliq.item import Item

WORKER_HEADER = "X-Reliq-Worker"
DELIVERY_HEADER = "X-Reliq-Delivery"

_SENDER = Address("reliq demo shop", "orders", "example.com")
_TIMEOUT = 10.0  # seconds for an answer of the SMTP server

_TEXT = """\
Hello {name},

thank you: your order {order} has left our house.

The demo shop
"""


def message_id_of(item_id: str) -> str:
    """The Message-ID of an item's mail: the same at each delivery, so that a receiver can tell a repeat."""
    return f"<{item_id}@example.org>"


def compose(item: Item, worker: str) -> EmailMessage:
    """The mail for an item whose payload has name, email and order."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = _SENDER
    mail["To"] = Address(item.payload["name"], addr_spec=item.payload["email"])
    mail["Subject"] = f"Your order {item.payload['order']}"
    mail["Date"] = format_datetime(datetime.fromtimestamp(item.enqueued_at, UTC))
    mail["Message-ID"] = message_id_of(item.id)
    mail[WORKER_HEADER] = worker
    mail[DELIVERY_HEADER] = str(item.delivery)
    mail.set_content(_TEXT.format(**item.payload))
    return mail


class Mailer:
    """Delivers items as mails. Called from several threads, each of which has an SMTP connection of its own.

    Args:
        port: loopback port of the SMTP server.
        worker: name that the mails carry.
    """

    def __init__(self, port: int, worker: str) -> None:
        self.port = port
        self.worker = worker
        self._mine = threading.local()
        self._all: set[smtplib.SMTP] = set()

    def __call__(self, item: Item) -> None:
        """Returns when the SMTP server has accepted the mail.

        Raises:
            smtplib.SMTPException, OSError: it has not, or nobody knows. The next delivery uses a new connection.

        If the process dies in here, or after it and before the item is finished, the mail may be sent again.
        """
        try:
            self._connection().send_message(
                compose(item, self.worker), from_addr=_SENDER.addr_spec, to_addrs=[item.payload["email"]]
            )
        except (smtplib.SMTPException, OSError):
            self._drop_connection()
            raise

    def close(self) -> None:
        """Closes the connections of all threads, once these are through."""
        for smtp in self._all:
            smtp.close()

    def _connection(self) -> smtplib.SMTP:
        if getattr(self._mine, "smtp", None) is None:
            smtp = smtplib.SMTP("127.0.0.1", self.port, local_hostname="localhost", timeout=_TIMEOUT)
            self._mine.smtp = smtp
            self._all.add(smtp)
        mine: smtplib.SMTP = self._mine.smtp
        return mine

    def _drop_connection(self) -> None:
        smtp, self._mine.smtp = getattr(self._mine, "smtp", None), None
        if smtp is not None:
            self._all.discard(smtp)
            smtp.close()
