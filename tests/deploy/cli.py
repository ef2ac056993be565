"""Stands for valkey-cli in health checks: cli.py HOST -p PORT WORDS..."""

from __future__ import annotations

import sys

from reliq.errors import ServerError
from reliq.testing.control import Control

host, _, port, *words = sys.argv[1:]
try:
    with Control((host, int(port)), timeout=2.0) as control:
        print(control.call(*words))
except (OSError, ServerError) as error:
    print(error)
