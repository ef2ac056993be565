"""A rebuild as a process of its own, to be killed: prints a line when it has made its plan. Arguments: DSN, URL."""

from __future__ import annotations

import sys

from reliq import Queue
from reliq.mirror import Mirror

if __name__ == "__main__":
    mirror, queue = Mirror(sys.argv[1]), Queue("emails", sys.argv[2])
    plan = mirror.plan_rebuild(queue)
    print("planned", flush=True)
    mirror.apply(plan, rate=30_000)
