"""The README's set-up commands, as a newcomer types them. Its Python blocks are run by tests/docs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def sh_blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def copy_of_the_tree(target: Path) -> Path:
    """What a clone of this tree would hold: the files that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if not (ROOT / name).is_file():  # removed and not committed yet, or a link to a folder
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def bare_environment(home: Path) -> dict[str, str]:
    """No environment of ours: no active virtual environment, no RELIQ_ settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RELIQ_", "VIRTUAL_ENV", "PYTHON"))}
    venv = os.environ.get("VIRTUAL_ENV")
    path = [p for p in kept.get("PATH", "").split(os.pathsep) if not (venv and p.startswith(venv))]
    return {**kept, "PATH": os.pathsep.join(path), "HOME": str(home)}


def test_the_second_block_ends_with_the_command_that_the_check_runs() -> None:
    """What the README tells people to type for the tests is what decides whether a change goes in."""
    command = sh_blocks()[1].strip().splitlines()[-1]
    check = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert command.startswith("pytest")
    assert re.search(rf"^{re.escape(command)}$", check, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_first_block_runs_the_demo_in_a_fresh_environment(tmp_path: Path) -> None:
    """Clone, fresh virtual environment, the README's first commands as they stand: the demo loses nothing."""
    tree = copy_of_the_tree(tmp_path / "clone")
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", sh_blocks()[0]],
        cwd=tree,
        env=bare_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"lost\D+0\b", done.stdout), done.stdout[-3000:]
