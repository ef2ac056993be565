"""Random histories of a queue that keeps its promises pass, and every way to spoil one is found."""

from __future__ import annotations

import random

import pytest
from history.mutations import MUTATIONS, Mutation
from history.simulation import simulate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reliq.testing import check_history

SEARCH = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SEARCH
@given(seed=st.integers(0, 10**6), items=st.integers(1, 150))
def test_a_correct_queue_passes(seed: int, items: int) -> None:
    """Whatever is killed, paused, lost on the way or late: where the server is right, nothing is reported."""
    assert check_history(simulate(seed, items)).violations == ()


def test_the_simulation_has_everything_in_it() -> None:
    """Else the test above would show little: leases end, stale calls are refused, items are retried and given back."""
    figures = check_history(simulate(seed=1, items=2000)).figures
    assert min(figures.again_expired, figures.again_failed, figures.again_released, figures.stale_refused) > 10
    assert min(figures.duplicates, figures.ambiguous, figures.faults) > 5
    assert figures.enqueued > 1500


@pytest.mark.parametrize("mutate", [pytest.param(mutate, id=mutate.__name__) for mutate in MUTATIONS])
def test_a_spoilt_history_is_found(mutate: Mutation) -> None:
    """One wrong thing in a long good history is found, wherever it is."""
    tried = 0
    for seed in range(12):
        spoilt = mutate(simulate(seed, 250), random.Random(seed))
        if spoilt is not None:
            tried += 1
            assert set(MUTATIONS[mutate]) <= set(check_history(spoilt).broken()), f"seed {seed}"
    assert tried >= 6
