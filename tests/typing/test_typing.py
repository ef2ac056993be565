from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_a_users_type_checker_sees() -> None:
    """The public names have the types that the documentation says, and mistakes are found."""
    statements = Path(__file__).with_name("statements.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(statements)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_package_says_that_it_is_typed() -> None:
    """A type checker looks into the package only with this marker."""
    assert (ROOT / "reliq" / "py.typed").exists()
