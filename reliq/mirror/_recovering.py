"""Bringing a queue back: rebuilding it where Redis lost it, and putting right what differs. A part of `Mirror`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reliq import _policy
from reliq._policy import Seconds
from reliq.queue import Queue

if TYPE_CHECKING:
    from reliq.mirror.rebuild import RebuildPlan, RebuildProgress, Verification
    from reliq.mirror.reconcile import Reconciliation
    from reliq.mirror.store import Store


class Recovering:
    """Rebuilding and reconciling."""

    store: Store

    def plan_rebuild(self, queue: Queue, *, anew: bool = False) -> RebuildPlan:
        """Looks at both sides of a queue, and says what a rebuild of it would do. Changes nothing.

        Where a rebuild of this queue was broken off, the plan is to go on with it.

        Args:
            queue: a client of the queue on the server that is to be filled.
            anew: begin again, instead of going on with what was broken off.

        Raises:
            NotMirrored: Postgres knows no such queue.
            MirrorUnavailable, Unavailable: one of the two sides does not answer.
        """
        from reliq.mirror import rebuild  # noqa: PLC0415  psycopg is an extra

        return rebuild.plan_rebuild(self.store, queue, anew=anew)

    def apply(
        self,
        plan: RebuildPlan,
        *,
        rate: float | None = None,
        on_progress: Callable[[RebuildProgress], object] | None = None,
        in_progress: str = "requeue",
        wipe: bool = False,
        wait: Seconds = 0.0,
    ) -> RebuildProgress:
        """Does what a plan says. The queue stays closed to its clients until `verify` has opened it.

        It can be killed at any point and run again, with this plan or a new one: the end is the same. From its first
        step on clients that know an earlier epoch are refused, and so is a follower of the old one.

        Args:
            plan: as `plan_rebuild` made it.
            rate: items a second at most, above 0; None for as fast as it goes.
            on_progress: is told about once a second, and at the end.
            in_progress: what becomes of items that somebody held. `requeue`: they are queued at their old place, with
                one delivery more. `hold`: orphaned, for people who look first. A rebuild that goes on keeps its choice.
            wipe: remove what Redis has of the queue.
            wait: seconds to wait while another rebuild of this queue runs.

        Raises:
            MirrorConflict: another rebuild runs; or things have changed since the plan; or Redis is not empty.
            MirrorUnavailable, Unavailable: one of the two sides went away. Run it again.
        """
        from reliq.mirror import rebuild  # noqa: PLC0415  as above

        _policy.one_of(in_progress, "in_progress", ("requeue", "hold"))
        if rate is not None:
            _policy.number(rate, "rate", low=0.001, high=1e9)
        patience = _policy.seconds(wait, "wait", low=0, high=86400)
        return rebuild.apply(
            self.store, plan, rate=rate, on_progress=on_progress, in_progress=in_progress, wipe=wipe, wait=patience
        )

    def verify(self, queue: Queue, *, wait: Seconds = 0.0) -> Verification:
        """Compares a rebuilt queue with Postgres, item by item and both ways, and opens it where they agree.

        A queue that is open is only compared, as `reconcile` does it. Killed, it can be run again.

        Args:
            queue: as for `plan_rebuild`.
            wait: seconds to wait while a rebuild of this queue runs.

        Raises:
            MirrorConflict: this queue was not rebuilt here, or is being rebuilt.
            MirrorUnavailable, Unavailable: one of the two sides does not answer.
        """
        from reliq.mirror import rebuild  # noqa: PLC0415  as above

        return rebuild.verify(self.store, queue, wait=_policy.seconds(wait, "wait", low=0, high=86400))

    def reconcile(self, queue: Queue, *, repair: bool = False, patience: Seconds = 30.0) -> Reconciliation:
        """Goes through both sides of a live queue, a thousand items at a time, and names what differs.

        With `repair` an item that Redis has lost and that has not ended is put back at its place, a row that Postgres
        lacks is written, and an item whose end a failover took back is ended again where nobody holds it. Everything
        else is for people to decide. Where the server had an older copy, clients are let in when this is done.

        Args:
            queue: a client of the live queue.
            repair: put right what can be put right safely.
            patience: seconds to wait for the follower to read what happened before something is called a difference.

        Raises:
            MirrorConflict: the two sides have different epochs, or the queue is closed for a rebuild.
            MirrorUnavailable, Unavailable: one of the two sides does not answer.
        """
        from reliq.mirror import reconcile  # noqa: PLC0415  as above

        return reconcile.reconcile(
            self.store, queue, repair=repair, patience=_policy.seconds(patience, "patience", low=0, high=3600)
        )

    def recoveries(self, queue: str, *, limit: int = 10) -> list[dict[str, Any]]:
        """What was done to bring a queue back, the last first: started, kind, state, done, total, epoch, by, report.

        Args:
            queue: its name.
            limit: how many at most.

        Raises:
            MirrorUnavailable, MirrorSchema.
        """
        from reliq.mirror._recoveries import Recoveries  # noqa: PLC0415  as above

        return Recoveries(self.store, queue).history(_policy.whole(limit, "limit", low=1, high=100_000))

    def on_failover(self, queue: Queue) -> Callable[[str, str], None]:
        """A function for `on_failover=` of a queue: puts back what the new master did not get and the mirror has.

        Args:
            queue: another client of the same queue.
        """
        from reliq.mirror import reconcile  # noqa: PLC0415  as above

        return reconcile.on_failover(self.store, queue)
