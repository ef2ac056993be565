"""The documentation holds: its code runs, its links lead somewhere, its tables are those of the code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import redis
from docs_pages import ROOT, Block, blocks, guides, name, pages, prose

from reliq import _scripts, errors
from reliq.embedded import Server

# Code


@pytest.mark.parametrize("page", guides(), ids=name)
def test_the_python_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, server: Server, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """As they stand, one after the other in one namespace, against a real server."""
    script = as_script([block for block in blocks(page) if block.language == "python" and not block.not_run])
    if not script:
        pytest.skip("no Python on this page")
    runner = "import sys; exec(compile(sys.stdin.read(), sys.argv[1], 'exec'), {'__name__': '__main__'})"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", runner, name(page)],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "RELIQ_URL": server.socket_url, "PYTHONPATH": str(ROOT)},
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


def as_script(found: list[Block]) -> str:
    """The blocks, each at the line where it stands in its page, so that a traceback names that."""
    lines: list[str] = []
    for block in found:
        lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines)


def not_run() -> list[tuple[Path, Block]]:
    return [(page, block) for page in guides() for block in blocks(page) if block.not_run]


@pytest.mark.parametrize(("page", "block"), [pytest.param(p, b, id=f"{name(p)}:{b.line}") for p, b in not_run()])
def test_blocks_that_are_not_run(page: Path, block: Block) -> None:
    """Each is reported with its reason, so that there are not too many of them."""
    pytest.skip(block.not_run)


def test_a_block_that_fails_is_found_with_its_line(tmp_path: Path) -> None:
    """The check of the check: blocks keep their lines, and those marked as not run are left out."""
    page = tmp_path / "page.md"
    page.write_text(
        "# x\n\n```python\na = 1\n```\n\n<!-- not run: why not -->\n\n```python\n1 / 0\n```\n\n```python\na\n```\n"
    )
    found = list(blocks(page))
    assert [(block.line, block.not_run) for block in found] == [(4, ""), (10, "why not"), (14, "")]
    assert as_script([found[0], found[2]]).splitlines() == ["", "", "", "a = 1", *[""] * 9, "a"]


def documented_commands() -> list[tuple[str, str]]:
    """What stands in shell blocks and begins with `reliq`, or follows ExecStart=."""
    shell = [(name(page), block.text) for page in pages() for block in blocks(page) if block.language in ("sh", "ini")]
    command = re.compile(r"^(?:ExecStart=\S*/)?(reliq .*)", re.MULTILINE)
    return [(page, line) for page, text in shell for line in command.findall(text)]


@pytest.mark.parametrize(("page", "line"), documented_commands())
def test_documented_commands_exist(page: str, line: str) -> None:
    """Every command line in the documentation names commands and options that there are."""
    cli = pytest.importorskip("reliq.cli")
    command: click.Command = cli.main
    words = shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    assert unknown == [], f"{page}: {line}"


# Links


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """The anchors of a page, as Git forges make them from headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_internal_links_lead_somewhere(page: Path) -> None:
    """A link to a page of ours names a file that exists, and a heading that it has."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    assert broken == []


def test_every_page_of_the_documentation_can_be_reached() -> None:
    """From docs/README.md and the README, by links, so that nothing is written for nobody."""
    reached: set[Path] = set()
    todo = [page for page in (ROOT / "README.md", ROOT / "docs" / "README.md") if page.exists()]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        todo += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert {name(page) for page in ROOT.glob("docs/**/*.md")} - {name(page) for page in reached} == set()


# Words

# These are used in their everyday meaning as well, or name things of Python, Redis and other systems.
AMBIGUOUS = set(
    "task message push put produce body data pop fetch reserve lock token handle touch ack complete reject reap sweep "
    "stuck archive version".split()
)


def avoided_words() -> list[str]:
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]+)\|$", (ROOT / "docs/glossary.md").read_text("utf-8"), re.MULTILINE)
    words = [word.strip() for row in rows[2:] for word in row.split(",") if word.strip()]
    return [word for word in words if word not in AMBIGUOUS]


def test_no_page_uses_a_word_that_the_glossary_avoids() -> None:
    """Best effort: words that have no everyday meaning, in prose. Decisions may name what other systems have."""
    words = avoided_words()
    assert "job" in words
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})(s|ed|ing)?\b", re.IGNORECASE)
    found = []
    for page in pages():
        if name(page) != "docs/glossary.md":
            found += [
                f"{name(page)}:{number}: {match[0]}" for number, line in prose(page) for match in pattern.finditer(line)
            ]
    assert found == []


# Tables that are those of the code


def test_the_diagram_of_states_is_up_to_date(tmp_path: Path) -> None:
    """docs/make_diagram.py agrees with the page, makes it from an empty one, and notices a change."""
    page = ROOT / "docs" / "explanation" / "life-of-an-item.md"
    assert make_diagram("--check") == 0
    stale = tmp_path / "page.md"
    stale.write_text(page.read_text("utf-8").replace("queued --> in_progress: claim\n", ""), "utf-8")
    assert make_diagram("--check", str(stale)) == 1
    assert make_diagram(str(stale)) == 0
    assert stale.read_text("utf-8") == page.read_text("utf-8")


def make_diagram(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_diagram.py"), *arguments],
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    ).returncode


def test_the_table_of_keys_has_the_keys_that_scripts_bind() -> None:
    """lua/README.md and the binding lines of the scripts say the same of names and types."""
    source = "".join(path.read_text("utf-8") for path in _scripts.lua_folder().glob("*.lua"))
    bound = set(re.findall(r"^local (\w+) = KEYS\[\d+\] -- (\w+): ", source, re.MULTILINE))
    section = lua_readme().partition("## Keys")[2].partition("### ")[0]
    assert set(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)) == bound


def fields_of_meta() -> set[str]:
    """The names that scripts read from meta at their door, change, or write, as far as they stand there as literals."""
    source = "".join(path.read_text("utf-8") for path in _scripts.lua_folder().glob("*.lua"))
    tables = r"enter\(\{([^}]*)\}|local (?:SETTINGS|EXTRAS) = \{([^}]*)\}|call\('H\w+', meta, ([^\n]*)"
    lists = re.findall(tables, source)
    listed = re.findall(r"'([a-z][a-z_]{3,})'", " ".join(part for parts in lists for part in parts))
    named = re.findall(r"(?:number_of|add|change)\('(\w+)'", source)
    return {*listed, *named} - {"ready", "rebuilding", "requeue", "later"}  # values, not names


def test_the_table_of_meta_names_the_fields_that_scripts_use() -> None:
    """Neither more nor less: a field that is new or gone makes the table wrong."""
    section = lua_readme().partition("### `meta`")[2].partition("### ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {field for row in rows for field in re.findall(r"`(\w+)`", row)} == fields_of_meta()


def lua_readme() -> str:
    return (ROOT / "lua" / "README.md").read_text(encoding="utf-8")


def test_the_table_of_errors_has_every_error() -> None:
    """Somebody who meets an exception of ours finds it in docs/explanation/errors.md."""
    ours = {
        kind.__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ReliqError)
    }
    text = (ROOT / "docs/explanation/errors.md").read_text(encoding="utf-8")
    assert {kind for kind in ours if f"`{kind}`" not in text} == set()


def test_the_unit_of_systemd_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    """The unit in run-workers.md has no unknown setting."""
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    (unit,) = [block.text for block in blocks(ROOT / "docs/how-to/run-workers.md") if block.language == "ini"]
    path = tmp_path / "emails@.service"
    path.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit))
    ran = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
    assert "Unknown" not in ran.stderr, ran.stderr
