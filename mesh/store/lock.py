"""One process per data directory.

`flock` on a file inside it: the kernel gives it back however the process ends, also after kill -9, so there is no stale lock
to remove by hand. (POSIX record locks would not do: closing any descriptor of the file lets go of them, and a process does
not exclude itself.)
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from mesh.errors import ConfigError

log: Final = logging.getLogger("mesh.store.lock")

LOCK_NAME: Final = "lock"
_PID_WIDTH: Final = 20


class DirectoryLock:
    """Held from construction until `release`. ConfigError names the process that holds it, and what to do."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, _PID_WIDTH, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise ConfigError(f"{directory} cannot be locked ({error.strerror}): use a local file system") from error
            raise ConfigError(_in_use(directory, holder)) from None
        try:
            os.pwrite(self._fd, str(os.getpid()).ljust(_PID_WIDTH).encode(), 0)  # same width: needs no room on a full disk
        except OSError as error:
            log.warning("%s: the lock is held, but cannot name this process: %s", directory, error)

    def release(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _in_use(directory: Path, holder: str) -> str:
    if holder == str(os.getpid()):
        return f"{directory} is already open in this process: close that node first, or give this one a data_dir of its own"
    who = f"process {holder}" if holder.isdecimal() else "another process"
    return f"{directory} is in use by {who}: stop it, or give this node a data_dir of its own"
