"""Many waiting claimers in one process: `python claimers_program.py URL HISTORIES NAME CLAIMERS`.

Each takes one item at a time, finishes it, and waits for the next, until SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from reliq import AsyncQueue
from reliq.testing import AsyncRecording, History

LONG = 600.0  # seconds; nobody is to wait for so long


async def claim_for_ever(queue: AsyncQueue) -> None:
    while True:
        items = await queue.claim(1, wait=LONG)
        await queue.finish(items)


async def main(url: str, histories: str, name: str, claimers: str) -> None:
    history = History(Path(histories) / f"{name}-{os.getpid()}.jsonl", name)
    async with AsyncQueue("q", url) as queue:
        recording = AsyncRecording(queue, history)
        claiming = [asyncio.create_task(claim_for_ever(recording)) for _ in range(int(claimers))]
        gathered = asyncio.gather(*claiming)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, gathered.cancel)
        try:
            await gathered
        except asyncio.CancelledError:
            await asyncio.gather(*claiming, return_exceptions=True)  # they are to be gone before the connections are


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
