"""Queue and AsyncQueue are written twice. This holds the two together."""

from __future__ import annotations

import inspect

import pytest

from reliq import AsyncQueue, Queue

PUBLIC = sorted(name for name in dir(Queue) if not name.startswith("_"))
EITHER = {"consume"}  # by its arguments, what it returns is awaited or gone through
CONTEXT = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
SPECIAL = ["__init__", "__repr__", *CONTEXT]


def signature(kind: type, name: str) -> list[tuple[str, object, object, str]]:
    """Names, kinds, defaults and annotations of the parameters, and last the annotation of the result."""
    found = inspect.signature(getattr(kind, name))
    parameters = [(p.name, p.kind, p.default, str(p.annotation)) for p in found.parameters.values()]
    result = str(found.return_annotation).replace("AsyncIterator", "Iterator")
    return [*parameters, ("return", None, None, result)]


def test_the_same_names() -> None:
    """What one of them has, the other has."""
    assert sorted(name for name in dir(AsyncQueue) if not name.startswith("_")) == PUBLIC
    assert len(PUBLIC) > 20


@pytest.mark.parametrize("name", [*PUBLIC, *SPECIAL])
def test_the_same_signatures(name: str) -> None:
    """The same parameters, defaults and results; only an iterator is an async one."""
    assert signature(Queue, name) == signature(AsyncQueue, CONTEXT.get(name, name))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in EITHER])
def test_one_can_be_awaited(name: str) -> None:
    """What blocks in Queue is awaited in AsyncQueue, and what yields, yields."""
    ours, theirs = getattr(Queue, name), getattr(AsyncQueue, name)
    assert inspect.isgeneratorfunction(ours) == inspect.isasyncgenfunction(theirs)
    assert inspect.iscoroutinefunction(theirs) != inspect.isasyncgenfunction(theirs)
    assert not inspect.iscoroutinefunction(ours)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_documentation(name: str) -> None:
    """Queue's methods are documented, and their twins point there."""
    ours, theirs = getattr(Queue, name).__doc__, getattr(AsyncQueue, name).__doc__
    assert ours
    assert ours.splitlines()[0].endswith(".")
    assert theirs == f"Asyncio twin of `Queue.{name}`."


@pytest.mark.parametrize("name", PUBLIC)
def test_documented_arguments_exist(name: str) -> None:
    """What `Args:` names is an argument, under its present name."""
    lines = (inspect.getdoc(getattr(Queue, name)) or "").splitlines()
    parameters = set(inspect.signature(getattr(Queue, name)).parameters)
    if "Args:" in lines:
        section = lines[lines.index("Args:") + 1 :]
        section = section[: next((n for n, line in enumerate(section) if not line.startswith("    ")), len(section))]
        named = {word for line in section if line[4] != " " for word in line.split(":")[0].replace(",", " ").split()}
        assert named <= parameters


def test_the_classes_are_documented() -> None:
    """Both classes say what they are."""
    assert "Args:" in (Queue.__doc__ or "")
    assert "`Queue`" in (AsyncQueue.__doc__ or "")
