"""The renewing process, as the process that it renews for sees it: `_renewer.py` is what it does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


class Program:
    """A renewer that is a process of ours."""

    def __init__(self, served: socket.socket) -> None:
        package = str(Path(__file__).parents[1])
        path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "reliq._renewer"],
            stdin=served.fileno(),
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C and Ctrl-Z are for the worker
        )

    def end(self) -> None:
        try:
            self._process.wait(1)  # it ends by itself when its socket closes
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked child, whose process it is not: keeps Popen from complaining that nobody waited for it."""
        self._process.returncode = 0
