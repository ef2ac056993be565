"""Who may import whom: each module only those above it in ORDER. The pure core knows no network."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import reliq
from reliq import errors

PACKAGE = Path(reliq.__file__).parent
ORDER = """
    errors answers states outcomes item info
    _keys _ids _codec _scripts
    _blobs codecs typed _durability
    _session _reading _commands _policy _topology _plans _gathering _consume_rules _consuming _arguments
    _ledger _handlers _worker_options _sources _settling _winding_down _flow _turns
    _schedule _cron
    _lifeline _server_files _server embedded
    connect _replies _sentinel_link _sentinel _links _links_async _calls _calls_async _waits _waits_async
    _driver _driver_async
    _pipe _pipe_async
    _admin _site _ready _handover failover rights _advisories _findings _findings_site doctor
    _coalesce _coalesce_async
    _holding _holding_async _operating _operating_async
    _watched _renewals_thread
    consume consume_async
    queue queue_async cron
    _outlets health _wire _renewer _renewer_program _renewals_process _renewals
    _supervised _child _supervisor
    _limits _coroutines _bell _thread_buffer _handler_threads _handler_tasks _resolver _housekeeper
    worker worker_async
    mirror
    __init__ testing demo cli
    __main__
""".split()
PURE = ORDER[: ORDER.index("_arguments") + 1]
VALUES: dict[str, set[str]] = {
    "errors": set(),
    "states": set(),
    "item": set(),
    "outcomes": {"states"},
    "info": {"states", "item"},
}
CORE = [name for name in PURE if name not in ("_blobs", "codecs")]  # a blob store is files
NETWORK = set(
    "connect _replies _sentinel_link _sentinel _links _links_async _calls _calls_async _waits _waits_async"
    " _driver _driver_async _pipe _pipe_async"
    " _admin".split()
)
IO = set("redis hiredis asyncio socket select selectors ssl subprocess http urllib".split())


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Each file as its module, or the subpackage that it is in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        yield name, path, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever in the file, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def ours(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The modules of this package that a file imports."""
    for name, line in imports(tree):
        parts = name.split(".")
        if parts[0] == "reliq" and len(parts) > 1:
            yield (parts[1] if parts[1] in ORDER else "__init__"), line


def test_every_module_has_its_place() -> None:
    """A new module is given a place in ORDER before it is used."""
    assert {name for name, _, _ in modules()} <= set(ORDER)


def test_imports_go_upwards() -> None:
    """Each module imports only what stands above it."""
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {target}"
        for name, path, tree in modules()
        for target, line in ours(tree)
        if name != target and ORDER.index(target) > ORDER.index(name)
    ]
    assert not wrong


def test_errors_and_items_stand_by_themselves() -> None:
    """What users catch and hold needs nothing of ours; what they are told needs no more than that."""
    wrong = [
        name for name, _, tree in modules() if name in VALUES and {target for target, _ in ours(tree)} - VALUES[name]
    ]
    assert not wrong


def test_only_the_network_modules_know_redis() -> None:
    """redis-py and hiredis are imported where connections are, and nowhere else in the library."""
    importers = {
        name
        for name, _, tree in modules()
        if {target.split(".")[0] for target, _ in imports(tree)} & {"redis", "hiredis"}
    }
    assert importers <= NETWORK


@pytest.mark.parametrize("name", CORE)
def test_the_core_does_no_io(name: str) -> None:
    """No network, no threads, no event loop, and it never sleeps."""
    trees = [tree for module, _, tree in modules() if module == name]
    assert trees
    for tree in trees:
        assert not {target.split(".")[0] for target, _ in imports(tree) if not target.startswith("urllib.parse")} & IO
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not {"time.sleep", "threading.Thread", "open", "print"} & set(calls)


def test_the_sync_client_needs_no_asyncio_of_ours() -> None:
    """The two drivers don't know each other, nor do the two shells."""
    pairs = [{"_driver", "_driver_async"}, {"_links", "_links_async"}, {"queue", "queue_async"}]
    for name, path, tree in modules():
        for pair in pairs:
            if name in pair:
                assert not (pair - {name}) & {target for target, _ in ours(tree)}, path


def test_keys_are_spelled_in_one_place() -> None:
    """Nobody but _keys.py writes a key's name."""
    spelling = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for name, path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and name != "_keys"
        if (node.value if isinstance(node.value, str) else node.value.decode("latin-1")).startswith("reliq:{")
    ]
    assert not spelling


def test_the_package_only_gives_names() -> None:
    """__init__.py imports public names, and gives each under its own name."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    given = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    public = [alias for alias in given if not (alias.asname or "").startswith("_")]
    assert all(alias.asname == alias.name for alias in public)


def test_every_exception_can_be_caught_by_name() -> None:
    """Each exception of errors.py is public, derives from ReliqError, and stands in the tree of its docstring."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in kinds:
        assert issubclass(kind, errors.ReliqError)
        assert getattr(reliq, kind.__name__) is kind
        assert kind.__name__ in (errors.__doc__ or "")
