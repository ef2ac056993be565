from __future__ import annotations

import hashlib

import pytest

from reliq import _scripts
from reliq._scripts import _signature, load, lua_folder, names


def test_a_signature_is_read_from_the_binding_lines() -> None:
    """Keys and arguments by the names that they are bound to, and whether more may follow."""
    lines = [
        "#!lua",
        "-- something: says what it does",
        "local meta = KEYS[1] -- hash: settings",
        "local queued = KEYS[2] -- list: ids",
        "local epoch = ARGV[1] -- what the client knows",
        "-- ARGV[2...]: ids",
        "",
        "local other = 5",
    ]
    assert _signature("something", lines) == (6, ("meta", "queued"), ("epoch",), True)
    assert _signature("something", lines[:5]) == (5, ("meta", "queued"), ("epoch",), False)


@pytest.mark.parametrize(
    "line",
    ["local queued = KEYS[3] -- ids", "local now = ARGV[2] -- time", "-- ARGV[2...]: ids", "local a = KEYS[0] -- x"],
)
def test_slots_out_of_order_are_refused(line: str) -> None:
    """A slot that does not follow the one before it is an error with its file and line."""
    with pytest.raises(ValueError, match=r"lua/something\.lua:2"):
        _signature("something", ["local meta = KEYS[1] -- hash: settings", line])


@pytest.mark.parametrize("name", names())
def test_every_script_is_composed(name: str) -> None:
    """Shebang and bindings, then the prelude, then the parts that it uses, cold ones in _cold.lua, then the body."""
    script = load(name)
    own = (lua_folder() / f"{name}.lua").read_text().splitlines()
    files = [file for file, _ in script.origins]
    order = list(dict.fromkeys(files))
    assert order[:2] == [f"{name}.lua", "_prelude.lua"]
    assert set(order) >= {f"{part}.lua" for part in _named(own, "uses")}
    wrapped = order[order.index("_cold.lua") + 1 :] if "_cold.lua" in order else []
    assert {part for part in order if is_cold(part)} <= set(wrapped)
    assert files[-1] == f"{name}.lua" or own[-1].startswith("local")
    assert script.source.startswith("#!lua")
    assert script.sha == hashlib.sha1(script.source.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("name", names())
def test_every_line_knows_where_it_came_from(name: str) -> None:
    """Line by line the composed source is what stands in the file that its origin names."""
    script = load(name)
    for line, (file, number) in zip(script.source.splitlines(), script.origins, strict=True):
        assert (lua_folder() / file).read_text().splitlines()[number - 1] == line


@pytest.mark.parametrize("name", names())
def test_every_script_begins_with_the_same_arguments(name: str) -> None:
    """The epoch and the time come first, and meta is the first key."""
    script = load(name)
    assert script.args[:2] == ("epoch", "now_ms")
    assert script.keys[0] == "meta"
    assert len(set(script.keys)) == len(script.keys)


@pytest.mark.parametrize("name", names())
def test_parts_come_after_what_they_use_and_find_what_they_need(name: str) -> None:
    """A part's `needs` are bound by the script, and its `uses` come before it, unless they are cold: these offer it."""
    script = load(name)
    bound = {*script.keys, *script.args}
    before = {"_prelude"}
    for part in list(dict.fromkeys(file.removesuffix(".lua") for file, _ in script.origins))[2:]:
        lines = (lua_folder() / f"{part}.lua").read_text().splitlines()
        assert set(_named(lines, "needs")) <= bound, f"{part} in {name}"
        missing = {used for used in _named(lines, "uses") if used not in before and not is_cold(f"{used}.lua")}
        assert not missing, f"{part} in {name}"
        before.add(part)


def is_cold(file: str) -> bool:
    """Whether a part is defined only when something of it is asked for."""
    return "-- cold" in (lua_folder() / file).read_text().splitlines()


def _named(lines: list[str], what: str) -> list[str]:
    found = [line.removeprefix(f"-- {what}: ") for line in lines if line.startswith(f"-- {what}: ")]
    return [] if not found else [word for word in found[0].replace(",", " ").split() if word not in ("and", "nothing")]


def test_a_server_error_is_located() -> None:
    """The line of the composed script becomes the file and line that it came from."""
    script = load("claim")
    inside = next(n for n, (file, _) in enumerate(script.origins, 1) if file == "_recover.lua")
    message = f"ERR user_script:{inside}: boom script: x, on @user_script:{inside}."
    assert script.locate(message) == "ERR lua/_recover.lua:1: boom script: x, on @lua/_recover.lua:1."
    assert script.locate("user_script:99999") == "user_script:99999"
    assert script.locate("no line") == "no line"


def test_a_script_that_is_not_there() -> None:
    """An unknown verb is an error of ours, not of the server."""
    with pytest.raises(FileNotFoundError):
        load("levitate")


def test_loading_twice_reads_once() -> None:
    """A script is the same object for the life of the process."""
    assert load("claim") is _scripts.load("claim")
