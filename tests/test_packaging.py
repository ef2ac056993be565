"""What a user gets from the wheel and the sdist, tried in a clean environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import textwrap
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# Lies about in a working tree and must never be shipped.
RUBBISH = (".env", "lua/.env", "lua/notes.txt", "reliq/.env", "reliq/demo/.env", "reliq/old.py.orig", "lua/claim.lua~")
SOURCES = ("reliq", "lua", "tests", "benchmarks", "docs", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both distributions, built from a copy of the tree with rubbish in it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in (
        *SOURCES,
        "reliq_pytest.py",
        "CONTRIBUTING.md",
        "constraints.txt",
        "docker-compose.yml",
        ".luacheckrc",
        ".gitignore",
    ):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tree / name)
    for name in RUBBISH:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("TOKEN=secret")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree))
    return out


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel in it; dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel(built)),
    )
    # Behind the wheel on sys.path and a plain folder: an editable install of reliq there has no effect.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def run(*command: str, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert ran.returncode == 0, f"{command}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def wheel_names(built: Path) -> set[str]:
    with zipfile.ZipFile(wheel(built)) as archive:
        return set(archive.namelist())


def tracked(folder: str, pattern: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob(pattern)}


def test_the_wheel_has_every_module_script_and_data_file(built: Path) -> None:
    scripts = {f"reliq/{name}" for name in tracked("lua", "*.lua")}
    assert scripts
    expected = tracked("reliq", "**/*.py") | tracked("reliq", "**/*.sql") | tracked("reliq/demo", "*.csv") | scripts
    names = {name for name in wheel_names(built) if ".dist-info/" not in name}
    assert names == expected | {"reliq/py.typed", "reliq_pytest.py"}


def test_the_wheel_has_the_demo_sample(built: Path) -> None:
    assert [name for name in wheel_names(built) if name.startswith("reliq/demo/") and name.endswith(".csv")]


def test_the_wheel_names_its_command_extras_and_licence(built: Path) -> None:
    with zipfile.ZipFile(wheel(built)) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        assert "reliq = reliq.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        assert archive.read(f"{info}/licenses/LICENSE").startswith(b"MIT License")
    for extra in ("embedded", "cli", "demo", "zstd", "crypto", "postgres"):
        assert f"Provides-Extra: {extra}\n" in metadata


def test_nothing_else_gets_into_the_sdist(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    kinds = {name.suffix or name.name for name in names}
    assert kinds <= {
        ".py",
        ".lua",
        ".md",
        ".sql",
        ".csv",
        ".toml",
        ".txt",
        ".yml",
        ".typed",
        *map(str, names_at_root()),
    }
    assert not names & {PurePosixPath(name) for name in RUBBISH}
    for needed in ("pyproject.toml", "LICENSE", "lua/claim.lua", "tests/conftest.py"):
        assert PurePosixPath(needed) in names


def names_at_root() -> set[str]:
    return {"LICENSE", "PKG-INFO", ".gitignore", ".luacheckrc"}


def test_the_installed_package_has_and_loads_its_scripts(python: Path, tmp_path: Path) -> None:
    body = """
        import json, reliq
        from reliq import _scripts
        scripts = [_scripts.load(name) for name in _scripts.names()]
        print(json.dumps([reliq.__file__, str(_scripts.lua_folder()), [[s.name, s.sha] for s in scripts]]))
    """
    package, folder, scripts = json.loads(run(str(python), "-c", textwrap.dedent(body), cwd=tmp_path))
    site = str(python.parents[1])
    assert package.startswith(site)
    assert folder.startswith(site)
    from reliq import _scripts

    assert dict(scripts) == {name: _scripts.load(name).sha for name in _scripts.names()}


def test_the_installed_command_runs(python: Path, tmp_path: Path) -> None:
    assert "Usage" in run(str(python), "-m", "reliq", "--help", cwd=tmp_path)
