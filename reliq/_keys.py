"""The only place that spells a key name. lua/README.md has the table of what each key holds."""

from __future__ import annotations

from functools import lru_cache

from reliq.errors import InvalidArgument

REGISTRY = b"reliq:queues"  # set of queue names, for listings only: nothing depends on it
MAX_NAME = 200


class Keys:
    """Key names of one queue. All carry the hash tag `{name}`, so that a cluster keeps them on one node."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._prefix = f"reliq:{{{queue}}}:".encode()

    def __getitem__(self, name: str) -> bytes:
        return self._prefix + name.encode()

    def of(self, names: tuple[str, ...]) -> tuple[bytes, ...]:
        """The keys with these names, in this order."""
        return tuple(self[name] for name in names)


@lru_cache(maxsize=1024)
def check_name(name: object) -> str:
    """Returns the queue name if it may be one.

    Raises:
        InvalidArgument: not a string, empty, over 200 characters, not printable, or with a brace or a space.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgument("a queue name is 1 to 200 printable characters; this one is empty")
    if len(name) > MAX_NAME:
        raise InvalidArgument(f"a queue name is 1 to {MAX_NAME} printable characters; this one has {len(name)}")
    bad = next((c for c in name if c in "{}" or c.isspace() or not c.isprintable()), None)
    if bad is not None:
        raise InvalidArgument(f"a queue name has no spaces, braces or control characters; {name!r} has {bad!r}")
    return name
