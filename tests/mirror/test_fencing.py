"""An old Redis that comes back with its data while the rebuilt one runs: two real servers, one queue, one mirror."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from mirror.queues import client_of, mirrored
from servers import start_server

from reliq import New, Queue, StaleEpoch
from reliq.embedded import Server
from reliq.errors import LeaseLost, ReliqError
from reliq.item import Item
from reliq.mirror import Mirror


class Two:
    """The old server with its queue, cut off and rebuilt on the new one; then the old one is there again."""

    def __init__(self, mirror: Mirror, old: Server, new: Server) -> None:
        self.mirror = mirror
        self.before = Queue("emails", old.url)
        self.before.enqueue_many([New(n, id=str(n)) for n in range(6)])
        self.held: list[Item] = self.before.claim(2, lease=600)
        mirrored(mirror, self.before)
        self.after = Queue("emails", new.url)
        mirror.apply(mirror.plan_rebuild(self.after), wait=30)  # of the test before, whose session is just ending
        assert mirror.verify(self.after)


@pytest.fixture
def two(mirror: Mirror) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(mirror, stack.enter_context(start_server()), stack.enter_context(start_server()))


CALLS: dict[str, Callable[[Queue], object]] = {
    "enqueue": lambda q: q.enqueue("new"),
    "claim": lambda q: q.claim(),
    "counts": lambda q: q.counts(),
    "recover": lambda q: q.recover(),
    "requeue": lambda q: q.requeue("1"),
    "purge": lambda q: q.purge(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_client_that_knows_the_new_epoch_changes_nothing_on_the_old_server(
    two: Two, call: Callable[[Queue], object]
) -> None:
    """It learned the epoch from the rebuilt queue; whatever it asks of the old one is refused."""
    counts = two.before.counts()
    lost = client_of(two.before)
    two.after.counts()
    lost._session.epoch = two.after._session.epoch
    with pytest.raises(StaleEpoch):
        call(lost)
    assert two.before.counts() == counts


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_process_that_has_just_started_is_refused_by_its_mirror(two: Two, call: Callable[[Queue], object]) -> None:
    """It knows nothing yet, and its URL leads to the old server: Postgres tells it the epoch."""
    counts = two.before.counts()
    with pytest.raises(StaleEpoch):
        call(client_of(two.before, mirror=two.mirror))
    assert two.before.counts() == counts


def test_receipts_from_the_new_server_are_worth_nothing_on_the_old_one(two: Two) -> None:
    """A finish that goes astray is refused there and still counts here."""
    (item,) = two.after.claim()
    astray = client_of(two.before)
    astray._session.epoch = two.after._session.epoch
    for call in (astray.finish, astray.release, astray.fail):
        with pytest.raises(StaleEpoch):
            call(item)
    two.after.finish(item)
    assert two.after.counts().finished == 1


def test_a_worker_from_before_can_not_end_what_it_held(two: Two) -> None:
    """Led to the rebuilt queue it is told so, whether it accepts the new epoch or not; the item is delivered anew."""
    worker = client_of(two.after)
    worker._session.epoch = two.before._session.epoch
    with pytest.raises(StaleEpoch):
        worker.finish(two.held)
    worker.adopt()
    with pytest.raises(LeaseLost):
        worker.finish(two.held)
    assert [(item.id, item.delivery) for item in two.after.claim(2)] == [("0", 2), ("1", 2)]


def test_a_worker_with_the_mirror_stops_when_it_connects_again(two: Two) -> None:
    """One that still knows the old epoch reconnects to the old server, which would take its word."""
    worker = client_of(two.before, mirror=two.mirror)
    worker._session.epoch = two.before._session.epoch
    with pytest.raises(StaleEpoch):
        worker.finish(two.held)
    assert two.before.counts().in_progress == 2


def test_a_follower_of_the_old_server_writes_nothing_more(two: Two) -> None:
    """What happens there is not mirrored: the rows stay those of the rebuilt queue."""
    client_of(two.before).enqueue("stray", id="stray")
    with pytest.raises(ReliqError):
        two.mirror.follow(client_of(two.before), once=True)
    two.mirror.follow(client_of(two.after), once=True)
    report = two.mirror.reconcile(two.after)
    assert report.ok, report.differences


def test_the_epoch_grows_with_each_rebuild(two: Two) -> None:
    """The old server, filled again by force, gets an epoch beyond both."""
    mirrored(two.mirror, two.after)
    epoch = int(two.after._session.epoch)
    plan = two.mirror.plan_rebuild(two.before)
    assert plan.epoch_after == epoch + 1
    two.mirror.apply(plan, wipe=True)
    assert two.mirror.verify(two.before)
    two.after.close()
    with pytest.raises(StaleEpoch):
        client_of(two.after, mirror=two.mirror).claim()
