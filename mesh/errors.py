"""Every error of the mesh, split by what the caller should do about it.

    MeshError
      ConfigError           your configuration, credential file or path is wrong: the message names it and the way out
      WriteRefused          this write did not happen: NotPermitted, TypeConflict, ValueTooLarge, UnsupportedValue, Backpressure, ClockWrong
      Malformed, Refused    bytes from outside: counted and dropped inside the node, raised only by the functions named *_untrusted
      StorageError          the disk: StorageFull, StorageCorrupt
      IdentityInUse         two living agents with one identity
"""

from __future__ import annotations


class MeshError(Exception):
    """Anything this library raises on purpose."""


class ConfigError(MeshError):
    """A configuration, key file, token or path that cannot be used as it is."""


class InvalidPath(ConfigError):
    """Not a path: 1 to 16 segments of 1 to 256 bytes, separated by `/`."""


class WriteRefused(MeshError):
    """The write did not happen, here or anywhere."""


class NotPermitted(WriteRefused):
    """The credential does not allow writing at this path."""


class TypeConflict(WriteRefused):
    """The path already holds a state of another type."""


class ValueTooLarge(WriteRefused):
    """The value is above the charter's limit."""


class UnsupportedValue(WriteRefused):
    """The value is outside the data model: None, bool, 64-bit int, float, str, bytes, list, map with str or bytes keys."""


class Backpressure(WriteRefused):
    """Too much is waiting to be sent or stored. Nothing was written; try again later."""


class ClockWrong(WriteRefused):
    """This machine's clock is more than an hour off the median of its peers."""


class Malformed(MeshError):
    """Bytes from outside that do not follow the format. State is as it was."""


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
