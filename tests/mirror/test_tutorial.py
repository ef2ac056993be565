"""docs/tutorial/lose-redis.md holds: its commands are typed, one after the other, and do what the page says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from docs_pages import ROOT, blocks

from reliq.embedded import Server

PAGE = ROOT / "docs" / "tutorial" / "lose-redis.md"


def test_losing_redis_goes_as_the_page_says(
    server: Server, redis_client: redis.Redis, dsn: str, tmp_path: Path
) -> None:
    """Every command ends well, and in the end what was enqueued is there again."""
    if not shutil.which("redis-cli"):
        pytest.skip("redis-cli is not installed: apt-get install redis-tools")
    program = tmp_path / "reliq"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m reliq "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment |= {"RELIQ_URL": server.url, "RELIQ_MIRROR": dsn}
    printed = [typed(block.text, environment) for block in blocks(PAGE) if block.language == "sh"]
    everything = "\n".join(printed)
    assert "3 queued, 1 scheduled" in printed[4]
    assert "is open" in printed[5]
    assert everything.count("ann@example.org") == 1
    assert "verified" in printed[6]


def typed(commands: str, environment: dict[str, str]) -> str:
    """What a block prints, on both of its streams."""
    shell = ["sh", "-e", "-c", commands]
    ran = subprocess.run(shell, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert ran.returncode == 0, f"{commands}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout + ran.stderr
