"""`from proxy import FaultProxy`: the fault proxy that reliq gives to its users too."""

from reliq.testing.proxy import Fault, FaultProxy, Rule

__all__ = ["Fault", "FaultProxy", "Rule"]
