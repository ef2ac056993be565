"""A queue that records in a history what is asked of it and what it answers. recording_async.py has its twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from reliq import _ids
from reliq._arguments import Items, listed
from reliq._policy import MAX_BATCH
from reliq.item import Claimed, Enqueued, Failed, Item, Moved, New
from reliq.queue import Queue
from reliq.testing.history import History, dead_of


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

    def finish(self, items: Items, *arguments: Any, **options: Any) -> Any:
        """Records `Queue.finish`."""
        done = listed(items)
        with self._history.settling("finish", done):
            return self._recorded.finish(done, *arguments, **options)

    def finish_each(self, results: Iterable[tuple[Item, Any]], *arguments: Any, **options: Any) -> Any:
        """Records `Queue.finish_each`."""
        pairs = list(results)
        with self._history.settling("finish", [item for item, _ in pairs]) as answer:
            lost = verb_of(self._recorded, "finish_each")(pairs, *arguments, **options)
            answer["lost"] = list(lost)
        return lost

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

    def fail_each(self, failures: Iterable[tuple[Item, Any]], *arguments: Any, **options: Any) -> Any:
        """Records `Queue.fail_each`."""
        pairs = list(failures)
        with self._history.settling("fail", [item for item, _ in pairs]):
            return verb_of(self._recorded, "fail_each")(pairs, *arguments, **options)

    def renew(self, items: Items, lease: Any = 30.0, *arguments: Any, **options: Any) -> Any:
        """Records `Queue.renew`."""
        held = listed(items)
        with self._history.settling("renew", held, lease=seconds_of(lease)):
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
        with self._history.deciding("purge", []):
            return self._recorded.purge(*states)


def verb_of(queue: object, name: str) -> Any:
    """The method of a queue by its name, also where not every version has it."""
    return getattr(queue, name)  # one that not every version of the queue has


def seconds_of(lease: Any) -> float:
    """A lease in seconds."""
    return float(lease.totalseconds_of() if hasattr(lease, "total_seconds") else lease)


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
