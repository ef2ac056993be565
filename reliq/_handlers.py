"""What the end of a handler means for its item: finish, fail, release, with which words. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reliq.answers import Answer, Discard, Release, Retry
from reliq.errors import InvalidArgument
from reliq.item import Item

log = logging.getLogger("reliq.worker")

Policy = Answer | type[Answer] | Callable[[Item, BaseException], object]
Policies = Mapping[type[BaseException], Policy]

LOST = object()  # the end of an item that no handler began, because its lease was lost
UNSTARTED = object()  # the same, because the worker stops


class Raised:
    """The end of a handler that raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


Outcome = tuple[Item, object]  # and what its handler returned, or a Raised, LOST or UNSTARTED


@dataclass(slots=True)
class Pending:
    """What is to be done about the items of one queue that handlers are through with."""

    finished: list[Item] = field(default_factory=list)
    results: list[tuple[Item, object]] = field(default_factory=list)
    failed: list[tuple[Item, BaseException]] = field(default_factory=list)  # an error, or an answer
    back: list[Item] = field(default_factory=list)
    lost: list[Item] = field(default_factory=list)
    settled: list[Item] = field(default_factory=list)  # by their handlers

    def add(self, item: Item, value: object, policies: Policies, results: bool) -> BaseException | None:
        """Files the end of a handler. Returns what has to end the worker, such as a KeyboardInterrupt."""
        if item.lost or value is LOST:
            self.lost.append(item)
        elif value is UNSTARTED:
            self.back.append(item)
        elif item.settled:
            self.settled.append(item)
        elif isinstance(value, Raised):
            return self._add_error(item, value.error, policies)
        elif (answer := as_answer(value)) is not None:
            self._add_answer(item, answer)
        elif results and value is not None:
            self.results.append((item, value))
        else:
            self.finished.append(item)
        return None

    def _add_error(self, item: Item, error: BaseException, policies: Policies) -> BaseException | None:
        answer = as_answer(error)
        self._add_answer(item, chosen(item, error, policies) if answer is None else answer)
        return None if isinstance(error, Exception) else error

    def _add_answer(self, item: Item, answer: BaseException) -> None:
        if isinstance(answer, Release):
            self.back.append(item)
        else:
            self.failed.append((item, answer))


def kind_of(answer: BaseException) -> str:
    """The word under which a report counts an item that did not finish."""
    return "discarded" if isinstance(answer, Discard) else "retried" if isinstance(answer, Retry) else "failed"


def as_answer(value: object) -> Answer | None:
    """The answer that a value is, None where it is none. A class stands for its plain answer."""
    if isinstance(value, Answer):
        return value
    return value() if isinstance(value, type) and issubclass(value, Answer) else None


def chosen(item: Item, error: BaseException, policies: Policies) -> BaseException:
    """What the policies say about an error, by the most specific type that they name; else the error itself."""
    policy = next((policies[kind] for kind in type(error).__mro__ if kind in policies), None)
    answer = as_answer(policy)
    if answer is None and policy is not None:
        answer = _asked(policy, item, error)
    log.log(
        logging.WARNING if answer is None else logging.INFO,
        "queue %s: item %s failed at attempt %d: %s",
        item.queue,
        item.id,
        item.attempt,
        answer.__class__.__name__ if answer else type(error).__name__,
        exc_info=error,
        extra=about(item),
    )
    return answer or error


def _asked(policy: Any, item: Item, error: BaseException) -> Answer | None:
    try:
        said = policy(item, error)
    except Exception:  # the policy is the user's: where it fails, the handler's own error counts
        log.exception("on_error failed for item %s", item.id, extra=about(item))
        return None
    answer = as_answer(said)
    if answer is None and said is not None:
        log.error("on_error gave %r, which is no answer, for item %s", said, item.id, extra=about(item))
    return answer


def about(item: Item) -> dict[str, Any]:
    """What a log record says about an item besides its text."""
    return {
        "reliq_queue": item.queue,
        "reliq_item": item.id,
        "reliq_attempt": item.attempt,
        "reliq_delivery": item.delivery,
    }


def checked_policies(policies: Policies | None) -> dict[type[BaseException], Policy]:
    """The policies, if they are any.

    Raises:
        InvalidArgument: a key is no exception type, or a value neither an answer nor something to call.
    """
    for kind, policy in (policies or {}).items():
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):  # type: ignore[redundant-expr]  # untyped users
            raise InvalidArgument(f"on_error goes by types of exceptions, not {kind!r}")
        if not (isinstance(policy, Answer) or callable(policy)):
            raise InvalidArgument(f"on_error[{kind.__name__}] is an answer, or called for one; not {policy!r}")
    return dict(policies or {})
