"""What every script file promises about itself, read from its text."""

from __future__ import annotations

import re

import pytest
import redis

from reliq import _scripts

VERBS = _scripts.names()
PARTS = sorted(path.stem for path in _scripts.lua_folder().glob("_*.lua"))

# A full server must drain, so what takes items out, or moves them, may use memory beyond its limit.
ALLOW_OOM = set(
    "claim finish finish_with finish_unseen finish_and_claim renew release fail recover requeue redrive resolve cancel"
    " discard purge"
    " configure pause resume checkpoint beat cron_set mirror rebuild restore restore_batch end_again".split()
)
NO_WRITES = {"batch_progress", "inspect", "get", "scan", "oldest", "workers", "crons"}
NO_FLAGS = {"enqueue", "batch", "watch", "await_room", "cron_tick", "put_back", "put_back_batch"}

CALL = re.compile(r"\bcall\('(\w+)'")
FORBIDDEN = {
    "KEYS",
    "SCAN",
    "HSCAN",
    "SSCAN",
    "ZSCAN",
    "LREM",
    "HGETALL",
    "SMEMBERS",
    "WAIT",
    "WAITAOF",
    "HKEYS",
    "HVALS",
}
WRITES = re.compile(r"^(SET|DEL|[HZLR](?!RANGE|CARD|LEN|INDEX|COUNT|SCORE|RANK|MGET|GET|MSCORE)\w*)$")


def text_of(name: str) -> str:
    return (_scripts.lua_folder() / f"{name}.lua").read_text(encoding="utf-8")


def header_of(name: str) -> str:
    lines = text_of(name).splitlines()
    start = 1 if lines[0].startswith("#!") else 0
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("--"))
    return "\n".join(lines[start:end])


def listed(name: str, word: str) -> list[str]:
    match = re.search(rf"^-- {word}: (.+)$", header_of(name), re.MULTILINE)
    return re.findall(r"\w+", match[1].replace(" and ", " ")) if match else []


def test_every_verb_is_in_one_class_of_flags() -> None:
    """A verb that is added has to say what may be done when the server's memory is full."""
    assert set(VERBS) == ALLOW_OOM | NO_WRITES | NO_FLAGS


@pytest.mark.parametrize("verb", VERBS)
def test_shebang_has_the_flags_of_its_class(verb: str) -> None:
    """The first line declares the flags, so that the server decides before the script starts."""
    flags = " flags=allow-oom" if verb in ALLOW_OOM else " flags=no-writes" if verb in NO_WRITES else ""
    assert text_of(verb).splitlines()[0] == f"#!lua{flags}"


@pytest.mark.parametrize("verb", VERBS)
def test_header_says_what_it_does_returns_and_refuses(verb: str) -> None:
    """The header names the verb, the reply and the error words, and these are the ones that its code can raise."""
    header = header_of(verb)
    assert header.startswith(f"-- {verb}: ")
    assert re.search(r"^-- Returns \{'ok', epoch", header, re.MULTILINE)
    source = _scripts.load(verb).source
    raised = set(re.findall(r"refuse\('(\w+)'", source))
    if verb in NO_WRITES:  # they never call what checks writes, and are allowed while the queue is rebuilt
        raised -= {"REBUILDING", "WRONG_TYPE", "NO_RIGHT"}
    errors = re.search(r"^-- Errors: ([^.]+)\.", header, re.MULTILINE)
    assert errors is not None
    assert set(re.findall(r"[A-Z]+(?:_[A-Z]+)*", errors[1])) == raised


@pytest.mark.parametrize("verb", VERBS)
def test_server_compiles_it_under_its_hash(verb: str, redis_client: redis.Redis) -> None:
    """The hash that clients call is the one that the server gives the source."""
    script = _scripts.load(verb)
    assert redis_client.script_load(script.source) == script.sha


@pytest.mark.parametrize("verb", VERBS)
def test_binds_epoch_and_clock_first(verb: str) -> None:
    """The driver puts the epoch and the time before all other arguments, and `meta` before all other keys."""
    script = _scripts.load(verb)
    assert script.args[:2] == ("epoch", "now_ms")
    assert script.keys[0] == "meta"


@pytest.mark.parametrize("verb", VERBS)
def test_binds_the_keys_that_its_parts_need(verb: str) -> None:
    """A part uses names that the verb binds; each part says which, and each verb that uses it has them."""
    script = _scripts.load(verb)
    for part in parts_of(verb):
        missing = set(listed(part, "needs")) - set(script.keys) - set(script.args)
        assert not missing, f"{verb} uses {part}, which needs {sorted(missing)}"


def is_cold(part: str) -> bool:
    """Whether a part stands inside of _cold.lua, from where the rest gets what it offers when it asks for it."""
    return "-- cold" in header_of(part).splitlines()


def parts_of(verb: str) -> list[str]:
    """The parts of a composed script, in their order."""
    files = dict.fromkeys(file.removesuffix(".lua") for file, _ in _scripts.load(verb).origins)
    return [name for name in files if name not in (verb, "_prelude", "_cold")]


@pytest.mark.parametrize("verb", VERBS)
def test_uses_parts_after_those_that_they_use(verb: str) -> None:
    """Composition puts each part behind those that it builds on, and takes no part twice."""
    order = parts_of(verb)
    assert set(order) >= set(listed(verb, "uses"))
    for place, part in enumerate(order):
        for needed in listed(part, "uses"):
            assert needed in order[:place] or is_cold(needed), f"{verb}: {part} uses {needed}"


@pytest.mark.parametrize("part", [part for part in PARTS if part != "_prelude"])
def test_part_declares_each_key_that_it_touches(part: str) -> None:
    """What a part reads or writes is in its `needs`, so that the check above means something."""
    names = {name for verb in VERBS for name in _scripts.load(verb).keys}
    body = text_of(part).removeprefix(header_of(part))
    body = re.sub(r"--.*|'[^']*'", "", body)
    parameters = {name for found in re.findall(r"function \w+\(([^)]*)\)", body) for name in re.findall(r"\w+", found)}
    locals_ = {
        name
        for found in re.findall(r"local ([\w, ]+?)(?: =|$)", body, re.MULTILINE)
        for name in re.findall(r"\w+", found)
    }
    touched = set(re.findall(r"(?<![.\w])(\w+)\b(?!\s*=[^=])", body)) & names - parameters - locals_
    assert touched <= set(listed(part, "needs")), sorted(touched)


@pytest.mark.parametrize("verb", VERBS)
def test_calls_no_unbounded_or_blocking_command(verb: str) -> None:
    """A script runs alone on the server, so nothing in it walks through a whole key or waits."""
    source = _scripts.load(verb).source
    assert not set(CALL.findall(source)) & FORBIDDEN
    assert "cmsgpack" not in source
    assert not re.search(r"call\('(?:LRANGE|ZRANGE)',[^)]*'0', '-1'", source)


@pytest.mark.parametrize("verb", sorted(NO_WRITES))
def test_readers_write_nothing(verb: str) -> None:
    """A verb that is declared as a reader calls no command that writes, whatever its parts could do."""
    own = text_of(verb)
    assert not [name for name in CALL.findall(own) if WRITES.match(name)]


@pytest.mark.parametrize("name", [*VERBS, *PARTS])
def test_defaults_of_settings_stand_in_one_place(name: str) -> None:
    """What a setting is that nobody has set is said by `_defaults` alone: what goes by it and what tells it agree."""
    stated = re.findall(r"number_of\('(\w+)', *['\d]|field\.(\w+) or ['\d]", text_of(name))
    settings = set(re.findall(r"^  '(\w+)', ", text_of("_settings"), re.MULTILINE))
    assert len(settings) == 14
    assert not {setting for pair in stated for setting in pair} & settings


@pytest.mark.parametrize("verb", VERBS)
def test_error_lines_point_into_the_files(verb: str) -> None:
    """Each line of a composed script is the line of the file that it says it came from."""
    script = _scripts.load(verb)
    for line, (file, number) in zip(script.source.splitlines(), script.origins, strict=True):
        assert text_of(file.removesuffix(".lua")).splitlines()[number - 1] == line
