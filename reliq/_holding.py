"""What those do who hold items: claim, renew, and settle them. A part of `Queue`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from reliq import _arguments, _commands, _plans, _policy
from reliq._arguments import DEFAULT_LEASE, NOTHING, Items
from reliq._coalesce import Coalescer
from reliq._driver import Driver
from reliq._durability import Durability
from reliq._gathering import Levels
from reliq._policy import MAX_BATCH, Seconds
from reliq._session import Session
from reliq.errors import LeaseLost
from reliq.item import Claimed, Item, New, Progress
from reliq.outcomes import Failed, Recovered


class Holding:
    """Claiming items and settling them."""

    name: str
    _session: Session
    _driver: Driver
    _finishes: Levels[Coalescer[Item, list[str]]]
    _durability: Durability

    def claim(self, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0) -> Claimed:
        """Takes the oldest items under a lease. End each with exactly one of `finish`, `release` and `fail`.

        Before that it returns up to 100 items whose lease has ended and up to 100 due items to the queue. Items whose
        payload can't be decoded are set aside among the dead and listed in the result's `unreadable`.

        Args:
            count: items at most, 1 to 1,000.
            lease: seconds until others may have them, 0.001 to 86,400. The claim is one lease: `renew` extends it.
            wait: seconds to wait where the queue is empty, 0 to 86,400. Waiting does not poll.

        Returns:
            The items, oldest first; empty where there is none in time.

        If the caller dies after this call, its items are claimed by others when the lease has ended. A claim that was
        broken off (an error, a cancelled task) loses nothing: the next one on this object brings the same items.
        """
        return self._driver.run(_plans.claim(self._session, _arguments.claim_request(count, lease, wait)))

    def finish_and_claim(
        self, items: Items, count: int = 1, *, lease: Seconds = DEFAULT_LEASE, wait: Seconds = 0.0
    ) -> Claimed:
        """Finishes items and takes the next ones, in one round trip: a worker's loop.

        Args:
            items: what is done; as for `finish`.
            count: items at most, as for `claim`.
            lease: seconds, as for `claim`.
            wait: seconds, as for `claim`.

        Returns:
            The next items. Its `lost` has the ids that could not be finished because their lease was lost.
        """
        held = _arguments.listed(items)
        request = _arguments.claim_request(count, lease, wait)
        claimed = self._driver.run(_plans.finish_and_claim(self._session, held, request))
        _arguments.mark_settled(held)
        return claimed

    def finish(
        self,
        items: Items,
        *,
        result: Any = NOTHING,
        then: New | Sequence[New] = (),
        durability: str | None = None,
    ) -> None:
        """Ends items for good: their work is done.

        Counts also after the lease has ended, as long as nobody recovered the item; from then on it is refused. Doing
        it again is a quiet yes.

        Args:
            items: what is done. With `result` or `then` it is one item.
            result: kept with the finished id for its retention, for `get` and `wait`: what msgpack can carry, 64 KiB.
            then: up to 1,000 items to enqueue in the same step: they are there exactly if this call finished the item.
                The queue's limits do not hold for them.
            durability: what it is confirmed by, `memory`, `replicated:...` or `fsynced`; None for the queue's own.

        Raises:
            DurabilityNotReached: they are finished, and not confirmed as far as was asked for.
            LeaseLost: for some of them; the others are finished.
            PayloadError: result or payload can't be stored; nothing was sent.
        """
        held = _arguments.listed(items)
        level = _arguments.finishing(durability, self._durability)
        if result is NOTHING and not then and len(held) == 1:
            lost = self._finishes[level].call(held[0])
            lost = self._driver.run(_plans.finish_unseen(held, lost, level)) if lost else lost
        elif result is NOTHING and not then:
            lost = self._driver.run(_plans.finish(held, level))
        else:
            ending = [(_arguments.only(held), _arguments.packed_result(result))]
            following = _arguments.following(self._session, then)
            lost = self._driver.run(_plans.finish_with(ending, following, level))
        _arguments.mark_settled(held)
        self._raise_lost(lost)

    def finish_each(self, results: Iterable[tuple[Item, Any]]) -> None:
        """Ends items, each with a result of its own, 1,000 in a round trip.

        Args:
            results: pairs of item and result, as for `finish`.

        Raises:
            LeaseLost: for some of them; the others are finished.
            PayloadError: a result can't be stored; nothing was sent.
        """
        endings = [(item, _arguments.packed_result(result)) for item, result in results]
        lost = self._driver.run(_plans.finish_with(endings))
        _arguments.mark_settled(item for item, _ in endings)
        self._raise_lost(lost)

    def checkpoint(
        self, item: Item, state: Any = None, *, done: float | None = None, total: float | None = None, note: str = ""
    ) -> None:
        """Stores how far the work on an item has come, and renews its lease by its own length.

        The next delivery of the item, if there is one, has it as `item.progress`. Nothing is kept when it has ended.

        Args:
            item: an item that is held.
            state: what the next delivery needs to go on: what msgpack can carry, 64 KiB at most.
            done: how much of the work is done.
            total: how much there is.
            note: 200 characters at most, for people who look.

        Raises:
            LeaseLost: somebody else may have it: stop. Nothing was stored.
            PayloadError: the state can't be stored.
        """
        progress, asked_at = Progress(state, done, total, note), time.monotonic()
        packed = _arguments.packed_progress(progress)
        kept = self._driver.call(_commands.checkpoint(_arguments.only([item]), packed, item.lease))
        item.lost = item.lost or not kept
        self._raise_lost([] if kept else [item.id])
        item.progress = progress
        _arguments.extend([item], (), asked_at + item.lease)

    def release(self, items: Items) -> None:
        """Gives items back that were not started: to the head of the queue, in their order, without blame.

        Raises:
            LeaseLost: for some of them; the others are released.
        """
        held = _arguments.listed(items)
        lost = self._driver.run(_plans.in_batches(_commands.release, held))
        _arguments.mark_settled(held)
        self._raise_lost(lost)

    def renew(self, items: Items, lease: Seconds = DEFAULT_LEASE) -> None:
        """Extends the leases of items to `lease` seconds from now, never back.

        The items of one claim share one lease: renewing one of them renews what the claim still holds.

        Raises:
            LeaseLost: for some of them; stop working on these. The others are renewed.
        """
        length, asked_at, held = _arguments.lease_length(lease), time.monotonic(), _arguments.listed(items)
        lost = self._driver.run(_plans.in_batches(lambda part: _commands.renew(part, length), held))
        _arguments.extend(held, lost, asked_at + length)
        self._raise_lost(lost)

    def fail(
        self,
        items: Items,
        error: BaseException | str = "",
        *,
        retry_after: Seconds | None = None,
        dead: bool = False,
        discard: bool = False,
    ) -> list[Failed]:
        """Says that an attempt at items has failed. They are tried again, or are dead when `max_attempts` is reached.

        Args:
            items: what could not be done.
            error: kept with the item, at most 4 KiB of its text.
            retry_after: seconds until the next attempt; None leaves it to the queue's `retry` and backoff settings.
            dead: no further attempt.
            discard: no further attempt, and it is not kept among the dead; the error stays with its id.

        Returns:
            What became of each item, in order.

        Raises:
            LeaseLost: for some of them; the others are dealt with.
        """
        after = (
            None if retry_after is None else _policy.seconds(retry_after, "retry_after", low=0, high=_policy.MAX_DELAY)
        )
        text = _arguments.error_text(error)
        held = _arguments.listed(items)
        return self._fail([_commands.Failure(item, text, after, dead, discard) for item in held])

    def fail_each(self, errors: Iterable[tuple[Item, Any]]) -> list[Failed]:
        """As `fail`, each item with an error of its own: an exception, text, `Retry` or `Discard`.

        Args:
            errors: pairs of item and error.

        Returns:
            What became of each item, in order.

        Raises:
            LeaseLost: for some of them; the others are dealt with.
        """
        return self._fail([_arguments.failure(item, error) for item, error in errors])

    def _fail(self, failures: Sequence[_commands.Failure]) -> list[Failed]:
        outcomes = self._driver.run(_plans.fail(failures))
        _arguments.mark_settled(failure.item for failure in failures)
        self._raise_lost([item.id for item, outcome in outcomes if outcome is None])
        return [outcome for _, outcome in outcomes if outcome is not None]

    def recover(self, limit: int = MAX_BATCH) -> Recovered:
        """Takes back items whose lease has ended, as every claim does for up to 100 of them. Safe anywhere, any time.

        Where they go is the queue's `expiry` setting; an item whose failures and lost leases reach `max_deliveries` is
        dead.

        Args:
            limit: items at most, 1 to 1,000,000.
        """
        return self._driver.run(_plans.recover(_policy.whole(limit, "limit", low=1, high=1_000_000)))

    def _raise_lost(self, lost: Sequence[str]) -> None:
        if lost:
            raise LeaseLost(self.name, lost)
