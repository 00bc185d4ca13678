"""Every error of the mesh, split by what the caller should do about it.

    MeshError
      ConfigError           your configuration, credential file or token is wrong: the message names it and the way out
      WriteRefused          this write did not happen
        NotPermitted        outside this agent's rights
        TypeConflict, ValueTooLarge, UnsupportedValue, InvalidPath, NotEnoughRights
        Backpressure        too much is waiting: try again later
        ClockWrong          this machine's clock is off
        NodeClosed          the node has ended; also raised by what waits for something
      KeyMissing            an encrypted value whose key is not here
      Malformed, Refused    bytes from outside: counted and dropped inside the node, raised only by functions named *_untrusted
      StorageError          the disk: StorageFull, StorageCorrupt
      IdentityInUse         two living agents with one identity
      NotCommitted          this critical write was definitely not done; the message says why
      OutcomeUnknown        whether this critical write was done is not known; the same key may be tried again
      LeaseLost             a lease could not be renewed in time, so the block that relied on it was cancelled

Those that the CRDTs raise are the same classes here and there, so one `except mesh.WriteRefused` catches every refusal.
"""

from __future__ import annotations

from crdt.errors import CrdtError as MeshError
from crdt.errors import Malformed, NotEnoughRights, TypeConflict, UnsupportedValue, ValueTooLarge, WriteRefused
from crdt.errors import PathError as InvalidPath
from crdt.ids import Dot

__all__ = [
    "Backpressure",
    "ClockWrong",
    "ConfigError",
    "IdentityInUse",
    "InvalidPath",
    "KeyMissing",
    "LeaseLost",
    "Malformed",
    "MeshError",
    "NodeClosed",
    "NotCommitted",
    "NotEnoughRights",
    "NotPermitted",
    "OutcomeUnknown",
    "QuotaExceeded",
    "Refused",
    "StorageCorrupt",
    "StorageError",
    "StorageFull",
    "TypeConflict",
    "UnsupportedValue",
    "ValueTooLarge",
    "WriteRefused",
]


class ConfigError(MeshError):
    """A configuration, key file or token that cannot be used as it is."""


class NotPermitted(WriteRefused):
    """The credential does not allow writing at this path."""


class Backpressure(WriteRefused):
    """Too much is waiting to be sent or stored. Nothing was written; try again later."""


class QuotaExceeded(WriteRefused):
    """This agent holds as much as the charter lets one author hold. Removing is still possible, and makes room."""


class ClockWrong(WriteRefused):
    """This machine's clock is more than an hour off the median of its peers."""


class NodeClosed(WriteRefused):
    """The node's block has ended, or the node died: nothing can be written or waited for any more."""


class KeyMissing(MeshError):
    """The value is encrypted, and this agent is none of its readers (or not yet). Everything else about it is known."""

    def __init__(self, message: str, epoch: bytes, dot: Dot) -> None:
        super().__init__(message)
        self.epoch = epoch
        """Of the key that opens it."""
        self.dot = dot
        """Of the write."""


class Refused(MeshError):
    """Well-formed bytes from outside that are not entitled to what they ask. State is as it was."""


class StorageError(MeshError):
    """The disk said no."""


class StorageFull(StorageError):
    """No room. What was not confirmed by flush() is not on this disk; it may be with the peers."""


class StorageCorrupt(StorageError):
    """A file is damaged. The message names it and the way out."""


class IdentityInUse(MeshError):
    """Another living agent uses this identity. One of the two must enrol anew."""


class NotCommitted(MeshError):
    """Definite: this critical write is not done and will not be."""

    def __init__(self, message: str, *, reason: str = "", current: object = None, index: int = 0) -> None:
        super().__init__(message)
        self.reason = reason or message
        """`mismatch`; `rule: NAME` or the rule's name when a rule refused it; else as the message."""
        self.current = current
        """With `mismatch`: what was there."""
        self.index = index
        """Of the block that decided; 0 when it never came into the log."""


class OutcomeUnknown(MeshError):
    """Whether this critical write was done is not known here."""

    def __init__(self, message: str, idempotency_key: str = "") -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
        """Calling again with it is safe for 24 h: the write is done once, and its outcome is told."""


class LeaseLost(MeshError):
    """The lease ran out before it was renewed: the block that relied on it was cancelled, and somebody else may hold it."""
