"""The pytest plugin in a user's project: a folder of its own, with reliq from its wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Protocol

import pytest
from docs_pages import blocks

import reliq

ROOT = Path(__file__).parents[2]
SOURCES = ("reliq", "lua", "reliq_pytest.py", "pyproject.toml", "README.md", "LICENSE")


class Run(Protocol):
    """Runs pytest on `source` in the user's project and gives what it wrote; it must end with `code`."""

    def __call__(self, source: str, *options: str, code: int = 0) -> str: ...


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, entry points included; dependencies come from this environment."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


@pytest.fixture
def run(installed: Path, binary: Path, tmp_path: Path) -> Run:
    def pytest_in(source: str, *options: str, code: int = 0) -> str:
        (tmp_path / "test_handler.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-p", "no:valkey", "-p", "no:cacheprovider", "-q", *options]
        ran = subprocess.run(
            [*command[:3], f"--reliq-server={binary}", *command[3:]],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout

    return pytest_in


def knows_sentinels() -> bool:
    """Whether this tree's queues take the URL of a topology."""
    try:
        reliq.Queue("q", "redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster/0").close()
    except reliq.InvalidURL:
        return False
    return True


@pytest.mark.timeout(120)
def test_the_guide_for_users(run: Run) -> None:
    """The tests of docs/how-to/test-your-handlers.md pass as they stand: lost lease, lost reply, dead server."""
    assert "4 passed" in run(guide(), "-k", "not failover")


@pytest.mark.skipif(not knows_sentinels(), reason="queues take no redis+sentinel:// URLs yet")
@pytest.mark.timeout(120)
def test_the_guide_in_a_failover(run: Run) -> None:
    """The master dies in mid-handling; the worker goes on at the new one, and the item is finished once."""
    assert "1 passed" in run(guide(), "-k", "failover")


def guide() -> str:
    page = ROOT / "docs" / "how-to" / "test-your-handlers.md"
    return "\n\n".join(block.text for block in blocks(page) if block.language == "python")


ASYNC = """
import asyncio

def test_async(reliq_async_queue, reliq_leak_check):
    async def scenario():
        async with reliq_async_queue() as queue:
            await queue.enqueue(1)
            await queue.finish(await queue.claim())
            return (await queue.counts()).finished

    assert asyncio.run(scenario()) == 1
"""


def test_async_queues_too(run: Run) -> None:
    """The factory gives a queue; the test closes it in its own loop."""
    assert "1 passed" in run(ASYNC)


LEAKY = """
import threading
import reliq

def test_leaves_items(reliq_leak_check, reliq_queue):
    queue = reliq_queue()
    queue.enqueue(1)
    assert queue.claim()

def test_leaves_a_connection(reliq_leak_check, reliq_server):
    kept.append(reliq.Queue("mine", reliq_server.url))
    kept[0].counts()

def test_leaves_a_thread(reliq_leak_check):
    threading.Thread(target=stop.wait, daemon=True, name="left").start()

def test_leaves_a_key(reliq_leak_check, reliq_server):
    reliq_server.call("SET", "stray", 1)

def test_leaves_nothing(reliq_leak_check, reliq_queue):
    queue = reliq_queue()
    queue.enqueue(1)
    queue.finish(queue.claim())

kept, stop = [], threading.Event()
"""


def test_the_leak_check_finds_what_is_left(run: Run) -> None:
    """Each kind of leak is an error of its test that names it; a clean test is none."""
    told = run(LEAKY, code=1)
    assert "5 passed, 4 errors" in told
    for word in ("1 in progress", "connection from 127.0.0.1", "thread left", "key stray"):
        assert word in told


TWO = """
def test_one(reliq_server):
    assert reliq_server.call("DBSIZE") == 0
    reliq_server.call("SET", "key", 1)

test_two = test_one

def test_names(reliq_queue):
    assert reliq_queue().name != reliq_queue().name

def test_module(reliq_module_topology):
    assert reliq_module_topology(replicas=0, sentinels=0).master.answers()
"""


def test_tests_do_not_meet_each_other(run: Run) -> None:
    """Each has a server of its own, and each queue its own name."""
    assert "4 passed" in run(TWO)


def test_a_wrong_server_is_told(run: Run) -> None:
    """The option's error names the program and what would do."""
    assert "'no-such-server' is neither" in run(TWO, "--reliq-server=no-such-server", "-x", code=1)


LIGHT = """
import sys

def test_nothing_of_reliq_is_loaded():
    assert "reliq_pytest" in sys.modules
    assert not {"reliq", "redis", "msgpack"} & set(sys.modules)
"""


def test_the_plugin_costs_nothing_where_it_is_not_used(run: Run) -> None:
    """A run without its fixtures imports one small module, and neither reliq nor a client."""
    assert "1 passed" in run(LIGHT)
