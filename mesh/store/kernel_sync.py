"""One file synced by the kernel (Linux: io_submit of IOCB_CMD_FDSYNC), in the place of `mesh.store.syncing.Syncing`.

A thread of this process would need Python's lock before and after each sync, and two processors have to wake up for it: a tenth
of what one client waits for a critical write. Here a worker of the kernel syncs, an eventfd tells the event loop, and who waits
for it waits in the kernel. It is the sync that fdatasync(2) makes; only who asks for it differs. Python has no function for these
four calls, so they are made by number; where they are not known, not there or not allowed, the thread does the work.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio

from mesh.store.syncing import Syncing, tell

log: Final = logging.getLogger("mesh.store.kernel_sync")

_CALLS: Final = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4), "riscv64": (0, 1, 2, 4)}
"""io_setup, io_destroy, io_submit, io_getevents, by machine."""
_IOCB: Final = struct.Struct("<QIiHhIQQqQII")
"""struct iocb of linux/aio_abi.h, where the lowest byte comes first."""
_IOCB_CMD_FDSYNC: Final = 3
_IOCB_FLAG_RESFD: Final = 1
_EVENT: Final = struct.Struct("<QQqq")
"""struct io_event: what of it, whose, result, and a second one."""


class KernelSyncing:
    """As `Syncing`. Whoever does not wait for the end of a sync is told of it at once."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        """Raises OSError where the kernel does not offer this."""
        numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" and sys.byteorder == "little" else None
        if numbers is None or struct.calcsize("P") != 8:
            raise OSError("not known on this machine")
        self._setup, self._destroy, self._submit, self._getevents = map(ctypes.c_long, numbers)
        library = ctypes.CDLL(None, use_errno=True)
        self._call: Any = library.syscall
        self._call.restype = ctypes.c_long
        self.is_under_way = False
        self._on_end = on_end
        self._context = ctypes.c_ulong(0)
        self._block, self._event = ctypes.create_string_buffer(_IOCB.size), ctypes.create_string_buffer(_EVENT.size)
        self._blocks = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self._patience = (ctypes.c_long * 2)()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._checked(self._call(self._setup, ctypes.c_uint(1), ctypes.byref(self._context)))
        except OSError:
            os.close(self._eventfd)
            raise
        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()
        trio.lowlevel.spawn_system_task(self._listen, name="mesh quorum sync")

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    async def _listen(self) -> None:
        try:
            with self._scope:
                while True:
                    await trio.lowlevel.wait_readable(self._eventfd)
                    self._hush()
                    if self.is_under_way:
                        self._on_end()
        finally:
            os.close(self._eventfd)

    def _hush(self) -> None:
        with suppress(BlockingIOError):  # told already, or not yet: then once too often
            os.eventfd_read(self._eventfd)

    def begin(self, file: int, *, lazily: bool = False) -> None:
        """As `Syncing.begin`; `lazily` makes no difference. Raises OSError where the kernel does not do this to that file."""
        assert not self.is_under_way
        row = (0, 0, 0, _IOCB_CMD_FDSYNC, 0, file, 0, 0, 0, 0, _IOCB_FLAG_RESFD, self._eventfd)
        _IOCB.pack_into(self._block, 0, *row)
        self._checked(self._call(self._submit, self._context, ctypes.c_long(1), self._blocks))
        self.is_under_way = True

    def hurry(self) -> None:
        """It is told at once anyway."""

    def has_ended(self, seconds: float = 0.0) -> bool:
        """As `Syncing.has_ended`."""
        if not self._wait(seconds):
            return False
        self._hush()
        result = _EVENT.unpack(self._event)[2]
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return True

    def _wait(self, seconds: float) -> bool:
        self._patience[0], self._patience[1] = int(seconds), int(seconds % 1 * 1e9)
        least = ctypes.c_long(1 if seconds else 0)
        found = self._call(self._getevents, self._context, least, ctypes.c_long(1), self._event, self._patience)
        if found == 1:  # less: not yet, or a signal came first
            self.is_under_way = False
        return bool(found == 1)

    def close(self) -> None:
        """In any thread; waits for the one under way, if there is any."""
        tell(self._token, self._scope.cancel)
        self._call(self._destroy, self._context)


def best_syncing(on_end: Callable[[], None]) -> Syncing | KernelSyncing:
    """By the kernel where it does that."""
    try:
        return KernelSyncing(on_end)
    except OSError as error:
        log.debug("a thread syncs the quorum's log: %s", error)
        return Syncing(on_end)
