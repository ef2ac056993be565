"""A worker of several processes for test_processes.py: `python program_fleet.py URL FOLDER OPTIONS`, options as JSON.

A handler writes "began PAYLOAD DELIVERY PID". One whose payload begins with `hold` then waits for a file named `go` in
the folder; `blocks` keeps the interpreter to itself for three seconds; `slow` takes 50 ms.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
import time
from pathlib import Path

from reliq import Item, Queue, ReliqError, Worker


def handle(item: Item) -> None:
    os.write(1, f"began {item.payload} {item.delivery} {os.getpid()}\n".encode())  # in one piece, beside the others
    word = str(item.payload)
    if word.startswith("hold"):
        while not Path(os.environ["FOLDER"], "go").exists():
            time.sleep(0.01)
    elif word == "blocks":
        ctypes.PyDLL(None).usleep(3_000_000)
    elif word.startswith("slow"):
        time.sleep(0.05)


def main(url: str, folder: str, options: str) -> None:
    logging.basicConfig(level=logging.INFO)
    os.environ["FOLDER"] = folder
    with Queue("q", url) as queue:
        try:
            report = Worker(queue, handle, **json.loads(options)).run()
        except ReliqError as error:
            print("raised", type(error).__name__, error, flush=True)
            sys.exit(1)
    print("ended", report.finished, report.failed, report.released, report.lost, flush=True)


if __name__ == "__mp_main__" and os.environ.get("BROKEN"):
    raise RuntimeError("this module can't be imported in another process")
if __name__ == "__main__":
    main(*sys.argv[1:])
