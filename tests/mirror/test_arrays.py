"""Arrays that are put together here, and not by psycopg."""

from __future__ import annotations

import pytest

from reliq.mirror import Mirror
from reliq.mirror._arrays import bytea_array


@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"one"], [b"\0" * 16, b"", b"of another length \xff"], [b"many"] * 1000],
    ids=["none", "empty", "one", "various", "many"],
)
def test_postgres_reads_what_was_put_together(mirror: Mirror, values: list[bytes]) -> None:
    """Values, their number and their order arrive as they were."""
    with mirror.store.lend() as connection:
        found = connection.execute(
            b"SELECT value FROM unnest(%b::bytea[]) WITH ORDINALITY AS sent (value, place) ORDER BY place",
            (bytea_array(values),),
        ).fetchall()
    assert [value for (value,) in found] == values
