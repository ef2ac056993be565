"""reliq: a reliable FIFO queue in Redis or Valkey."""

import logging as _logging
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from reliq._codec import Codec as Codec
from reliq._consuming import ConsumeReport as ConsumeReport
from reliq._topology import Sentinel as Sentinel
from reliq.answers import Discard as Discard
from reliq.answers import Release as Release
from reliq.answers import Retry as Retry
from reliq.consume import Consumption as Consumption
from reliq.consume_async import AsyncConsumption as AsyncConsumption
from reliq.errors import AccessDenied as AccessDenied
from reliq.errors import CodecError as CodecError
from reliq.errors import CorruptState as CorruptState
from reliq.errors import DrainTimeout as DrainTimeout
from reliq.errors import DurabilityNotReached as DurabilityNotReached
from reliq.errors import InvalidArgument as InvalidArgument
from reliq.errors import InvalidURL as InvalidURL
from reliq.errors import ItemNotFound as ItemNotFound
from reliq.errors import LeaseLost as LeaseLost
from reliq.errors import MemoryFull as MemoryFull
from reliq.errors import MirrorConflict as MirrorConflict
from reliq.errors import MirrorError as MirrorError
from reliq.errors import MirrorSchema as MirrorSchema
from reliq.errors import MirrorUnavailable as MirrorUnavailable
from reliq.errors import NotMirrored as NotMirrored
from reliq.errors import PayloadError as PayloadError
from reliq.errors import QueueError as QueueError
from reliq.errors import QueueFull as QueueFull
from reliq.errors import QueuePaused as QueuePaused
from reliq.errors import Rebuilding as Rebuilding
from reliq.errors import ReliqError as ReliqError
from reliq.errors import ScriptFailed as ScriptFailed
from reliq.errors import ServerError as ServerError
from reliq.errors import ServerNotFound as ServerNotFound
from reliq.errors import ServerTooOld as ServerTooOld
from reliq.errors import StaleEpoch as StaleEpoch
from reliq.errors import StateLost as StateLost
from reliq.errors import TimeLimit as TimeLimit
from reliq.errors import Unavailable as Unavailable
from reliq.errors import UnknownLayout as UnknownLayout
from reliq.errors import UnsafeServer as UnsafeServer
from reliq.errors import WaitTimeout as WaitTimeout
from reliq.info import BatchProgress as BatchProgress
from reliq.info import Counts as Counts
from reliq.info import Cron as Cron
from reliq.info import ItemInfo as ItemInfo
from reliq.info import Settings as Settings
from reliq.info import WorkerInfo as WorkerInfo
from reliq.item import Claimed as Claimed
from reliq.item import Item as Item
from reliq.item import New as New
from reliq.item import Progress as Progress
from reliq.mirror import Mirror as Mirror
from reliq.mirror import MirrorStatus as MirrorStatus
from reliq.outcomes import Batch as Batch
from reliq.outcomes import Enqueued as Enqueued
from reliq.outcomes import Failed as Failed
from reliq.outcomes import Moved as Moved
from reliq.outcomes import Recovered as Recovered
from reliq.queue import Queue as Queue
from reliq.queue import queues as queues
from reliq.queue_async import AsyncQueue as AsyncQueue
from reliq.states import ItemState as ItemState
from reliq.worker import Worker as Worker
from reliq.worker_async import AsyncWorker as AsyncWorker

_logging.getLogger("reliq").addHandler(_logging.NullHandler())  # what is shown is the application's decision

try:
    __version__ = _version("reliq-queue")
except _PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"
