"""Where all items of a queue are when everybody has stopped, through its public methods."""

from __future__ import annotations

from dataclasses import asdict

from reliq.queue import Queue
from reliq.states import ItemState
from reliq.testing.history import History


def final_state(queue: Queue, history: History) -> dict[ItemState, list[str]]:
    """Writes into a history where all items of a queue are, and its counts.

    Call it when nobody uses the queue: items that move while it looks may be seen twice or not at all. Finished items
    are seen as long as the queue remembers them (`finished_age`, `finished_count`). A cancelled item is seen when its
    place in the queue is gone; that it was cancelled is known where a `Recording` did it.

    Args:
        queue: the queue, or a `Recording` of it.
        history: where it is written down.

    Returns:
        The ids of the items in each state.

    Raises:
        As `Queue.scan` and `Queue.counts`; then nothing was written.
    """
    states = {state: [info.id for info in queue.scan(state, page=1000)] for state in ItemState}
    counts = {name: int(value) for name, value in asdict(queue.counts()).items() if isinstance(value, int)}
    history.final(states, counts)
    return states
