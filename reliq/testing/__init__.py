"""Tools for testing what is built on reliq."""

from reliq.testing._events import Event as Event
from reliq.testing._events import HistoryDamaged as HistoryDamaged
from reliq.testing._events import read as read
from reliq.testing._report import Figures as Figures
from reliq.testing._report import Report as Report
from reliq.testing._report import Violation as Violation
from reliq.testing._verdict import RULES as RULES
from reliq.testing._verdict import check_history as check_history
from reliq.testing.control import Control as Control
from reliq.testing.faults import FaultRecord as FaultRecord
from reliq.testing.faults import Faults as Faults
from reliq.testing.final import final_state as final_state
from reliq.testing.history import History as History
from reliq.testing.node import Node as Node
from reliq.testing.proxy import FaultProxy as FaultProxy
from reliq.testing.recording import Recording as Recording
from reliq.testing.recording_async import AsyncRecording as AsyncRecording
from reliq.testing.topology import Topology as Topology
