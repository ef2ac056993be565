"""A queue that records in a history what is asked of it and what it answers. recording_async.py has its twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from reliq import _ids
from reliq._arguments import Items, lease_length, listed
from reliq._driver import Driver
from reliq._plans import Plan
from reliq._policy import MAX_BATCH
from reliq.errors import InvalidArgument
from reliq.item import Claimed, Item, New
from reliq.outcomes import Batch, Enqueued, Failed, Moved
from reliq.queue import Queue
from reliq.testing._noting import Noting
from reliq.testing.history import History, dead_of

T = TypeVar("T")


class _Noting(Driver):
    """A driver that notes what a worker claims past the methods of its queue."""

    def __init__(self, driver: Driver, history: History) -> None:
        vars(self).update(vars(driver))
        self._noting = Noting(history)

    def seen(self, plan: Plan[T]) -> Plan[T]:
        return self._noting.seen(plan)

    def once(self, plan: Plan[T]) -> T:
        return super().once(self.seen(plan))


class Recording(Queue):
    """A queue like another, which writes into a history what is enqueued, claimed, renewed and settled through it.

    It shares connections and settings with the queue that it is made of, and can stand wherever that one can. Ids are
    made here where the caller gives none, so that they are on record before they are sent.

    Args:
        queue: what does the work.
        history: where it is written down.
    """

    def __init__(self, queue: Queue, history: History) -> None:
        vars(self).update(vars(queue))
        self._recorded, self._history = queue, history
        self._driver = _Noting(queue._driver, history)
        self._session.owner = self  # so that an item's checkpoint comes here

    def __reduce__(self) -> tuple[Any, ...]:
        """Refused: a history belongs to one process."""
        raise InvalidArgument("a recording can't go to another process: make one there, with a history of its own")

    def enqueue(self, payload: Any, *, id: str | None = None, **options: Any) -> Enqueued:
        """Records `Queue.enqueue`."""
        (entry,) = with_ids([New(payload, id, **options_of_new(options))])
        with self._history.enqueueing([entry]) as done:
            done.append(self._recorded.enqueue(payload, id=entry.id, **options))
        return Enqueued(done[0].id, done[0].created or id is None)

    def enqueue_many(self, payloads: Iterable[Any], *, batch: int = MAX_BATCH, **options: Any) -> list[Enqueued]:
        """Records `Queue.enqueue_many`: batch by batch."""
        results: list[Enqueued] = []
        for entries in batches_of(payloads, batch):
            with self._history.enqueueing(entries, before=results) as done:
                done.extend(self._recorded.enqueue_many(entries, batch=batch, **options))
            results += done
        return results

    def batch(self, payloads: Iterable[Any], *, then: New, **options: Any) -> Batch:
        """Records `Queue.batch`: its members, and that the item which follows may come at some time."""
        entries, following = with_ids(list(payloads)), with_ids([then])
        with self._history.enqueueing([*entries, *following], later=following) as done:
            made = self._recorded.batch(entries, then=following[0], **options)
            done.extend(made.members)
        return made

    def claim(self, *arguments: Any, **options: Any) -> Claimed:
        """Records `Queue.claim`."""
        claimed = self._recorded.claim(*arguments, **options)
        self._history.claimed(claimed)
        return claimed

    def finish_and_claim(self, items: Items, *arguments: Any, **options: Any) -> Claimed:
        """Records `Queue.finish_and_claim`."""
        done = listed(items)
        with self._history.settling("finish", done) as answer:
            claimed = self._recorded.finish_and_claim(done, *arguments, **options)
            answer["lost"] = list(claimed.lost)
        self._history.claimed(claimed)
        return claimed

    def finish(self, items: Items, *arguments: Any, then: New | Sequence[New] = (), **options: Any) -> None:
        """Records `Queue.finish`, and what it enqueues."""
        done, following = listed(items), with_ids([then] if isinstance(then, New) else list(then))
        with self._history.enqueueing(following) as sent, self._history.settling("finish", done):
            self._recorded.finish(done, *arguments, then=following, **options)
            sent.extend(Enqueued(str(entry.id), True) for entry in following)

    def finish_each(self, results: Iterable[tuple[Item, Any]]) -> None:
        """Records `Queue.finish_each`."""
        pairs = list(results)
        with self._history.settling("finish", [item for item, _ in pairs]):
            self._recorded.finish_each(pairs)

    def checkpoint(self, item: Item, *arguments: Any, **options: Any) -> None:
        """Records `Queue.checkpoint`: that it renews the lease."""
        with self._history.settling("renew", [item], lease=item.lease):
            self._recorded.checkpoint(item, *arguments, **options)

    def release(self, items: Items, *arguments: Any, **options: Any) -> Any:
        """Records `Queue.release`."""
        back = listed(items)
        with self._history.settling("release", back):
            return self._recorded.release(back, *arguments, **options)

    def fail(self, items: Items, *arguments: Any, **options: Any) -> list[Failed]:
        """Records `Queue.fail`."""
        failed = listed(items)
        with self._history.settling("fail", failed) as answer:
            outcomes = self._recorded.fail(failed, *arguments, **options)
            answer["dead"] = dead_of(outcomes)
        return outcomes

    def fail_each(self, errors: Iterable[tuple[Item, Any]]) -> list[Failed]:
        """Records `Queue.fail_each`."""
        pairs = list(errors)
        with self._history.settling("fail", [item for item, _ in pairs]) as answer:
            outcomes = self._recorded.fail_each(pairs)
            answer["dead"] = dead_of(outcomes)
        return outcomes

    def renew(self, items: Items, lease: Any = 30.0, *arguments: Any, **options: Any) -> Any:
        """Records `Queue.renew`."""
        held = listed(items)
        with self._history.settling("renew", held, lease=lease_length(lease)):
            return self._recorded.renew(held, lease, *arguments, **options)

    def cancel(self, *ids: str) -> Moved:
        """Records `Queue.cancel`."""
        with self._history.deciding("cancel", ids) as moved:
            result = self._recorded.cancel(*ids)
            moved.extend(result.ids)
        return result

    def discard(self, *ids: str) -> Moved:
        """Records `Queue.discard`."""
        with self._history.deciding("discard", ids) as moved:
            result = self._recorded.discard(*ids)
            moved.extend(result.ids)
        return result

    def resolve(self, id: Any, decision: str, *arguments: Any, **options: Any) -> Moved:
        """Records `Queue.resolve`."""
        ids = [id] if isinstance(id, str) else list(id)
        with self._history.deciding("resolve", ids, decision=decision) as moved:
            result = self._recorded.resolve(ids, decision, *arguments, **options)
            moved.extend(result.ids)
        return result

    def purge(self, *states: Any) -> int:
        """Records `Queue.purge`."""
        with self._history.deciding("purge", [], states=[str(state) for state in states]):
            return self._recorded.purge(*states)


def options_of_new(options: dict[str, Any]) -> dict[str, Any]:
    """Those options of an enqueue that `New` has as well."""
    known = {field.name for field in dataclasses.fields(New)}
    return {name: value for name, value in options.items() if name in known}


def with_ids(payloads: list[Any]) -> list[New]:
    """Entries that all have an id."""
    entries = [entry if isinstance(entry, New) else New(entry) for entry in payloads]
    fresh = map(_ids.unpack, _ids.new_keys(len(entries)))
    return [entry if entry.id is not None else dataclasses.replace(entry, id=next(fresh)) for entry in entries]


def batches_of(payloads: Iterable[Any], size: int) -> Iterator[list[New]]:
    """Entries that all have an id, so many at a time, taken lazily."""
    source = iter(payloads)
    while entries := list(islice(source, size)):
        yield with_ids(entries)
