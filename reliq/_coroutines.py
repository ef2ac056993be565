"""Handlers that are, or return, something to await."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any

from reliq._worker_options import Handler
from reliq.errors import TimeLimit


def is_coroutine_function(handler: Handler) -> bool:
    """Whether calling it gives something to await: a function, a partial of one, or an object whose call does."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def is_begun(value: object) -> bool:
    """Whether what a plain function returned is work that nobody has done yet, and that can be awaited.

    Raises:
        TypeError: it is a generator: nothing of the function has run, and nobody would.
    """
    if isinstance(value, Generator | AsyncGenerator) and not inspect.isawaitable(value):
        raise TypeError("the handler is a generator function: nothing of it has run")
    return inspect.isawaitable(value)


async def within(limit: float | None, awaitable: Awaitable[object]) -> object:
    """Awaits what a handler gave.

    Raises:
        TimeLimit: it was cancelled after `limit` seconds.
    """
    if limit is None:
        return await awaitable
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await awaitable
    except TimeoutError as error:
        if scope.expired():
            raise TimeLimit(f"the handler ran longer than {limit:g} s") from error
        raise


def cancel_if_running(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
