"""A real SMTP server on a free loopback port, which keeps a log of what it accepted and throws the mails away.

Run as `python -m reliq.demo.smtp [LOG]`. It prints its port and its log's path as JSON when it listens, and ends when
its standard input does: when the demo closes it, or is gone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import BinaryIO

from aiosmtpd.smtp import SMTP, Envelope, Session

from reliq.demo import mailer, smtplog
from reliq.demo.smtplog import Accepted

_headers = BytesHeaderParser()


class Log:
    """What aiosmtpd calls with each mail. A mail is in the log before its sender hears that it was accepted."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802, ARG002
        """Takes a mail of one recipient, and refuses others for good: they are not ours."""
        assert isinstance(envelope.content, bytes)  # noqa: S101  it is, without decode_data
        headers = _headers.parsebytes(envelope.content)
        message_id, delivery = headers["Message-ID"], str(headers[mailer.DELIVERY_HEADER])
        if not message_id or not delivery.isdigit() or len(envelope.rcpt_tos) != 1:
            return "554 not a mail of the demo"
        worker = str(headers[mailer.WORKER_HEADER])
        mail = Accepted(time.time(), str(message_id).strip(), envelope.rcpt_tos[0], worker, int(delivery))
        smtplog.write(self._file, mail)
        return "250 OK"


async def serve(path: Path) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    with path.open("wb", buffering=0) as file:
        log = Log(file)
        server = await loop.create_server(lambda: SMTP(log, hostname="localhost", loop=loop), "127.0.0.1", 0)
        print(json.dumps({"port": server.sockets[0].getsockname()[1], "log": str(path)}), flush=True)
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        server.close()


def main() -> None:
    """Serves with the log that the command line names, or with a temporary one that goes with the server."""
    if len(sys.argv) > 1:
        asyncio.run(serve(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory(prefix="reliq-demo-") as folder:
        asyncio.run(serve(Path(folder, "accepted.jsonl")))


if __name__ == "__main__":
    main()
