"""Help and reference: every command and option is described, in `--help` and in docs/reference/cli.md."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from reliq.cli import COMMANDS, main
from reliq.cli._base import Command

from .conftest import ROOT, Call

PAGE = ROOT / "docs" / "reference" / "cli.md"
OF_ANOTHER_PART = {"demo"}  # has a page of its own


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its words."""
    context = click.Context(main)
    for name in main.list_commands(context):
        found = main.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{name} {inner}", command) for inner, command in found.commands.items())
        else:
            yield name, found


ALL = dict(commands())
OURS = {words: command for words, command in ALL.items() if words not in OF_ANOTHER_PART}


def sections() -> dict[str, str]:
    """The page's text by the command of each heading."""
    parts = re.split(r"^### `reliq (.+?)`\n", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples() -> list[str]:
    """Every command line of the page."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("words", OURS)
def test_a_command_has_help(words: str) -> None:
    """It says what it does, and what each option is for; the shared options are there."""
    command = OURS[words]
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert all(option.help for option in options)
    assert isinstance(command, Command)


@pytest.mark.parametrize("words", ALL)
def test_a_command_is_documented(words: str) -> None:
    """It has a section on the page, with an example."""
    assert words in sections()
    assert re.search(rf"^\$ .*reliq .*{words}", sections()[words], flags=re.MULTILINE)


@pytest.mark.parametrize("words", OURS)
def test_an_option_is_documented(words: str) -> None:
    """The section has each option of the command; the shared ones are on top of the page."""
    shared = {option for parameter in main.params for option in parameter.opts}
    for parameter in OURS[words].params:
        if isinstance(parameter, click.Option) and not shared & set(parameter.opts):
            assert f"`{parameter.opts[-1]}" in sections()[words], parameter.opts
    for option in shared:
        assert f"`{option}" in PAGE.read_text()


def test_the_page_has_no_other_commands() -> None:
    """What is documented exists."""
    assert set(sections()) == set(ALL)


@pytest.mark.parametrize("line", examples())
def test_an_example_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example has arguments that its command takes."""
    monkeypatch.chdir(tmp_path)
    for name in ("addresses.jsonl", "envelopes.jsonl"):
        Path(name).touch()
    words = shlex.split(next(part for part in line.split(" | ") if "reliq" in part.split()))
    words = words[words.index("reliq") + 1 :]
    with main.make_context("reliq", words, resilient_parsing=False) as context:
        _understood(main, context)


def _understood(group: click.Group, context: click.Context) -> None:
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    assert command is not None
    with command.make_context(name, rest, parent=context) as inner:
        if isinstance(command, click.Group):
            _understood(command, inner)


@pytest.mark.parametrize("group", ["queue", "item", "worker"])
def test_a_group_lists_its_commands(run: Call, group: str) -> None:
    """Help of a group has its commands and what they do."""
    out = run(group, "--help").out
    for words, command in OURS.items():
        if words.startswith(group + " "):
            assert words.split()[1] in out
            assert command.get_short_help_str(20).rstrip(".")[:10] in out


def test_help_lists_all_commands_and_imports_none_of_them(program: Call) -> None:
    """`reliq --help` is quick: rich and the modules of the commands are not loaded."""
    out = program("--help").out
    assert all(name in out for name in COMMANDS)
    ran = program("--help", PYTHONPROFILEIMPORTTIME="1", PYTHONVERBOSE="")
    loaded = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    assert "reliq.cli" in loaded
    assert not {name for name in loaded if name.split(".")[0] in ("rich", "asyncio.subprocess")}
    assert not {name for name in loaded if name.startswith(("reliq.demo", "reliq.embedded", "reliq.cli.items"))}


def test_version(program: Call) -> None:
    """The version is the package's."""
    import reliq

    ran = program("--version")
    assert (ran.code, ran.out.split()[-1]) == (0, reliq.__version__)


def test_a_command_that_does_not_exist(run: Call) -> None:
    """A mistyped command is a usage error."""
    assert run("qeue").code == 2
    assert run("queue", "lst").code == 2


def test_the_demo_without_its_extras(program: Call, tmp_path: Path) -> None:
    """Where it can't be loaded, the message names what to install."""
    (tmp_path / "reliq_without_demo.py").write_text(
        "import sys\nsys.modules['reliq.demo.command'] = None\nfrom reliq.cli import main\nmain()\n"
    )
    import subprocess

    from .conftest import environment

    command = [sys.executable, str(tmp_path / "reliq_without_demo.py"), "demo", "--workers", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert ran.returncode == 1
    assert "pip install 'reliq-queue[demo]'" in ran.stderr
