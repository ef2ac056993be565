"""How long the property tests search: HYPOTHESIS_PROFILE=default, ci, or thorough (minutes)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_COMMON = settings(
    deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
_PROFILES = {
    "default": settings(_COMMON, max_examples=60, stateful_step_count=40),
    "ci": settings(_COMMON, max_examples=250, stateful_step_count=50),
    "thorough": settings(_COMMON, max_examples=2000, stateful_step_count=80),
}
PROFILE = _PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]
