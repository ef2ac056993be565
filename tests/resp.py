"""`from resp import Scanner`: what the fault proxy reads requests and replies with."""

from reliq.testing.resp import Scanner

__all__ = ["Scanner"]
