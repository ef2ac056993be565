"""Runs of the demo, each in a temporary folder of its own. The folder's path is short: sockets are made in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo.runs import Demo


@pytest.fixture
def demo() -> Iterator[Demo]:
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        starter = Demo(Path(folder))
        yield starter
        starter.close()


@pytest.fixture(scope="module")
def shared_demo() -> Iterator[Demo]:
    """For a run that several tests look at."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        starter = Demo(Path(folder))
        yield starter
        starter.close()
