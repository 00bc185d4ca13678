"""Ctrl-C for what tests start."""

from __future__ import annotations

import signal


def heed() -> None:
    """A shell starts what runs in the background of a script with SIGINT ignored, and children inherit that: tests that interrupt
    theirs would wait for ever. With a handler here, each child begins with the default."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
