"""How long the property tests search: HYPOTHESIS_PROFILE=default, ci, or thorough (minutes)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("reliq-default", max_examples=60, stateful_step_count=30, **_COMMON)
settings.register_profile("reliq-ci", max_examples=100, stateful_step_count=40, print_blob=True, **_COMMON)
settings.register_profile("reliq-thorough", max_examples=2000, stateful_step_count=80, print_blob=True, **_COMMON)

PROFILE = settings.get_profile("reliq-" + os.environ.get("HYPOTHESIS_PROFILE", "default"))
