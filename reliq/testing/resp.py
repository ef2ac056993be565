"""Splits a stream of RESP2 or RESP3 into whole requests or replies."""

from __future__ import annotations

_LENGTHS = b"$=!"  # a number of bytes follows the line
_COUNTS = b"*~>"  # a number of elements follows
_MAPS = b"%|"  # a number of pairs; after those of an attribute comes what it is about


class Scanner:
    """Takes bytes as they come in and gives out frames, each the exact bytes of one request or reply."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0  # of the frame that is being read
        self._at = 0  # what is before this has been looked at
        self._missing = 1  # elements until the frame is whole

    def feed(self, data: bytes) -> list[bytes]:
        """Adds `data` and returns the frames that are whole now."""
        self._buffer += data
        frames = []
        while self._element():
            if self._missing == 0:
                frames.append(bytes(self._buffer[self._start : self._at]))
                self._start, self._missing = self._at, 1
        del self._buffer[: self._start]
        self._at -= self._start
        self._start = 0
        return frames

    def _element(self) -> bool:
        """Passes over one element; False where it has not arrived yet."""
        if (end := self._buffer.find(b"\r\n", self._at)) < 0:
            return False
        kind, number = self._buffer[self._at], bytes(self._buffer[self._at + 1 : end])
        after = end + 2
        if kind in _LENGTHS and number != b"-1":
            after += int(number) + 2
            if after > len(self._buffer):
                return False
        elif kind in _COUNTS:
            self._missing += max(int(number), 0)
        elif kind in _MAPS:
            self._missing += 2 * int(number) + (kind == ord("|"))
        self._at = after
        self._missing -= 1
        return True
