"""Random histories on a real server, compared step by step with a model of lists and dicts."""

from __future__ import annotations

import pytest
import redis
from hypothesis.stateful import run_state_machine_as_test
from properties.conftest import PROFILE
from properties.machine import QueueMachine
from proxy import FaultProxy

from reliq.embedded import Server


@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.timeout(0)
def test_a_queue_does_what_the_model_does(
    style: str, server: Server, redis_client: redis.Redis, proxy: FaultProxy
) -> None:
    """Whatever happens in whatever order, lost replies and lost scripts included, the queue and the model agree."""

    def machine() -> QueueMachine:
        return QueueMachine(style, server, redis_client, proxy)

    run_state_machine_as_test(machine, settings=PROFILE)  # type: ignore[arg-type]  # it takes any maker of machines
